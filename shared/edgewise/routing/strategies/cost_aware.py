"""Cost-aware: the best expected quality whose cost keeps within the request's budget.

Over a window, a shadow price stands for the budget: each dollar costs λ quality points more while spending runs ahead
of its pace, and less while it lags (`pacing.py`), so no request needs a budget of its own.
"""

from __future__ import annotations

from edgewise.errors import InvalidRequest
from edgewise.routing.ask import Ask
from edgewise.routing.scorer import plans
from edgewise.routing.strategies.cascade import from_plan
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    """Raises `InvalidRequest` when a budget is set and nothing of known price fits it."""
    scored = plans(ask)
    budget = ask.options.max_cost_usd
    if budget is None:
        best = scored[0]
        why = f"best value at {ask.options.lam + ask.window_lambda:.3g} points a dollar"
        return from_plan(ask, best, "cost_aware", why, scored)
    within = [plan for plan in scored if (worst := plan.worst_usd) is not None and worst <= budget]
    if not within:
        raise InvalidRequest(
            f"No candidate of known price can answer within {budget} US dollars.", param="routing.max_cost_usd"
        )
    best = max(within, key=lambda plan: (plan.quality, -plan.cost))
    return from_plan(ask, best, "cost_aware", f"best quality within ${budget}", scored)
