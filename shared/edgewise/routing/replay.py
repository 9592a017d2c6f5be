"""Replays logged decisions through another strategy: what would it have chosen, at what expected cost and quality?

A log line's features are enough to rebuild what the strategy saw (candidates by name, token counts, difficulty, how
answers compare, the learned gain, what money was short by), because a strategy knows nothing else; only fitted plans
are not in a line. Prices are today's catalogue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewise.errors import InvalidRequest
from edgewise.routing.ask import Ask, Demand
from edgewise.routing.catalog import Catalog
from edgewise.routing.options import parse
from edgewise.routing.shortlist import Shortlist
from edgewise.routing.strategies import BY_NAME
from edgewise.words import Choice

FEATURES = ("edgewise.features", "features")


@dataclass(slots=True)
class Replayed:
    """Sums over a log. Costs in US dollars, qualities as means from 0 to 1; `other` counts changed routes."""

    decisions: int = 0
    other: int = 0
    skipped: int = 0
    quality: float = 0.0
    cost_usd: float = 0.0
    logged_cost_usd: float = 0.0
    models: dict[str, int] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        count = max(1, self.decisions)
        return {
            "decisions": self.decisions,
            "skipped": self.skipped,
            "changed_share": round(self.other / count, 4),
            "expected_quality": round(self.quality / count, 4),
            "expected_usd_per_1k": round(self.cost_usd / count * 1000, 4),
            "logged_usd_per_1k": round(self.logged_cost_usd / count * 1000, 4),
            "models": dict(sorted(self.models.items(), key=lambda item: -item[1])),
        }


def ask_of(features: Mapping[str, Any], catalog: Catalog, shortlist: Shortlist, **options: Any) -> Ask | None:
    """The ask behind logged features; None when they are not a decision's, or no candidate is known any more."""
    names = features.get("candidates")
    if not isinstance(names, list) or "prompt_tokens" not in features:
        return None
    models = [model for name in names for model in catalog.find(str(name))[:1]]
    if not models:
        return None
    limit = features.get("output_limit")
    demand = Demand(
        prompt_tokens=int(features["prompt_tokens"]),
        output_limit=None if limit is None else int(limit),
        needs=frozenset(map(str, features.get("needs") or ())),
    )
    difficulty = float(features.get("difficulty", 0.5))
    gain = features.get("gain")
    return Ask(
        demand=demand,
        candidates=shortlist.candidates(models, demand, difficulty, keep_order=True),
        options=parse({"prefer": features.get("prefer", "balanced")}, options),
        features=features,
        difficulty=difficulty,
        gain=None if gain is None else float(gain),
        window_lambda=float(features.get("shadow_price") or 0.0),
        comparable=features.get("comparable"),
    )


def replay(
    lines: Iterable[str], strategy: str, catalog: Catalog, shortlist: Shortlist, options: Mapping[str, Any]
) -> Replayed:
    """Run every logged decision through `strategy`. Lines that are no decision are counted as skipped."""
    found = Replayed()
    for line in lines:
        logged = _json(line)
        features = next((logged[key] for key in FEATURES if isinstance(logged.get(key), dict)), None)
        ask = ask_of(features, catalog, shortlist, **options) if features else None
        if ask is None:
            found.skipped += 1
            continue
        try:
            choice = BY_NAME[strategy](ask)
        except InvalidRequest:
            found.skipped += 1
            continue
        _count(found, choice, logged)
    return found


def logged_decision(lines: Iterable[str], request_id: str) -> dict[str, Any] | None:
    """The line of a request's decision; None when the log has none."""
    for line in lines:
        logged = _json(line)
        features = logged.get("edgewise.features")
        if logged.get("request_id") == request_id and isinstance(features, dict) and "candidates" in features:
            return logged
    return None


def _count(found: Replayed, choice: Choice, logged: Mapping[str, Any]) -> None:
    found.decisions += 1
    name = choice.steps[0].models[0].name
    found.models[name] = found.models.get(name, 0) + 1
    found.quality += choice.expected.quality or 0.0
    found.cost_usd += float(choice.expected.cost_usd or 0)
    found.logged_cost_usd += float(logged.get("edgewise.cost_usd") or logged.get("cost_usd") or 0)
    final = logged.get("gen_ai.response.model") or logged.get("model")
    found.other += final is not None and final != choice.steps[-1].models[0].name


def _json(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
