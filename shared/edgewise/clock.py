"""Time, randomness and identifiers, as one value that is handed in.

Nothing in the package asks the machine for the time or a random number by itself; everything takes a `Clock`,
so that a test moves time by hand and no test sleeps. `Deadline` is the one way to say how long is left.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import secrets
import time
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    """What the package may know of time and chance."""

    def now(self) -> float:
        """Seconds since the Unix epoch (wall time: for records, TTLs and leases)."""
        ...

    def tick(self) -> float:
        """Seconds on a clock that never goes back (for durations and deadlines)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` on this clock."""
        ...

    def uniform(self) -> float:
        """A number in [0, 1)."""
        ...

    def token(self, prefix: str) -> str:
        """A fresh identifier that nobody can guess: `prefix` and 24 characters from a-z and 0-9."""
        ...


_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_LETTERS = frozenset(_ALPHABET)
_LETTER_OF = bytes(ord(_ALPHABET[byte % 36]) for byte in range(256))
"""A letter for every byte; four of them are a little likelier than the others."""
STAMP_EPOCH = 1_577_836_800
STAMP_LETTERS = 6
"""A token begins with its second since 2020 in base 36 (enough until 2088), so that a filter of known identifiers
can tell one that it must know from one that is newer than itself. The other 18 letters are chance: at least 90 bits."""


class SystemClock:
    """The machine's own time and randomness."""

    __slots__ = ()

    def now(self) -> float:
        return time.time()

    def tick(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def uniform(self) -> float:
        return random.random()

    def token(self, prefix: str) -> str:
        chance = secrets.token_bytes(24 - STAMP_LETTERS).translate(_LETTER_OF)
        return prefix + stamp(time.time()) + chance.decode()


def _letters(number: int, count: int) -> str:
    """The last `count` digits of `number` in base 36, lowest first."""
    letters = []
    for _ in range(count):
        number, digit = divmod(number, 36)
        letters.append(_ALPHABET[digit])
    return "".join(letters)


def stamp(now: float) -> str:
    """The first letters of a token that is minted at `now`."""
    return _letters(int(now) - STAMP_EPOCH, STAMP_LETTERS)[::-1]


def minted_at(token: str) -> float | None:
    """When `Clock.token` made `token`, epoch seconds; None for what is not a word, `_` or `-`, and 24 letters."""
    letters = token[-24:]
    before = token[:-24]
    if (
        len(letters) < 24
        or not _LETTERS.issuperset(letters)
        or before[-1:] not in ("_", "-")
        or not before[:-1].isalpha()
    ):
        return None
    seconds = 0
    for letter in letters[:STAMP_LETTERS]:
        seconds = seconds * 36 + _ALPHABET.index(letter)
    return float(STAMP_EPOCH + seconds)


@dataclass(slots=True)
class FakeClock:
    """A clock that a test moves with `advance`; sleepers wake in the order of their time."""

    time: float = 1_800_000_000.0
    seed: int = 0
    _sleepers: list[tuple[float, int, asyncio.Event]] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=itertools.count)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def now(self) -> float:
        return self.time

    def tick(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        event = asyncio.Event()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._count), event))
        await event.wait()

    def uniform(self) -> float:
        return self._random.random()

    def token(self, prefix: str) -> str:
        return f"{prefix}{stamp(self.time)}{next(self._count):018d}"

    async def advance(self, seconds: float) -> None:
        """Move time on by `seconds`, waking each sleeper at its own moment."""
        until = self.time + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self.time, _, event = heapq.heappop(self._sleepers)
            event.set()
            await self._settle()
        self.time = until
        await self._settle()

    async def _settle(self) -> None:
        """Let every task that can run do so; twenty turns reach through the deepest chain of awaits here."""
        for _ in range(20):
            await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment by which a thing must be done, on `clock.tick()`."""

    at: float
    clock: Clock

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        return cls(clock.tick() + seconds, clock)

    def left_s(self) -> float:
        """Seconds left; negative when it has passed."""
        return self.at - self.clock.tick()

    def sooner(self, seconds: float) -> Deadline:
        """This deadline, or `seconds` from now if that is sooner."""
        return Deadline(min(self.at, self.clock.tick() + seconds), self.clock)
