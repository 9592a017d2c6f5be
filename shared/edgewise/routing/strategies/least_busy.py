"""Least busy: the candidate with the fewest calls under way; ties go by chance, so that nobody is always first."""

from __future__ import annotations

from edgewise.routing.ask import Ask
from edgewise.routing.strategies.single import one
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    ranked = sorted(
        ((ask.in_flight.get(c.model.name, 0), ask.uniform(), number) for number, c in enumerate(ask.candidates)),
    )
    chosen = ask.candidates[ranked[0][2]]
    rest = [ask.candidates[number] for _, _, number in ranked[1:]]
    return one(ask, chosen, "least_busy", f"{ranked[0][0]} calls under way", rest=rest)
