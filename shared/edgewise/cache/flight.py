"""One call for many askers, inside a process: the first leads, the others await what becomes of it.

A flight is open from the moment its leader starts to look until its answer is whole or it has failed. What becomes of
it is one of three: `Landed` with a hit for everyone; `Crashed`, so that one of the followers leads next; `Alone`, when
the answer may not be shared or it took too long, so that each calls for itself. A flight always ends: whoever opened
it lands it, whatever happens. This module does not know what an answer is worth; the room decides that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, replace

import orjson

from edgewise.chat import Answer
from edgewise.clock import Clock
from edgewise.words import Hit


@dataclass(frozen=True, slots=True)
class Landed:
    """`body` is the answer as JSON text, so that each follower parses one of its own."""

    hit: Hit
    body: bytes

    def own(self) -> Hit:
        """The hit for one follower, with an answer that nobody else holds."""
        return replace(self.hit, entry=replace(self.hit.entry, answer=Answer(orjson.loads(self.body))))


@dataclass(frozen=True, slots=True)
class Crashed:
    pass


@dataclass(frozen=True, slots=True)
class Alone:
    pass


Outcome = Landed | Crashed | Alone


class Flight:
    """One call under way. Bound to the event loop it was opened on."""

    __slots__ = ("_clock", "followers", "key", "outcome")

    def __init__(self, key: Hashable, outcome: asyncio.Future[Outcome], clock: Clock) -> None:
        self.key = key
        self.outcome = outcome
        self.followers = 0
        self._clock = clock

    async def follow(self, patience_s: float) -> Outcome:
        """What becomes of it; `Alone` after `patience_s` seconds."""
        self.followers += 1
        impatience = asyncio.ensure_future(self._clock.sleep(patience_s))
        try:
            # Not wait_for: it would cancel the future that all the others await too.
            await asyncio.wait((self.outcome, impatience), return_when=asyncio.FIRST_COMPLETED)
        finally:
            impatience.cancel()
            self.followers -= 1
        return self.outcome.result() if self.outcome.done() else Alone()


class Flights:
    """The flights of this process by key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[Hashable, Flight] = {}

    def under_way(self, key: Hashable) -> Flight | None:
        return self._open.get(key)

    def open(self, key: Hashable) -> Flight:
        """Start to lead `key`; nobody else does."""
        assert key not in self._open
        flight = self._open[key] = Flight(key, asyncio.get_running_loop().create_future(), self._clock)
        return flight

    def land(self, flight: Flight, outcome: Outcome) -> None:
        """End `flight` and tell its followers. A second landing is ignored."""
        if self._open.get(flight.key) is flight:
            del self._open[flight.key]
        if not flight.outcome.done():
            flight.outcome.set_result(outcome)

    def land_hit(self, flight: Flight, hit: Hit) -> None:
        """End `flight` with `hit` for every follower."""
        body = orjson.dumps(hit.entry.answer.completion) if flight.followers else b"{}"
        self.land(flight, Landed(hit, body))

    def __len__(self) -> int:
        return len(self._open)
