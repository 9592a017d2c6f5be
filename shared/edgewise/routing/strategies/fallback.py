"""Fallback: the models in the order they were given; the next one only when one fails."""

from __future__ import annotations

from edgewise.routing.ask import Ask
from edgewise.routing.strategies.single import one
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    first, *rest = ask.candidates
    reason = "named by the client" if not ask.many else f"first of {len(ask.candidates)} in order"
    return one(ask, first, "fallback", reason, rest=rest)
