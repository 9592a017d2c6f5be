"""What every strategy ends with: a `Choice` built from candidates in order, priced and explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgewise.routing.ask import Ask, Candidate
from edgewise.words import TIERS, Choice, Estimate, Step, Usd


def one(
    ask: Ask,
    chosen: Candidate,
    strategy: str,
    reason: str,
    *,
    rest: Sequence[Candidate] | None = None,
    considered: tuple[Mapping[str, Any], ...] = (),
) -> Choice:
    """One model, with the others as fallbacks for failures, nearest in tier first unless `rest` orders them. What they
    may cost is added by whoever decides that they may step in (`rescue`)."""
    others = [c for c in (by_nearness(ask, chosen) if rest is None else rest) if c.model != chosen.model]
    return Choice(
        steps=(Step((chosen.model,)),),
        strategy=strategy,
        reason=reason,
        expected=Estimate(chosen.quality, chosen.cost_usd, chosen.latency_ms),
        worst_usd=chosen.worst_usd,
        fallbacks=tuple(c.model for c in others),
        features=dict(ask.features),
        considered=considered or tuple(plan_row([c], c.quality, c.cost_usd, c.latency_ms) for c in ask.candidates[:12]),
    )


def by_nearness(ask: Ask, chosen: Candidate) -> list[Candidate]:
    """Who could step in: the same tier first, then upwards, then downwards; cheaper before dearer."""
    here = TIERS.index(chosen.model.tier)

    def distance(candidate: Candidate) -> tuple[int, float]:
        step = TIERS.index(candidate.model.tier) - here
        return (step * 2 if step >= 0 else -step * 2 + 1, candidate.cost)

    found = [c for c in ask.candidates if c.model != chosen.model]
    if chosen.worst_usd is not None:
        # A fallback of unknown price could break a budget that the first choice was checked against.
        found = [c for c in found if c.worst_usd is not None]
    return sorted(found, key=distance)[:5]


def plan_row(candidates: Sequence[Candidate], quality: float, cost: Usd | None, latency_ms: float) -> dict[str, Any]:
    """One scored plan, for `dry_run` and the log."""
    return {
        "models": [c.model.name for c in candidates],
        "quality": round(quality, 4),
        "cost_usd": None if cost is None else float(cost),
        "latency_ms": round(latency_ms),
    }
