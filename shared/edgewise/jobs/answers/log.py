"""What is told of an answer while it is made: its stream's events, each with a number that stays its own.

    created, in_progress ─→ text … ─┬───────────────────────────────→ completed | incomplete | failed
                                    └→ error 'restarted' ─→ text … ─→ …

Events are written some at a time, under the number of the first of them and only where nothing is yet. So whoever
writes has read everything before it: a worker that was taken for dead, the one that took over and a client that
cancels cannot go on from the same place, and nothing that a client has read is ever changed. The first to write an end
has ended the answer.

A worker that dies leaves text that only the same answer can go on from: one that was paid for and written down, or one
from the cache. `Retold` then goes on in the middle of the word. When the new attempt says something else, the log says
so by an `error` event: it ends the stream of whoever has read text before it, and nobody is told both.

It does not know how events come to be, nor where they are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from edgewise.clock import Clock
from edgewise.jobs.answers.kept import Kept

Event = Mapping[str, Any]

OPENED = 1
"""The number of the last event that every attempt shares: created is 0, in_progress 1."""
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
RESTARTED: dict[str, Any] = {
    "type": "error",
    "code": "restarted",
    "message": "The answer was begun anew, and its text until here does not count. It can be streamed again: "
    "from its beginning, or with the number of this event as `starting_after`.",
    "param": None,
}
FLUSH_CHARS = 2_000
SLOWER = 0.05
"""How much longer than at first events may wait, as a share of the time that the answer has taken so far: an answer of
ten minutes is written a hundred times, not twelve hundred."""
UNSTORED_LOG_S = 86_400


class Taken(Exception):
    """Somebody else has written where we would: the answer was ended, or another worker has taken over."""


class Stretches(Protocol):
    """Where events are kept."""

    async def tell(self, id: str, events: Sequence[Event], expires_at: int) -> bool:
        """Write events under the number of the first one. False: that place is taken."""
        ...

    async def told(self, id: str, after: int = -1) -> list[Event]:
        """The events in order, of those that were written together with none up to number `after`."""
        ...


def number_of(event: Event) -> int:
    number: int = event["sequence_number"]
    return number


def ends(event: Event) -> bool:
    return str(event["type"]) in ENDS


def restarts(event: Event) -> bool:
    return bool(event["type"] == "error" and event["code"] == RESTARTED["code"])


def opening(kept: Kept) -> list[dict[str, Any]]:
    """The first two events of a response that has not ended."""
    return [
        {"type": "response.created", "sequence_number": 0, "response": {**kept.wire, "status": "queued"}},
        {"type": "response.in_progress", "sequence_number": OPENED, "response": {**kept.wire, "status": "in_progress"}},
    ]


def unread(events: Sequence[Event], sent: int) -> list[Event]:
    """What of `events` is for a client that has had those up to number `sent`."""
    start = next((number_of(event) for event in reversed(events) if restarts(event)), None)
    if start is None:
        return [event for event in events if number_of(event) > sent]
    if OPENED < sent < start:
        return [event for event in events if number_of(event) == start]
    return [event for event in events if sent < number_of(event) <= OPENED or number_of(event) > max(sent, start)]


class Log:
    """One answer's events, for who writes them. `read` first, unless nobody can have written yet."""

    def __init__(self, stretches: Stretches, kept: Kept) -> None:
        self._stretches = stretches
        self._kept = kept
        self._events: list[Event] = []
        self._expires_at = kept.expires_at if kept.stored else kept.created_at + UNSTORED_LOG_S

    async def read(self) -> None:
        self._events = await self._stretches.told(self._kept.id)

    @property
    def end(self) -> Event | None:
        """The event that ended the answer."""
        return self._events[-1] if self._events and ends(self._events[-1]) else None

    @property
    def text(self) -> list[Event]:
        """What clients have been told of the answer as it stands, after the opening."""
        return [event for event in unread(self._events, OPENED) if not restarts(event)]

    async def write(self, events: Sequence[Event]) -> None:
        """Tell `events`, numbered anew. Raises Taken."""
        before = [] if self._events else opening(self._kept)
        first = number_of(self._events[-1]) + 1 if self._events else len(before)
        new: list[Event] = [{**event, "sequence_number": first + n} for n, event in enumerate(events)]
        if not await self._stretches.tell(self._kept.id, [*before, *new], self._expires_at):
            raise Taken(self._kept.id)
        self._events += [*before, *new]


