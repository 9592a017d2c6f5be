"""Fitted: the plan of most worth among those whose quality and cost were fitted to own labelled traffic.

Only plans whose every model is a candidate of this request count; what can't be compared can't agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from edgewise.routing.ask import Ask, Candidate
from edgewise.routing.fitted import PlanKey
from edgewise.routing.strategies.cascade import AGREEMENT, worst_of
from edgewise.routing.strategies.single import by_nearness
from edgewise.words import Choice, Estimate, Step

MAJORITY = "majority"


def choose(ask: Ask) -> Choice | None:
    """The best fitted plan that this request allows; None when there is none."""
    named = {c.model.name: c for c in ask.candidates}
    able = [
        (key, quality, cost)
        for key, quality, cost in ask.extra.get("plans", ())
        if all(name in named for name in models_of(key)) and (key.strong is None or ask.comparable is not None)
    ]
    if not able:
        return None
    lam = float(ask.extra["lam"]) + ask.window_lambda
    key, quality, cost = max(able, key=lambda row: row[1] - lam * row[2])
    steps = [[named[name] for name in key.first]]
    steps += [[named[name]] for name in (key.third, key.strong) if name is not None]
    final = steps[-1][0]
    return Choice(
        steps=tuple(_step(ask, step, number, len(steps)) for number, step in enumerate(steps)),
        strategy="hybrid",
        reason=f"fitted plan {key.label()}: {ask.extra['tested']}",
        expected=Estimate(round(quality, 4), Decimal(repr(round(cost, 10))), steps[0][0].latency_ms),
        worst_usd=worst_of(steps),
        fallbacks=tuple(c.model for c in by_nearness(ask, final)),
        features=dict(ask.features),
        considered=tuple(
            {"plan": k.label(), "models": models_of(k), "quality": round(q, 4), "cost_usd": round(c, 8),
             "value": round(q - lam * c, 4), "chosen": k == key}
            for k, q, c in able
        ),
    )  # fmt: skip


def models_of(key: PlanKey) -> list[str]:
    return [*key.first, *(name for name in (key.third, key.strong) if name is not None)]


def _step(ask: Ask, step: Sequence[Candidate], number: int, count: int) -> Step:
    models = tuple(c.model for c in step)
    if number == count - 1:
        return Step(models)
    at_least = ask.options.at_least if ask.options.at_least is not None else 0.6
    return Step(models, AGREEMENT if number == 0 else MAJORITY, at_least)
