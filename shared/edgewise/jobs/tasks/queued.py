"""Tasks over the jobs queue: a function by its name, arguments and results as JSON, run once by whichever worker.

Both sides are given the same list of functions, which is all that a worker will ever run: a message names a task, a
task names a function, and a name that is not on the list is refused on either side, whoever wrote it. Functions may be
listed by name (`package.module:function`); a module is then imported when the first of its tasks is run.

Once means what it means for a background answer (see `edgewise.jobs.answers.work`): the end is one conditional write,
but a worker that dies runs the function no further, and the next one runs it from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any, cast

import orjson

from edgewise.clock import Clock
from edgewise.jobs.answers.kept import Kept, Made, Shelf, State
from edgewise.jobs.answers.log import Log
from edgewise.jobs.answers.work import AnswerWork
from edgewise.jobs.ports import Calls, Meter, NoMeter, Queue
from edgewise.jobs.room import Options
from edgewise.jobs.share import Share
from edgewise.jobs.tasks.task import ENDED, Function, Gate, Record, Retry, Status, Task, TaskLost, name_of, told, tried

POLL_S = 0.25
KEPT_S = 7 * 86_400
_STATUS: dict[State, Status] = {
    "queued": "pending",
    "in_progress": "running",
    "completed": "completed",
    "incomplete": "failed",
    "failed": "failed",
    "cancelled": "cancelled",
}


class QueuedTasks:
    """Both ends of the queue. `worker` is the handler for messages of the kind 'task'."""

    def __init__(
        self,
        shelf: Shelf,
        queue: Queue,
        clock: Clock,
        functions: Iterable[Function | str],
        *,
        max_concurrent: int = 10,
        group: str = "tasks",
        meter: Meter | None = None,
        options: Options | None = None,
    ) -> None:
        self._shelf, self._queue, self._clock, self._group = shelf, queue, clock, group
        self._functions: dict[str, Function | str] = {name_of(function): function for function in functions}
        self._gate = Gate(max_concurrent)
        self.worker = AnswerWork(
            shelf,
            queue,
            clock,
            # The gate bounds what runs; the share only has to let in whoever waits there by priority.
            Share(clock, 1_000_000),
            meter or NoMeter(),
            make=self._make,
            refuse=_refused,
            options=options,
            kind="task",
        )

    async def submit(
        self, function: Function | str, /, *args: Any, priority: int = 0, retry: Retry | None = None, **named: Any
    ) -> Task:
        """A function may be given by its name, if its code is the worker's alone.

        Raises KeyError for one that workers do not have, TypeError for arguments that are not JSON."""
        name = name_of(function)
        if name not in self._functions:
            raise KeyError(f"no worker has the function {name}")
        now, how = int(self._clock.now()), retry or Retry()
        kept = Kept(
            id=self._clock.token("task_"),
            tenant=self._group,
            key_id="",
            url=name,
            created_at=now,
            expires_at=now + KEPT_S,
            state="queued",
            background=True,
            ask={
                "args": list(args),
                "named": named,
                "priority": priority,
                "retry": [how.tries, how.wait_s, how.longest_s],
            },
        )
        await self._shelf.put(kept)
        await self._queue.send({"kind": "task", "id": kept.id}, group=self._group)
        return Task(kept.id, self)

    async def _make(self, kept: Kept, _calls: Calls, _timeout_s: float, _log: Log) -> Made:
        assert kept.ask is not None
        async with self._gate.place(int(kept.ask["priority"])):
            tries, wait_s, longest_s = kept.ask["retry"]
            retry = Retry(int(tries), wait_s, longest_s)
            try:
                function = self._function(kept.url)
                result = await tried(function, kept.ask["args"], kept.ask["named"], retry, self._clock)
                # Here, for what cannot be written down is the function's error too.
                orjson.dumps(result)
            except Exception as error:  # noqa: BLE001 - an edge: whatever a function raises is its task's error
                return Made("failed", {"error": told(error), "at": self._clock.now()})
        return Made("completed", {"result": result, "at": self._clock.now()})

    def _function(self, name: str) -> Function:
        """Raises LookupError for a function that is not listed, and whatever its import raises."""
        listed = self._functions.get(name)
        if listed is None:
            raise LookupError(f"this worker has no function {name}")
        if isinstance(listed, str):
            module, _, path = listed.partition(":")
            found: Any = import_module(module)
            for word in path.split("."):
                found = getattr(found, word)
            listed = self._functions[name] = cast(Function, found)
        return listed

    async def record(self, id: str) -> Record:
        kept = await self._shelf.get(id)
        if kept is None:
            raise TaskLost(id)
        wire = kept.wire
        return Record(
            id, kept.url, _STATUS[kept.state], wire.get("result"), wire.get("error"), kept.created_at, wire.get("at")
        )

    async def ended(self, id: str, timeout_s: float | None) -> Record:
        until = None if timeout_s is None else self._clock.tick() + timeout_s
        while (record := await self.record(id)).status not in ENDED:
            if until is not None and self._clock.tick() >= until:
                raise TimeoutError(f"{id} has not ended after {timeout_s} s")
            await self._clock.sleep(POLL_S if until is None else min(POLL_S, max(0.0, until - self._clock.tick())))
        return record

    async def cancel(self, id: str) -> bool:
        await self.record(id)
        return await self._shelf.end(id, Made("cancelled", {"at": self._clock.now()}))


def _refused(_kept: Kept, reason: str) -> Made:
    return Made("failed", {"error": reason})
