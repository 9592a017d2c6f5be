"""Bans: an address or a key that misbehaves repeatedly is shut out for a while.

A bad key, a banned word for the guards, an attack: each is a strike. Strikes are counted in the process and told to
the state table in fives, so that a flood costs a fifth of its writes; at `limit` strikes within a minute, over all
processes, comes a ban. Each further ban of the same one lasts twice as long, up to a day.

Checking costs a dictionary lookup: the list of bans is read in the background every few seconds, never waited for.
A ban therefore reaches other processes within `refresh_s`. The root key is never banned: somebody must lift them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from edgewise.clock import Clock
from edgewise.errors import NotAllowed, Unavailable

Signal = Callable[[str, float], None]
Spawn = Callable[[Coroutine[Any, Any, None]], None]

FIRST_S = 300.0
LONGEST_S = 86_400.0
CHUNK = 5
KEEP = 10_000


@dataclass(frozen=True, slots=True)
class Ban:
    """`whom` is 'address:1.2.3.4' or 'key:k_…'. Times are seconds since the epoch."""

    whom: str
    reason: str
    since: float
    until: float


class BanStore(Protocol):
    """Where bans are kept. Raises `Unavailable`."""

    async def put(self, ban: Ban) -> None: ...
    async def lift(self, whom: str) -> bool: ...
    async def all(self, now: float) -> list[Ban]: ...
    async def strike(self, whom: str, minute: int, strikes: int) -> int: ...


class MemoryBans:
    """Bans of this process alone."""

    def __init__(self) -> None:
        self._bans: dict[str, Ban] = {}
        self._strikes: dict[tuple[str, int], int] = {}

    async def put(self, ban: Ban) -> None:
        self._bans[ban.whom] = ban

    async def lift(self, whom: str) -> bool:
        return self._bans.pop(whom, None) is not None

    async def all(self, now: float) -> list[Ban]:
        return [ban for ban in self._bans.values() if ban.until > now]

    async def strike(self, whom: str, minute: int, strikes: int) -> int:
        for old in [key for key in self._strikes if key[1] < minute]:
            del self._strikes[old]
        self._strikes[whom, minute] = self._strikes.get((whom, minute), 0) + strikes
        return self._strikes[whom, minute]


class Bouncer:
    """Counts strikes, bans, and turns the banned away. `spawn` runs the store's work behind the request."""

    def __init__(
        self,
        store: BanStore,
        clock: Clock,
        spawn: Spawn,
        signal: Signal,
        *,
        limit: int = 20,
        refresh_s: float = 15.0,
    ) -> None:
        self.store = store
        self._clock = clock
        self._spawn = spawn
        self._signal = signal
        self._limit = limit
        self._refresh_s = refresh_s
        self._read_at: float | None = None
        self._bans: dict[str, Ban] = {}
        self._served: dict[str, float] = {}
        self._strikes: dict[str, tuple[int, int]] = {}

    def check(self, whom: str) -> None:
        """Raises NotAllowed while `whom` is banned."""
        now = self._clock.tick()
        if self._read_at is None or now - self._read_at >= self._refresh_s:
            self._read_at = now
            self._spawn(self.refresh())
        ban = self._bans.get(whom) if self._bans else None
        if ban is None:
            return
        left_s = ban.until - self._clock.now()
        if left_s > 0:
            raise NotAllowed(
                "Too many refused requests from here; try again later.",
                code="banned",
                headers={"retry-after": str(max(1, round(left_s))), "x-should-retry": "false"},
            )

    async def check_now(self, whom: str) -> None:
        """`check`, with the bans read first when they are due: for work that nobody waits for, and that would else
        begin before a fresh process had heard of any."""
        now = self._clock.tick()
        if self._read_at is None or now - self._read_at >= self._refresh_s:
            self._read_at = now
            await self.refresh()
        self.check(whom)

    async def refresh(self) -> None:
        """Read the bans anew. While the store does not answer, those known stay."""
        try:
            self._bans = {ban.whom: ban for ban in await self.store.all(self._clock.now())}
        except Unavailable:
            self._read_at = None

    def strike(self, whom: str, reason: str, *, weight: int = 1) -> None:
        """Count `weight` strikes against `whom`; every few of them are told to the store, which may mean a ban."""
        minute = int(self._clock.now() // 60)
        counted, held = self._strikes.get(whom, (minute, 0))
        held = weight if counted != minute else held + weight
        if held >= CHUNK:
            self._spawn(self._report(whom, reason, minute, held))
            held = 0
        if len(self._strikes) >= KEEP:
            self._strikes.clear()
        self._strikes[whom] = (minute, held)

    async def _report(self, whom: str, reason: str, minute: int, strikes: int) -> None:
        try:
            if await self.store.strike(whom, minute, strikes) >= self._limit:
                await self.ban(whom, reason)
        except Unavailable:
            return

    async def ban(self, whom: str, reason: str, for_s: float | None = None) -> Ban:
        """Ban `whom` now: for `for_s` seconds, or twice as long as the last time."""
        now = self._clock.now()
        standing = self._bans.get(whom)
        if for_s is None and standing is not None and standing.until > now:
            return standing
        if for_s is None:
            for_s = min(LONGEST_S, 2 * self._served[whom]) if whom in self._served else FIRST_S
        if len(self._served) >= KEEP:
            self._served.clear()
        self._served[whom] = for_s
        ban = Ban(whom, reason, now, now + for_s)
        await self.store.put(ban)
        self._bans = {**self._bans, whom: ban}
        self._signal("Banned", 1)
        return ban

    async def lift(self, whom: str) -> bool:
        """End a ban; False when there was none."""
        self._bans = {name: ban for name, ban in self._bans.items() if name != whom}
        self._served.pop(whom, None)
        self._strikes.pop(whom, None)
        return await self.store.lift(whom)
