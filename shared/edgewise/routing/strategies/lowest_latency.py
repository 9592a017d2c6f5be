"""Lowest latency: the better of two chosen at random, by peak-sensitive latency times what is already under way.

Taking the quickest of all would send every environment to the same model at once, on news that is seconds old; two
random choices spread the load and still shun the slow. The latency is a peak EWMA: a rise counts at once, a fall
only slowly.
"""

from __future__ import annotations

from edgewise.routing.ask import Ask, Candidate
from edgewise.routing.strategies.single import one
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    def load(candidate: Candidate) -> float:
        return candidate.latency_ms * (1 + ask.in_flight.get(candidate.model.name, 0))

    count = len(ask.candidates)
    if count == 1:
        return one(ask, ask.candidates[0], "lowest_latency", "one candidate")
    first = int(ask.uniform() * count) % count
    second = (first + 1 + int(ask.uniform() * (count - 1)) % (count - 1)) % count
    chosen = min(ask.candidates[first], ask.candidates[second], key=load)
    rest = sorted((c for c in ask.candidates if c is not chosen), key=load)
    return one(ask, chosen, "lowest_latency", f"{chosen.latency_ms:.0f} ms, quicker of two", rest=rest)
