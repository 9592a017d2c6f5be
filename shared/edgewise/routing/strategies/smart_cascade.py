"""Smart cascade: a complexity judge jumps straight to the tier that the question calls for, and checks only below it.

A cascade that starts at the bottom pays for every failed try; here only the tier just below the called one is tried
first, and only when that pays.
"""

from __future__ import annotations

from edgewise.routing.ask import Ask
from edgewise.routing.scorer import ALONE_ACCEPT, pays
from edgewise.routing.strategies.cascade import tiers
from edgewise.routing.strategies.simple import at_tier, tier_for
from edgewise.routing.strategies.single import one
from edgewise.words import TIERS, Choice


def choose(ask: Ask) -> Choice:
    tier, why = tier_for(ask)
    called = at_tier(ask, tier)
    below = [c for c in ask.candidates if TIERS.index(c.model.tier) < TIERS.index(called.model.tier)]
    cheap = max(below, key=lambda c: (TIERS.index(c.model.tier), -c.cost), default=None)
    if cheap is not None and pays(ALONE_ACCEPT * cheap.quality * (1 - ask.difficulty), cheap.cost, called.cost):
        return tiers(ask, (cheap, called), "smart_cascade", f"{tier} tier called ({why}), one tier below tried first")
    return one(ask, called, "smart_cascade", f"straight to the {tier} tier: {why}")
