"""The models that can be asked for: a dated list, compiled at build time, with the operator's overrides laid over it.

`catalog.json` is data (see `compile.py`); this module reads it when first built, never at import. Only models of
providers that are configured are known here. An id that the list has never heard of is still passed on to a provider
that was named (`openai/gpt-next`, `vllm/any`), with an unknown price: unknown is None, never zero.

It doesn't know which model suits a request (`strategies/`), nor what a name with a suffix means (`names.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgewise.price import price_of
from edgewise.settings import Upstream
from edgewise.words import Model

DATED = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8})$")
PROFILES = re.compile(r"^(us-gov|us|eu|apac|jp|au|ca|in)\.")
OPEN_CAPABILITIES = frozenset(
    {"streaming", "tools", "parallel_tools", "vision", "json_schema", "json_object", "logprobs", "n", "seed"}
)
"""What is assumed of an unlisted model: nothing is withheld from a model that the client named itself."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Models by name, in the order of `providers`; build with `Catalog.load`."""

    as_of: str
    providers: tuple[str, ...]
    models: Mapping[str, Model]
    spellings: Mapping[str, tuple[str, ...]]
    """Another spelling of an id to model names."""
    prefixes: tuple[tuple[str, str], ...]
    """(prefix of an id, model name), longest first."""
    open_providers: frozenset[str]
    """Providers that take any id."""
    closed: frozenset[str] = frozenset()
    """Models that `auto` never picks: superseded, or switched off by the operator."""
    version: str = field(default="")
    _families: dict[str, list[Model]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Models by bare id, worked out when somebody first asks for a twin."""
    _offer: tuple[Model, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        order = {name: number for number, name in enumerate(self.providers)}
        found = [m for m in self.models.values() if m.name not in self.closed] or list(self.models.values())
        # Once, because every request for `auto` asks; frozen only means that nobody changes it after.
        object.__setattr__(self, "_offer", tuple(sorted(found, key=lambda model: order[model.provider])))

    @classmethod
    def load(
        cls,
        providers: Sequence[str],
        *,
        upstreams: Sequence[Upstream] = (),
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        region: str | None = None,
        path: Path | None = None,
    ) -> Catalog:
        """The catalogue of what is configured.

        providers  names in order of preference: 'openai', 'anthropic', 'bedrock', 'local', 'scripted' or an upstream's
        overrides  model name to fields of a catalogue row (`price`, `tier`, `quality`, `auto`, …); a new name adds one
        region     AWS region: its geography prefixes Bedrock ids that exist only as inference profiles
        """
        listed = json.loads((path or Path(__file__).parent / "catalog.json").read_text())
        rows = _rows(listed["models"], providers, upstreams, overrides or {}, region)
        models: dict[str, Model] = {}
        spellings: dict[str, list[str]] = {}
        prefixes: list[tuple[str, str]] = []
        closed: set[str] = set()
        for row in rows:
            model = _model(row)
            models[model.name] = model
            for spelling in {model.id, *row.get("also", ())}:
                spellings.setdefault(spelling, []).append(model.name)
            prefixes += [(prefix, model.name) for prefix in (*row.get("starts", ()), *row.get("also", ()))]
            if row.get("legacy") or row.get("auto") is False:
                closed.add(model.name)
        names = tuple(dict.fromkeys([*providers, *(u.name for u in upstreams)]))
        digest = hashlib.sha256(json.dumps([listed["as_of"], names, rows], sort_keys=True).encode()).hexdigest()
        return cls(
            as_of=listed["as_of"],
            providers=names,
            models=models,
            spellings={key: tuple(value) for key, value in spellings.items()},
            prefixes=tuple(sorted(prefixes, key=lambda pair: -len(pair[0]))),
            open_providers=frozenset(names) - {u.name for u in upstreams if u.models},
            closed=frozenset(closed),
            version=digest[:8],
        )

    def find(self, asked: str) -> tuple[Model, ...]:
        """Every model that `asked` names: one for `provider/id`, one a provider for a bare id, none when unknown."""
        provider, _, rest = asked.partition("/")
        if rest and provider in self.providers:
            return self._at(provider, rest)
        names = self.spellings.get(asked) or self.spellings.get(DATED.sub("", asked)) or ()
        if not names:
            names = next(((name,) for prefix, name in self.prefixes if asked.startswith(prefix)), ())
        found = [self._spelt(self.models[name], asked) for name in names]
        return tuple(sorted(found, key=lambda model: self.providers.index(model.provider)))

    def _at(self, provider: str, asked: str) -> tuple[Model, ...]:
        """The model `asked` of one provider; the client's own spelling of the id is what is sent."""
        if (exact := self.models.get(f"{provider}/{asked}")) is not None:
            return (exact,)
        plain = PROFILES.sub("", asked)
        for spelling in (asked, DATED.sub("", asked), plain):
            for name in self.spellings.get(spelling, ()):
                if self.models[name].provider == provider:
                    return (self._spelt(self.models[name], asked),)
        for prefix, name in self.prefixes:
            if self.models[name].provider == provider and plain.startswith(prefix):
                return (self._spelt(self.models[name], asked),)
        if provider in self.open_providers:
            return (_unlisted(provider, asked),)
        return ()

    @staticmethod
    def _spelt(model: Model, asked: str) -> Model:
        """A dated or profiled spelling is a model id that the provider knows: it is kept as it was asked."""
        keep = DATED.search(asked) or PROFILES.match(asked)
        return replace(model, id=asked) if keep and asked != model.id else model

    def offered(self) -> tuple[Model, ...]:
        """What `auto` may pick from, in the providers' order; a house with closed models only offers those."""
        return self._offer

    def twins(self, model: Model) -> tuple[Model, ...]:
        """The same model at other configured providers, by its bare id."""
        if not self._families:
            for known in self.models.values():
                self._families.setdefault(_bare(known.id), []).append(known)
        return tuple(m for m in self._families.get(_bare(model.id), ()) if m.provider != model.provider)


@lru_cache(maxsize=1024)
def _unlisted(provider: str, asked: str) -> Model:
    """A model that only its provider knows."""
    return Model(provider=provider, id=asked, capabilities=OPEN_CAPABILITIES)


@lru_cache(maxsize=4096)
def _bare(model_id: str) -> str:
    """`us.anthropic.claude-haiku-4-5-20251001-v1:0` and `claude-haiku-4-5` are one model."""
    bare = PROFILES.sub("", model_id).removeprefix("global.").removeprefix("anthropic.").removeprefix("openai.")
    bare = re.sub(r"-v\d+(:\d+)?$", "", bare)
    return DATED.sub("", bare).removesuffix("-latest")


def _rows(
    listed: Iterable[dict[str, Any]],
    providers: Sequence[str],
    upstreams: Sequence[Upstream],
    overrides: Mapping[str, Mapping[str, Any]],
    region: str | None,
) -> list[dict[str, Any]]:
    """The rows of configured providers with overrides laid over; an override of an unlisted model is a row itself."""
    rows = {f"{row['provider']}/{row['id']}": _profiled(row, region) for row in listed if row["provider"] in providers}
    for upstream in upstreams:
        for model_id in upstream.models:
            row = {"provider": upstream.name, "id": model_id, "capabilities": sorted(OPEN_CAPABILITIES)}
            rows.setdefault(f"{upstream.name}/{model_id}", row)
    known = {*providers, *(u.name for u in upstreams)}
    for name, changes in overrides.items():
        provider, _, model_id = name.partition("/")
        if provider in known and model_id:
            base = rows.get(name, {"provider": provider, "id": model_id, "capabilities": sorted(OPEN_CAPABILITIES)})
            rows[name] = {**base, **changes}
    return list(rows.values())


def _profiled(row: dict[str, Any], region: str | None) -> dict[str, Any]:
    """Bedrock's newer models are called through an inference profile of the region's geography."""
    if row.get("profile") != "regional" or not region:
        return row
    geography = {"us": "us", "eu": "eu", "ap": "apac"}.get(region.split("-")[0], "us")
    return {**row, "id": f"{geography}.{row['id']}", "also": [*row.get("also", ()), row["id"]]}


def _model(row: Mapping[str, Any]) -> Model:
    price = row.get("price")
    return Model(
        provider=row["provider"],
        id=row["id"],
        tier=row.get("tier", "medium"),
        context_tokens=row.get("context"),
        output_tokens=row.get("output"),
        capabilities=frozenset(row.get("capabilities", ("streaming",))),
        price=price_of(price) if price else None,
        latency_ms=row.get("latency_ms"),
        quality=row.get("quality"),
        region=row.get("region"),
        owned_by=row.get("owned_by", row["provider"]),
    )
