"""A task: a function, its arguments, and what became of it. The same whether it runs here or at the end of a queue."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from edgewise.clock import Clock

Status = Literal["pending", "running", "completed", "failed", "cancelled"]
ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
Function = Callable[..., Any]
"""What a task runs: `async def`, or a plain function, which is given a thread."""


class TaskFailed(Exception):
    """The function raised on its last try; the message has the error's class and text."""


class TaskCancelled(Exception):
    """The task was cancelled before it ended."""


class TaskLost(Exception):
    """Nothing is known of the task: it never was, or its record has expired."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a function that raises is run, and how long between: `wait_s`, doubled each time, half to one and a
    half times as long by chance, at most `longest_s`."""

    tries: int = 1
    wait_s: float = 0.5
    longest_s: float = 60.0

    def wait(self, failures: int, clock: Clock) -> float:
        """Seconds to wait after the failure with this number (from 1)."""
        return min(self.longest_s, self.wait_s * 2.0 ** (failures - 1)) * (0.5 + clock.uniform())


@dataclass(frozen=True, slots=True)
class Record:
    """A task as it stands. Times are seconds since the epoch; None: not yet."""

    id: str
    function: str
    status: Status = "pending"
    result: Any = None
    error: str | None = None
    created_at: float = 0.0
    ended_at: float | None = None


class Tasks(Protocol):
    """Where tasks are submitted and known."""

    async def submit(
        self, function: Function, /, *args: Any, priority: int = 0, retry: Retry | None = None, **named: Any
    ) -> Task: ...
    async def record(self, id: str) -> Record:
        """Raises TaskLost."""
        ...

    async def ended(self, id: str, timeout_s: float | None) -> Record:
        """The record when the task has ended. Raises TimeoutError, TaskLost."""
        ...

    async def cancel(self, id: str) -> bool:
        """False: it had ended."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """A submitted task, by its id; a new one may be made from an id that was written down."""

    id: str
    tasks: Tasks

    async def status(self) -> Status:
        return (await self.tasks.record(self.id)).status

    async def result(self, timeout_s: float | None = None) -> Any:
        """What the function returned. Raises TaskFailed, TaskCancelled, TimeoutError (the task goes on), TaskLost."""
        record = await self.tasks.ended(self.id, timeout_s)
        if record.status == "failed":
            raise TaskFailed(record.error)
        if record.status == "cancelled":
            raise TaskCancelled(self.id)
        return record.result

    async def cancel(self) -> bool:
        """Stop it, running or not. False: it had ended, and stays as it ended."""
        return await self.tasks.cancel(self.id)


class Gate:
    """At most `most` at once; of those that wait the highest priority first, then the longest waiting."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._count = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, priority: int) -> AsyncIterator[None]:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._count), turn))
        # What was submitted in one breath is let in by priority, not by who came to wait first.
        asyncio.get_running_loop().call_soon(self._let_in)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._free += 1
        self._let_in()

    def _let_in(self) -> None:
        while self._free > 0 and self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.cancelled():
                self._free -= 1
                turn.set_result(None)


async def call(function: Function, args: Any, named: Any) -> Any:
    """Run a function, in a thread if it is a plain one."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **named)
    return await asyncio.to_thread(function, *args, **named)


async def tried(function: Function, args: Any, named: Any, retry: Retry, clock: Clock) -> Any:
    """Run a function until it returns or has been tried often enough; its last exception is raised."""
    for failures in itertools.count(1):
        try:
            return await call(function, args, named)
        except Exception:
            if failures >= retry.tries:
                raise
        await clock.sleep(retry.wait(failures, clock))
    raise AssertionError("unreachable")


def told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def name_of(function: Function | str) -> str:
    """'package.module:function', under which workers know a function; a string is that name already."""
    return function if isinstance(function, str) else f"{function.__module__}:{function.__qualname__}"