class Retold:
    """A new attempt's events in; out comes what goes on after `told`, which an earlier attempt has told.

    Events are held back until they have caught up. What was told is a message's opening and some of its text, or the
    answer is begun anew: calls of tools have names of their own each time, and a second message is rare.
    """

    def __init__(self, told: Sequence[Event]) -> None:
        self._frame = [_plain(event) for event in told if not _is_text(event)]
        self._text = "".join(event["delta"] for event in told if _is_text(event))
        self._held: list[Event] = []
        self._can = not any(map(_is_text, told[: len(self._frame)])) and not any(e.get("logprobs") for e in told)
        self._caught_up = not told

    def add(self, events: Sequence[Event]) -> list[Event]:
        """What is news; after a difference everything anew, behind the event that says so."""
        if self._caught_up:
            return list(events)
        self._held += events
        frame, rest = self._held[: len(self._frame)], self._held[len(self._frame) :]
        same = [_plain(event) for event in frame] == self._frame[: len(frame)]
        said = "".join(event["delta"] for event in rest if _is_text(event))
        whole = len(said) >= len(self._text) and len(frame) == len(self._frame)
        fits = said.startswith(self._text) if whole else self._text.startswith(said) and all(map(_is_text, rest))
        if not (self._can and same and fits):
            self._caught_up = True
            return [RESTARTED, *self._held]
        if not whole:
            return []
        self._caught_up = True
        return list(_beyond(rest, len(self._text)))


def _is_text(event: Event) -> bool:
    return str(event["type"]) == "response.output_text.delta"


def _plain(event: Event) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "sequence_number"}


def _beyond(events: Sequence[Event], chars: int) -> list[Event]:
    """`events` without the first `chars` characters of their text."""
    found: list[Event] = []
    for event in events:
        cut = min(chars, len(event["delta"])) if _is_text(event) else 0
        chars -= cut
        if not cut:
            found.append(event)
        elif cut < len(event["delta"]):
            found.append({**event, "delta": event["delta"][cut:]})
    return found


class Spool:
    """Writes events to the log behind the one who adds them: when many have gathered, or when the first of them has
    waited for `pace_s` seconds. What was not written at the end is left in `rest`."""

    def __init__(self, log: Log, clock: Clock, pace_s: float) -> None:
        self.log, self._clock, self._pace_s = log, clock, pace_s
        self.rest: list[Event] = []
        self._chars = 0
        self._some, self._many, self._turn = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._began = clock.tick()

    async def __aenter__(self) -> Self:
        self._writer = asyncio.get_running_loop().create_task(self._write())
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        try:
            # A write that is under way ends first: what it told is not left in `rest`.
            async with self._turn:
                pass
        finally:
            self._writer.cancel()
        (outcome,) = await asyncio.gather(self._writer, return_exceptions=True)
        if kind is None and isinstance(outcome, Exception):
            raise outcome

    def add(self, events: Sequence[Event]) -> None:
        """Raises what the last write raised."""
        if self._writer.done():
            self._writer.result()
        if not events:
            return
        self.rest += events
        self._chars += sum(len(event.get("delta", "")) for event in events)
        self._some.set()
        if self._chars >= FLUSH_CHARS:
            self._many.set()

    async def _write(self) -> None:
        while True:
            await self._some.wait()
            wait_s = max(self._pace_s, SLOWER * (self._clock.tick() - self._began))
            waits = [asyncio.ensure_future(self._clock.sleep(wait_s)), asyncio.ensure_future(self._many.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            async with self._turn:
                now, self.rest, self._chars = self.rest, [], 0
                self._some.clear()
                self._many.clear()
                await self.log.write(now)
