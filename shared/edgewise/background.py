"""Work that outlives its request: renewing a stale entry, writing a roll-up, a shadow call.

A Lambda environment freezes when its response is out and it asks for the next event, so whoever runs the requests
(`edgewise.runtime`, the worker, the server on a laptop) drains this before it lets the environment go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Background:
    """Tasks that nobody awaits by name. `failed` is told of each that raised."""

    __slots__ = ("_failed", "_tasks")

    def __init__(self, failed: Callable[[BaseException], None] | None = None) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = failed

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work`; its failure is reported, never raised."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._failed is not None:
            self._failed(error)

    async def drain(self, within_s: float | None = None) -> None:
        """Wait until nothing is under way, or for `within_s` seconds; what is left then goes on."""
        while self._tasks:
            _, left = await asyncio.wait(set(self._tasks), timeout=within_s)
            if left and within_s is not None:
                return
