"""Weighted: candidates take turns by chance, in proportion to their weights; a weight of zero is a reserve."""

from __future__ import annotations

from edgewise.routing.ask import Ask, Candidate
from edgewise.routing.strategies.single import one
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    weights = ask.options.weights

    def weight(candidate: Candidate) -> float:
        return max(0.0, weights.get(candidate.model.name, weights.get(candidate.model.id, 0.0 if weights else 1.0)))

    whole = sum(map(weight, ask.candidates))
    if whole <= 0:
        return one(ask, ask.candidates[0], "weighted", "no weight above zero: the first in order")
    point = ask.uniform() * whole
    chosen = ask.candidates[-1]
    for candidate in ask.candidates:
        point -= weight(candidate)
        if point < 0:
            chosen = candidate
            break
    rest = sorted((c for c in ask.candidates if c is not chosen), key=weight, reverse=True)
    return one(ask, chosen, "weighted", f"weight {weight(chosen):g} of {whole:g}", rest=rest)
