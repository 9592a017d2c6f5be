"""Turns scored plans into a `Choice`: a cheap step with its acceptance check, then the step that answers for sure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

from edgewise.routing.ask import Ask, Candidate, total
from edgewise.routing.judging import Grader
from edgewise.routing.scorer import ESCALATED, KAPPA, Scored, check_cost, kept_share, worthwhile
from edgewise.routing.strategies.single import by_nearness, plan_row
from edgewise.words import Choice, Estimate, Step, Usd

AGREEMENT = "agreement"
OWN = "own"


def from_plan(ask: Ask, plan: Scored, strategy: str, reason: str, others: Sequence[Scored] = ()) -> Choice:
    """The choice that carries out `plan`; `others` are the plans it was weighed against."""
    final = plan.strong or plan.first[0]
    steps: tuple[Step, ...] = (Step((final.model,)),)
    if plan.strong is not None:
        steps = (first_step(ask, plan.first, plan.grader), *steps)
    return Choice(
        steps=steps,
        strategy=strategy,
        reason=reason,
        expected=Estimate(round(plan.quality, 4), plan.cost_usd, plan.latency_ms),
        worst_usd=worst_of((plan.first, (final,)) if plan.strong else (plan.first,), [plan.grader]),
        fallbacks=tuple(c.model for c in by_nearness(ask, final)),
        features=dict(ask.features),
        considered=tuple(row(other, chosen=other is plan) for other in (others or (plan,))[:12]),
    )


def first_step(ask: Ask, first: Sequence[Candidate], grader: Grader | None = None) -> Step:
    check = AGREEMENT if len(first) > 1 else OWN
    at_least = ask.options.at_least if ask.options.at_least is not None else 0.6
    return Step(tuple(c.model for c in first), check, at_least, grader.model if grader is not None else None)


def worst_of(steps: Sequence[Sequence[Candidate]], graders: Sequence[Grader | None] = ()) -> Usd | None:
    """Every step and every verdict is paid in full."""
    verdicts = [grader.worst_usd for grader in graders if grader is not None]
    return total([*(c.worst_usd for step in steps for c in step), *verdicts])


def tiers(ask: Ask, chain: Sequence[Candidate], strategy: str, reason: str) -> Choice:
    """A chain of single models, cheapest first, each but the last with a check of its own answer."""
    *early, last = chain
    graders = [worthwhile(ask, cheap, dearer) for cheap, dearer in pairwise(chain)]
    steps = [*(first_step(ask, (c,), grader) for c, grader in zip(early, graders, strict=True)), Step((last.model,))]
    verdicts = ", ".join(f"{grader.source} by {grader.model.name}" for grader in graders[:1] if grader is not None)
    return Choice(
        steps=tuple(steps),
        strategy=strategy,
        reason=f"{reason}, {verdicts}" if verdicts else reason,
        expected=_expected(chain, graders),
        worst_usd=worst_of([(c,) for c in chain], graders),
        fallbacks=tuple(c.model for c in by_nearness(ask, last) if c.model not in [x.model for x in chain]),
        features=dict(ask.features),
        considered=tuple(plan_row([c], c.quality, c.cost_usd, c.latency_ms) for c in chain),
    )


def _expected(chain: Sequence[Candidate], graders: Sequence[Grader | None]) -> Estimate:
    """What the whole chain should bring: each tier's kept share at its own quality, the rest at the next one's cost."""
    *early, last = chain
    quality, cost, latency = last.quality, last.cost, last.latency_ms
    for cheap, grader in zip(reversed(early), reversed(graders), strict=True):
        share, right = kept_share(cheap, grader)
        quality = share * right + (1 - share) * quality * ESCALATED
        cost = cheap.cost + check_cost(grader) + (1 - share) * KAPPA * cost
        checked = cheap.latency_ms + (grader.latency_ms if grader is not None else 0.0)
        latency = checked + (1 - share) * latency
    usd = None if cost == float("inf") else Decimal(repr(round(cost, 10)))
    return Estimate(round(quality, 4), usd, latency)


def row(plan: Scored, *, chosen: bool) -> dict[str, object]:
    """One scored plan, for `dry_run` and the log."""
    return {
        "plan": plan.label(),
        "models": [c.model.name for c in plan.first] + ([plan.strong.model.name] if plan.strong else []),
        "quality": round(plan.quality, 4),
        "cost_usd": None if plan.cost == float("inf") else round(plan.cost, 8),
        "latency_ms": round(plan.latency_ms),
        "accept": round(plan.accept, 3),
        "value": round(plan.value, 4),
        "chosen": chosen,
    }
