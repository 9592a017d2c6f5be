"""Tasks from a program, over the queue, to the worker function as Lambda imports it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from edgewise.assemble import tasks as tasks_of
from edgewise.aws import Aws, Table
from edgewise.clock import SystemClock
from edgewise.jobs.tasks import QueuedTasks, Retry, TaskCancelled, TaskFailed
from edgewise.local.esm import event_of
from edgewise.settings import Settings
from edgewise.url_event import Context
from tests.functions import errands
from tests.functions.conftest import event
from tests.jobs.stack import pump

HERE = "tests.functions.errands"
LISTED = ", ".join(f"{HERE}:{name}" for name in ("double", "plain", "failing", "endless", "noted", "unwritable"))


@dataclass
class Deployed:
    tasks: QueuedTasks
    aws: Aws
    queues: tuple[str, str]
    handler: Any

    async def handle(self, found: dict[str, Any], _left_s: float = 0) -> Any:
        """What Lambda does, in a thread of its own: the handler brings its own event loop."""
        clock = SystemClock()
        context = Context("id", "arn", int((clock.now() + 900) * 1000), clock)
        return await asyncio.to_thread(self.handler, found, context)


@pytest.fixture
async def deployed(
    function: Callable[..., ModuleType],
    moto_aws: Aws,
    moto_url: str,
    state_table: Table,
    bucket: str,
    queues: tuple[str, str],
) -> AsyncIterator[Deployed]:
    """The worker with room for two tasks at once, and a program that submits to it."""
    places = {
        "local_aws_url": moto_url,
        "state_table": state_table.name,
        "bucket": bucket,
        "jobs_queue_url": queues[0],
        "dead_letter_queue_url": queues[1],
        "tasks": LISTED,
    }
    errands.LOG.clear()
    module = function("worker/handler", jobs_concurrency="2", **places)
    told = {f"EDGEWISE_{name.upper()}": value for name, value in places.items()}
    yield Deployed(tasks_of(Settings.from_env(told)), moto_aws, queues, module.handler)
    await asyncio.to_thread(module.handler.close)


@pytest.fixture
async def pumping(deployed: Deployed) -> AsyncIterator[None]:
    """Messages go to the worker by themselves."""
    task = asyncio.create_task(pump(deployed.aws, deployed.queues[0], deployed.handle))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.usefixtures("pumping")
async def test_what_is_submitted_is_run_by_the_worker(deployed: Deployed) -> None:
    """By the function or by its name, `async def` or not."""
    made = [
        await deployed.tasks.submit(errands.double, 4, plus=1),
        await deployed.tasks.submit(f"{HERE}:plain", "a"),
        await deployed.tasks.submit(errands.failing, 2, retry=Retry(tries=3, wait_s=0.01)),
    ]
    assert [await task.result(10) for task in made] == [9, "A", "at last"]
    assert [await task.status() for task in made] == ["completed"] * 3
    broken = await deployed.tasks.submit(errands.failing, 99)
    with pytest.raises(TaskFailed, match="ValueError: failure 4"):
        await broken.result(10)
    unwritable = await deployed.tasks.submit(errands.unwritable)
    with pytest.raises(TaskFailed, match="TypeError"):
        await unwritable.result(10)
    assert errands.LOG.count("unwritable") == 1, "it is not run again for what nobody could write down"


@pytest.mark.usefixtures("pumping")
async def test_a_running_task_is_stopped_when_it_is_cancelled(deployed: Deployed) -> None:
    task = await deployed.tasks.submit(errands.endless, "e")
    while "e" not in errands.LOG:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert await task.status() == "running"
    with pytest.raises(TimeoutError):
        await task.result(0.05)
    assert await task.cancel() and not await task.cancel()
    while "e stopped" not in errands.LOG:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    with pytest.raises(TaskCancelled):
        await task.result(1)


async def test_what_one_event_brings_is_run_by_priority_and_so_many_at_once(deployed: Deployed) -> None:
    names = {"low": 0, "high": 9, "mid": 5, "last": -1, "next": 4}
    # Long enough that the others' records are read, and so they wait, while the first two run.
    made = [await deployed.tasks.submit(errands.noted, name, 0.7, priority=how) for name, how in names.items()]
    got = await deployed.aws.call("sqs", "receive_message", QueueUrl=deployed.queues[0], MaxNumberOfMessages=10)
    found = event_of(got["Messages"], "arn:aws:sqs:us-east-1:1:jobs")
    assert await deployed.handle(found) == {"batchItemFailures": []}
    assert [await task.result(1) for task in made] == list(names)
    begun = [line.split()[0] for line in errands.LOG if line.endswith("begins")]
    assert begun[2:] == sorted(begun[2:], key=lambda name: -names[name]), "of those that wait the highest is next"
    open_now = most = 0
    for line in errands.LOG:
        open_now += 1 if line.endswith("begins") else -1
        most = max(most, open_now)
    assert most == 2


async def test_a_function_that_is_not_listed_is_never_run(deployed: Deployed) -> None:
    """Neither by a program that submits it, nor by a record that somebody wrote past it."""
    with pytest.raises(KeyError):
        await deployed.tasks.submit(errands.private)
    forged = await deployed.tasks.submit(errands.plain, "a")
    table = Table(deployed.aws, str(deployed.tasks._shelf._table.name))  # type: ignore[attr-defined]
    item = await table.get(f"task#{forged.id}", "meta", consistent=True)
    assert item is not None
    await table.put({**item, "pk": "task#task_forged", "id": "task_forged", "url": f"{HERE}:private"})
    await deployed.handle(event("sqs_task"))
    record = await deployed.tasks.record("task_forged")
    assert (record.status, record.error) == ("failed", f"LookupError: this worker has no function {HERE}:private")


def test_the_list_is_read_with_commas_and_holds_names_only() -> None:
    assert Settings.from_env({"EDGEWISE_TASKS": "a.b:c, d:e.f"}).tasks == ("a.b:c", "d:e.f")
    assert Settings.from_env({"EDGEWISE_TASKS": ""}).tasks == ()
    for wrong in ("a.b", "a.b:", ":c", "a b:c", "a.b:c()"):
        with pytest.raises(ValueError, match="tasks"):
            Settings.from_env({"EDGEWISE_TASKS": wrong})
    with pytest.raises(ValueError, match="EDGEWISE_STATE_TABLE"):
        tasks_of(Settings())


def test_the_recorded_event_is_what_a_task_travels_as() -> None:
    (record,) = event("sqs_task")["Records"]
    assert json.loads(record["body"]) == {"kind": "task", "id": "task_forged"}
