"""Collects single calls into joint ones: by number, or when the first has waited long enough.

For what is cheaper together: embeddings, a provider's batch, rows of a table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from edgewise.clock import Clock

In = TypeVar("In")
Out = TypeVar("Out")


class Batcher(Generic[In, Out]):
    """`await batcher(item)` gives the item's own result.

    run     a list of items to their results, in order; an exception among them is that item's alone
    most    items of one joint call at most        wait_s  how long the first item waits for others
    """

    def __init__(
        self,
        run: Callable[[list[In]], Awaitable[Sequence[Out | BaseException]]],
        clock: Clock,
        *,
        most: int = 64,
        wait_s: float = 0.01,
    ) -> None:
        self._run, self._clock, self._most, self._wait_s = run, clock, most, wait_s
        self._waiting: list[tuple[In, asyncio.Future[Out]]] = []
        self._timer: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, item: In) -> Out:
        result: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if len(self._waiting) >= self._most:
            self._go()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().create_task(self._later())
        return await result

    async def _later(self) -> None:
        await self._clock.sleep(self._wait_s)
        self._timer = None
        self._go()

    def _go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Whoever has gone away meanwhile is not asked for.
        together = [(item, result) for item, result in self._waiting if not result.done()]
        self._waiting = []
        if together:
            task = asyncio.get_running_loop().create_task(self._together(together))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _together(self, together: list[tuple[In, asyncio.Future[Out]]]) -> None:
        outcome: Sequence[Out | BaseException]
        try:
            outcome = await self._run([item for item, _ in together])
            if len(outcome) != len(together):
                raise RuntimeError(f"{len(together)} items had {len(outcome)} results")
        except Exception as error:  # noqa: BLE001 - an edge: the joint call's error is told to each who waits for it
            outcome = [error] * len(together)
        for (_, result), out in zip(together, outcome, strict=True):
            if result.done():
                continue
            if isinstance(out, BaseException):
                result.set_exception(out)
            else:
                result.set_result(out)

    async def close(self) -> None:
        """Run what waits, and wait for what runs."""
        self._go()
        while self._running:
            await asyncio.wait(set(self._running))
