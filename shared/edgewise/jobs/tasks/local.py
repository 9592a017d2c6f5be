"""Tasks in this process: any function, any arguments, gone with the process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from edgewise.clock import Clock
from edgewise.jobs.tasks.task import ENDED, Function, Gate, Record, Retry, Task, TaskLost, name_of, told, tried


class LocalTasks:
    """Runs at most `max_concurrent` at once. Of those that have ended the last `kept` are remembered."""

    def __init__(self, clock: Clock, *, max_concurrent: int = 10, kept: int = 10_000) -> None:
        self._clock = clock
        self._gate = Gate(max_concurrent)
        self._kept = kept
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._running: dict[str, asyncio.Task[None]] = {}

    async def submit(
        self, function: Function, /, *args: Any, priority: int = 0, retry: Retry | None = None, **named: Any
    ) -> Task:
        id = self._clock.token("task_")  # noqa: A001
        self._records[id] = Record(id, name_of(function), created_at=self._clock.now())
        run = self._run(id, function, args, named, priority, retry or Retry())
        self._running[id] = asyncio.get_running_loop().create_task(run)
        return Task(id, self)

    async def _run(self, id: str, function: Function, args: Any, named: Any, priority: int, retry: Retry) -> None:
        try:
            async with self._gate.place(priority):
                self._records[id] = replace(self._records[id], status="running")
                result = await tried(function, args, named, retry, self._clock)
        except asyncio.CancelledError:
            self._end(id, status="cancelled")
        except Exception as error:  # noqa: BLE001 - an edge: whatever a function raises is its task's error
            self._end(id, status="failed", error=told(error))
        else:
            self._end(id, status="completed", result=result)

    def _end(self, id: str, **how: Any) -> None:
        self._records[id] = replace(self._records[id], ended_at=self._clock.now(), **how)
        self._records.move_to_end(id)
        self._running.pop(id, None)
        if len(self._records) - len(self._running) > self._kept:
            oldest = next(name for name, record in self._records.items() if record.status in ENDED)
            del self._records[oldest]

    async def record(self, id: str) -> Record:
        if id not in self._records:
            raise TaskLost(id)
        return self._records[id]

    async def ended(self, id: str, timeout_s: float | None) -> Record:
        running = self._running.get(id)
        if running is not None:
            waiting = asyncio.ensure_future(self._clock.sleep(timeout_s)) if timeout_s is not None else None
            await asyncio.wait({running, waiting} if waiting else {running}, return_when=asyncio.FIRST_COMPLETED)
            if waiting is not None:
                waiting.cancel()
            if not running.done():
                raise TimeoutError(f"{id} has not ended after {timeout_s} s")
        return await self.record(id)

    async def cancel(self, id: str) -> bool:
        running = self._running.get(id)
        if running is None:
            await self.record(id)
            return False
        if not running.cancel():
            return False
        await asyncio.wait({running})
        if self._records[id].status not in ENDED:
            # It was cancelled before its first step, so nothing of it ran that could have said so.
            self._end(id, status="cancelled")
        return self._records[id].status == "cancelled"

    async def stop(self) -> None:
        """Cancel what has not ended, and wait until it is gone."""
        for id in list(self._running):  # noqa: A001
            await self.cancel(id)
