"""Hybrid, the house's own: a session stays where it is, what was proved is used, else the plan of best value.

In order: a guarantee, where one is asked; a pinned session; plans fitted to own labels; the learned gain where its test
has passed; then the plan scorer, which weighs single models, cascades and agreeing pairs with the question's
difficulty in their quality.
"""

from __future__ import annotations

from edgewise.routing.ask import Ask
from edgewise.routing.scorer import plans
from edgewise.routing.strategies import cost_aware, fitted, learned, sticky
from edgewise.routing.strategies.cascade import from_plan
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    if ask.options.guarantee:
        return learned.choose(ask)
    if ask.pinned is not None and (kept := sticky.pinned(ask, "hybrid")) is not None:
        return kept
    if (proved := fitted.choose(ask)) is not None:
        return proved
    if ask.gain is not None:
        return learned.choose(ask)
    if ask.options.max_cost_usd is not None:
        return cost_aware.choose(ask)
    scored = [plan for plan in plans(ask) if _good_enough(plan.quality, ask) and _quick_enough(plan.latency_ms, ask)]
    scored = scored or plans(ask)
    best = scored[0]
    return from_plan(ask, best, "hybrid", f"best value of {len(scored)} plans, {ask.options.prefer}", scored)


def _good_enough(quality: float, ask: Ask) -> bool:
    return ask.options.min_quality is None or quality >= ask.options.min_quality


def _quick_enough(latency_ms: float, ask: Ask) -> bool:
    return ask.options.max_latency_ms is None or latency_ms <= ask.options.max_latency_ms
