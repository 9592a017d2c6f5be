"""The worker beside the gateway of `edgewise dev`: what Lambda outlives, it does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from edgewise.clock import FakeClock
from edgewise.local.asgi import Beside
from edgewise.local.esm import PAUSE_S

MESSAGE = {"MessageId": "m", "ReceiptHandle": "r", "Body": "{}"}


class Queue:
    """An `Aws` whose queue has the same message until it is deleted."""

    def __init__(self) -> None:
        self.deleted = 0

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        assert service == "sqs" and arguments["QueueUrl"] == "url"
        if operation == "delete_message":
            self.deleted += 1
        return {} if self.deleted else {"Messages": [MESSAGE]}


class Clumsy:
    """A worker that breaks at its first batch."""

    def __init__(self) -> None:
        self.turns = 0

    async def handle(self, event: Any, left_s: float) -> dict[str, Any]:
        self.turns += 1
        if self.turns == 1:
            raise ZeroDivisionError
        return {"batchItemFailures": []}


async def test_a_batch_that_breaks_is_told_and_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, queue, told, worker = FakeClock(), Queue(), list[BaseException](), Clumsy()
    house = SimpleNamespace(
        clock=clock,
        aws=queue,
        settings=SimpleNamespace(jobs_queue_url="url"),
        record=SimpleNamespace(failed=told.append),
    )
    monkeypatch.setattr("edgewise.assemble.jobs.worker_of", lambda _: worker)
    working = asyncio.create_task(Beside(None, house)._work())
    for _ in range(3):
        await clock.advance(PAUSE_S)
    working.cancel()
    assert (worker.turns, queue.deleted) == (2, 1)
    assert [type(error) for error in told] == [ZeroDivisionError]
