"""The share of the world that batch work may use: interactive requests come first.

At most `most` lines run at once in one worker. When a provider says that it is too busy, the share is halved and
nothing starts until the time it named; every good answer adds a little back (additive increase, multiplicative
decrease, as TCP has it). Waiting lines are let in tenant by tenant in turn, so that a long queue of one does not
stand before a short queue of another. Nor does it when all the slots are its own: the first few lines of a tenant
that has hardly any running do not wait for one of another's to end; they go beyond `most`, by a fifth of it together.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgewise.clock import Clock

HOLD_S = 1.0
LONGEST_HOLD_S = 60.0
NEWCOMERS = 0.2
"""The share of `most` by which tenants that have hardly any line running may go beyond it."""


class Share:
    """`async with share.slot(tenant)` around each line; `throttled` and `eased` tell it how the provider does."""

    def __init__(self, clock: Clock, most: int = 50) -> None:
        self.most = most
        self.limit = float(most)
        self.running = 0
        self._running: Counter[str] = Counter()
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
            self._left(tenant)

    async def _enter(self, tenant: str) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(gate)
        self._let_in()
        try:
            await gate
        except asyncio.CancelledError:
            if gate.done() and not gate.cancelled():
                self._left(tenant)
            raise

    def _left(self, tenant: str) -> None:
        self.running -= 1
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        self._let_in()

    def _let_in(self) -> None:
        """Open the gate for the first of each tenant in turn while there is room."""
        if (wait_s := self._held_until - self._clock.tick()) > 0:
            if self._timer is None or self._timer.done():
                self._timer = asyncio.get_running_loop().create_task(self._later(wait_s))
            return
        while (tenant := self._next()) is not None:
            gates = self._waiting.pop(tenant)
            gate = gates.popleft()
            if gates:
                self._waiting[tenant] = gates
            if not gate.cancelled():
                self.running += 1
                self._running[tenant] += 1
                gate.set_result(None)

    def _next(self) -> str | None:
        """Whose turn it is; None: nobody's may start now."""
        if self.running < int(self.limit):
            return next(iter(self._waiting), None)
        spare = int(self.most * NEWCOMERS) if self.limit >= self.most else 0
        if self.running >= self.most + spare:
            return None
        return next((tenant for tenant in self._waiting if self._running[tenant] < spare), None)

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
