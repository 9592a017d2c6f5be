"""Simple: length and rules pick a tier; the cheapest candidate of that tier, or of the next one up, answers."""

from __future__ import annotations

from edgewise.routing.ask import Ask, Candidate
from edgewise.routing.strategies.single import one
from edgewise.words import TIERS, Choice, Tier

LONG_PROMPT_TOKENS = 6000
CUTS: tuple[tuple[float, Tier], ...] = ((0.15, "tiny"), (0.35, "small"), (0.6, "medium"), (1.01, "large"))
SHIFT = {"cheap": -1, "balanced": 0, "best": 2}


def tier_for(ask: Ask) -> tuple[Tier, str]:
    """The tier that this request calls for, and why."""
    index = TIERS.index(next(tier for cut, tier in CUTS if ask.difficulty < cut))
    why = f"difficulty {ask.difficulty:.2f}"
    if ask.demand.prompt_tokens > LONG_PROMPT_TOKENS:
        index, why = max(index, TIERS.index("medium")), f"long prompt, {why}"
    index = min(len(TIERS) - 1, max(0, index + SHIFT[ask.options.prefer]))
    return TIERS[index], why


def at_tier(ask: Ask, tier: Tier) -> Candidate:
    """The cheapest candidate at `tier`, or else at the nearest tier above, or else below."""
    want = TIERS.index(tier)

    def rank(candidate: Candidate) -> tuple[int, int, float]:
        index = TIERS.index(candidate.model.tier)
        return (0 if index >= want else 1, abs(index - want), candidate.cost)

    return min(ask.candidates, key=rank)


def choose(ask: Ask) -> Choice:
    tier, why = tier_for(ask)
    chosen = at_tier(ask, tier)
    return one(ask, chosen, "simple", f"{tier} tier: {why}")
