"""Confidence: the smallest model that may do answers first; a strong one takes over when its confidence is low."""

from __future__ import annotations

from edgewise.routing.ask import Ask
from edgewise.routing.scorer import ALONE_ACCEPT, hull, pays
from edgewise.routing.strategies.cascade import tiers
from edgewise.routing.strategies.single import one
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    ranked = hull(ask.candidates) or list(ask.candidates)
    small, strong = ranked[0], ranked[-1]
    if small is strong:
        return one(ask, small, "confidence", "one candidate")
    accept = ALONE_ACCEPT * small.quality
    if not pays(accept, small.cost, strong.cost):
        return one(ask, strong, "confidence", "a small try would not pay for itself")
    return tiers(ask, (small, strong), "confidence", f"{small.model.name} first, kept when confident")
