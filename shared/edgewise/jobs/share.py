"""The share of the world that batch work may use: interactive requests come first.

At most `most` lines run at once in one worker. When a provider says that it is too busy, the share is halved and
nothing starts until the time it named; every good answer adds a little back (additive increase, multiplicative
decrease, as TCP has it). Waiting lines are let in tenant by tenant in turn, so that a long queue of one does not
stand before a short queue of another.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgewise.clock import Clock

HOLD_S = 1.0
LONGEST_HOLD_S = 60.0


class Share:
    """`async with share.slot(tenant)` around each line; `throttled` and `eased` tell it how the provider does."""

    def __init__(self, clock: Clock, most: int = 50) -> None:
        self.most = most
        self.limit = float(most)
        self.running = 0
        self._clock = clock
        self._held_until = 0.0
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._timer: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[None]:
        await self._enter(tenant)
        try:
            yield
        finally:
            self.running -= 1
            self._let_in()

    async def _enter(self, tenant: str) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(gate)
        self._let_in()
        try:
            await gate
        except asyncio.CancelledError:
            if gate.done() and not gate.cancelled():
                self.running -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        """Open the gate for the first of each tenant in turn while there is room."""
        if (wait_s := self._held_until - self._clock.tick()) > 0:
            if self._timer is None or self._timer.done():
                self._timer = asyncio.get_running_loop().create_task(self._later(wait_s))
            return
        while self._waiting and self.running < int(self.limit):
            tenant, gates = self._waiting.popitem(last=False)
            gate = gates.popleft()
            if gates:
                self._waiting[tenant] = gates
            if not gate.cancelled():
                self.running += 1
                gate.set_result(None)

    async def _later(self, wait_s: float) -> None:
        await self._clock.sleep(wait_s)
        self._timer = None
        self._let_in()

    def throttled(self, retry_after_s: float | None) -> None:
        """A provider is too busy: take half, and start nothing for a while. Answers to calls that were under way
        when the first refusal came do not halve it again."""
        now = self._clock.tick()
        if now >= self._held_until:
            self.limit = max(1.0, self.limit / 2)
            self._held_until = now + min(LONGEST_HOLD_S, retry_after_s or HOLD_S)

    def eased(self) -> None:
        """A line was answered."""
        if self.limit < self.most:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)
            self._let_in()
