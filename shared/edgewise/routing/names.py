"""What a requested model name stands for.

    provider/id      one model at one provider         id               the same model wherever it is configured
    alias            the operator's own name           auto             any model, by the house's strategy
    auto:cheap       a preset (cheap, balanced, best)  name:strategy    any of these with a strategy by name

A suffix counts only when the name without it is known and the whole is not: model ids may hold colons themselves
(`llama3:8b`, Bedrock's `…-v1:0`). The target's name goes into cache keys, so it carries everything that changes what
may answer: the alias's candidates, and the routing options by digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from edgewise.errors import ModelNotFound, NotAllowed
from edgewise.routing.catalog import Catalog
from edgewise.words import Model, Target

PRESETS: dict[str, str] = {
    "cheap": "cheap",
    "balanced": "balanced",
    "best": "best",
    "floor": "cheap",
}
STRATEGIES = (
    "simple",
    "confidence",
    "cascading",
    "cost_aware",
    "smart_cascade",
    "hybrid",
    "learned",
    "fallback",
    "weighted",
    "lowest_latency",
    "least_busy",
    "sticky",
)
SPELLINGS = {name: name for name in STRATEGIES} | {
    "nitro": "lowest_latency",
    "latency": "lowest_latency",
    "cascade": "cascading",
    "cost": "cost_aware",
    "smart": "smart_cascade",
}
KEYLESS = frozenset({"dry_run", "session", "hedge", "shadow", "max_attempts"})
"""Routing options that can't change which answer is right, so they stay out of the cache key."""

ALIASES_DEEP = 4
"""So many names deep an alias may stand for others; what goes round in a circle stands for nothing."""


@dataclass(frozen=True, slots=True)
class Alias:
    """An operator's name for models: `models` in order of preference, and `routing` laid under the request's own."""

    models: tuple[str, ...]
    routing: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any) -> Alias:
        """From settings: a name, a list of names, or an object with `models` and any routing options."""
        if isinstance(value, str):
            return cls((value,))
        if isinstance(value, Mapping):
            rest = {key: option for key, option in value.items() if key != "models"}
            return cls(tuple(value.get("models") or ("auto",)), rest)
        return cls(tuple(value))


@dataclass(frozen=True, slots=True)
class Asked:
    """A name taken apart: what it stands for, and the options that it brings."""

    base: str
    models: tuple[Model, ...]
    many: bool
    """True: any of `models` will do (auto, an alias of several); False: the client named one model."""
    routing: Mapping[str, Any] = field(default_factory=dict)
    market: bool = False
    """True: the whole offer (`auto`), to be picked from; False: a list that somebody wrote, in its order."""


def strategy_named(word: str) -> str | None:
    """The strategy's own name for any spelling of it (`cost-aware`, `nitro`); None when it is none."""
    return SPELLINGS.get(word.strip().lower().replace("-", "_"))


def read(name: str, catalog: Catalog, aliases: Mapping[str, Alias]) -> Asked:
    """Take `name` apart. Raises `ModelNotFound`, which names what is missing."""
    found = _known(name, catalog, aliases, depth=0)
    if found is not None:
        return found
    base, colon, word = name.rpartition(":")
    if colon:
        brought: dict[str, Any] = {}
        if (preset := PRESETS.get(word.lower())) is not None:
            brought["prefer"] = preset
        if (strategy := strategy_named(word)) is not None:
            brought["strategy"] = strategy
        inner = _known(base, catalog, aliases, depth=0) if brought else None
        if inner is not None:
            return replace(inner, routing={**inner.routing, **brought})
    provider, slash, _ = name.partition("/")
    hint = f" No provider {provider!r} is configured." if slash and provider not in catalog.providers else ""
    raise ModelNotFound(f"The model {name!r} does not exist or is not available here.{hint}", param="model")


def _known(name: str, catalog: Catalog, aliases: Mapping[str, Alias], depth: int) -> Asked | None:
    if name in aliases and depth < ALIASES_DEEP:
        alias = aliases[name]
        models: list[Model] = []
        routing: dict[str, Any] = {}
        many = len(alias.models) > 1
        market = False
        for inner_name in alias.models:
            inner = _known(inner_name, catalog, aliases, depth + 1)
            if inner is not None:
                models += [model for model in inner.models if model not in models]
                routing |= inner.routing
                many, market = many or inner.many, market or inner.market
        return Asked(name, tuple(models), many, {**routing, **alias.routing}, market) if models else None
    if name in ("auto", "edgewise/auto"):
        return Asked("auto", catalog.offered(), many=True, market=True)
    found = catalog.find(name)
    return Asked(name, found, many=False) if found else None


def target_of(asked: Asked, allowed: Sequence[str], routing: Mapping[str, Any], *, answers_from: str) -> Target:
    """The target of `asked` for a caller who may use `allowed` (patterns with `*`).

    answers_from  what besides the models changes the answer (the catalogue's version, for `auto`)
    Raises `NotAllowed` when none of the models is allowed.
    """
    models = asked.models
    if not _allowed(asked.base, allowed, exact=asked.many):
        models = tuple(model for model in models if allows(model, allowed))
    if not models:
        raise NotAllowed(f"This key may not use the model {asked.base!r}.", param="model", code="model_not_allowed")
    kept = {key: value for key, value in routing.items() if key not in KEYLESS}
    one = not asked.many and not kept
    if one:
        name = models[0].name if len({m.id for m in models}) == 1 and len(models) == 1 else asked.base
    else:
        digest = hashlib.sha256(
            json.dumps([answers_from, [m.name for m in models], kept], sort_keys=True, default=str).encode()
        ).hexdigest()
        name = f"{asked.base}@{digest[:12]}"
    strategy = routing.get("strategy")
    return Target(name=name, models=models, strategy=str(strategy) if strategy else None)


def allows(model: Model, allowed: Sequence[str]) -> bool:
    """Whether the patterns `allowed` name this model, with or without its provider."""
    return _allowed(model.name, allowed) or _allowed(model.id, allowed)


def _allowed(name: str, allowed: Sequence[str], *, exact: bool = False) -> bool:
    """`exact`: a key that may use `openai/*` may ask for `auto`, but only what is allowed answers it."""
    if "*" in allowed:
        return True
    if exact:
        return name in allowed
    return any(fnmatchcase(name, pattern) for pattern in allowed)
