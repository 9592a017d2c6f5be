"""Cascading: tier by tier, each answer checked; a tier whose marginal acceptance doesn't pay is skipped."""

from __future__ import annotations

from edgewise.routing.ask import Ask, Candidate
from edgewise.routing.scorer import ALONE_ACCEPT, hull, pays
from edgewise.routing.strategies.cascade import tiers
from edgewise.routing.strategies.single import one
from edgewise.words import Choice

MOST_STEPS = 3


def choose(ask: Ask) -> Choice:
    ranked = hull(ask.candidates) or list(ask.candidates)
    chain: list[Candidate] = [ranked[-1]]
    for candidate in reversed(ranked[:-1]):
        accept = ALONE_ACCEPT * candidate.quality
        if len(chain) < MOST_STEPS and pays(accept, candidate.cost, chain[0].cost):
            chain.insert(0, candidate)
    if len(chain) == 1:
        return one(ask, chain[0], "cascading", "no cheaper tier would pay for itself")
    return tiers(ask, chain, "cascading", " then ".join(c.model.tier for c in chain) + ", each checked")
