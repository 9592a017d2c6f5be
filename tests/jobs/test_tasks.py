"""A task queue for Python: one contract over this process and over the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.aws import Table
from edgewise.clock import Deadline, FakeClock, SystemClock
from edgewise.jobs.answers.dynamodb import DynamoShelf
from edgewise.jobs.tasks import (
    Batcher,
    LocalTasks,
    QueuedTasks,
    Retry,
    Task,
    TaskCancelled,
    TaskFailed,
    TaskLost,
    gather,
)
from edgewise.jobs.tasks.gather import Asked, Failed, Unasked
from edgewise.jobs.work import Delivery
from tests.jobs.fakes import MemoryBlobs, MemoryQueue


class World:
    """What the functions of these tests do, seen from outside."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gate = asyncio.Event()
        self.at_once = self.most = self.failures = 0


WORLD = World()


async def double(number: int, *, plus: int = 0) -> int:
    return number * 2 + plus


def plain(text: str) -> str:
    return text.upper()


async def gated(name: str) -> str:
    WORLD.at_once += 1
    WORLD.most = max(WORLD.most, WORLD.at_once)
    WORLD.log.append(name)
    try:
        await WORLD.gate.wait()
        return name
    finally:
        WORLD.at_once -= 1


async def failing(times: int) -> str:
    WORLD.failures += 1
    if WORLD.failures <= times:
        raise ValueError(f"failure {WORLD.failures}")
    return "at last"


FUNCTIONS = (double, plain, gated, failing)


@pytest.fixture(params=["local", "queued"])
async def tasks(request: pytest.FixtureRequest, state_table: Table) -> AsyncIterator[Any]:
    """Either back end with room for two at once; a worker behind the queued one."""
    global WORLD  # noqa: PLW0603
    WORLD = World()
    clock = SystemClock()
    if request.param == "local":
        local = LocalTasks(clock, max_concurrent=2)
        yield local
        await local.stop()
        return
    queue = MemoryQueue(clock)
    queued = QueuedTasks(
        DynamoShelf(state_table, MemoryBlobs(), clock, "task"), queue, clock, FUNCTIONS, max_concurrent=2
    )
    working: set[asyncio.Task[None]] = set()

    async def work() -> None:
        import orjson

        while True:
            for record in queue.receive(10):
                delivery = Delivery(record["receiptHandle"], 1, Deadline.after(clock, 900))
                name = orjson.loads(record["body"])["id"]
                working.add(asyncio.create_task(queued.worker.work(name, delivery)))
                queue.delete(record["receiptHandle"])
            await asyncio.sleep(0.01)

    worker = asyncio.create_task(work())
    yield queued
    for task in (worker, *working):
        task.cancel()
    await asyncio.gather(worker, *working, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


class TestContract:
    async def test_a_task_returns_what_its_function_returns(self, tasks: Any) -> None:
        task = await tasks.submit(double, 4, plus=1)
        assert await task.result(5) == 9
        assert await task.status() == "completed"
        assert await (await tasks.submit(plain, "a")).result(5) == "A"
        record = await tasks.record(task.id)
        assert record.ended_at is not None and record.function.endswith("double")

    async def test_a_failure_is_the_tasks_own(self, tasks: Any) -> None:
        task = await tasks.submit(failing, 9)
        with pytest.raises(TaskFailed, match="ValueError: failure 1"):
            await task.result(5)
        assert await task.status() == "failed"

    async def test_a_failure_is_tried_again_as_often_as_was_asked(self, tasks: Any) -> None:
        task = await tasks.submit(failing, 2, retry=Retry(tries=3, wait_s=0.01))
        assert await task.result(5) == "at last"
        assert WORLD.failures == 3

    async def test_no_more_run_at_once_than_may(self, tasks: Any) -> None:
        made = [await tasks.submit(gated, str(n)) for n in range(5)]
        await until(lambda: WORLD.at_once == 2)
        assert [await task.status() for task in made].count("completed") == 0
        WORLD.gate.set()
        assert [await task.result(5) for task in made] == ["0", "1", "2", "3", "4"]
        assert WORLD.most == 2

    async def test_the_higher_priority_is_begun_first(self, tasks: Any) -> None:
        first = [await tasks.submit(gated, "a"), await tasks.submit(gated, "b")]
        await until(lambda: WORLD.at_once == 2)
        rest = [await tasks.submit(gated, name, priority=p) for name, p in (("low", 0), ("high", 9), ("mid", 5))]
        await asyncio.sleep(0.3)
        WORLD.gate.set()
        for task in first + rest:
            await task.result(5)
        assert WORLD.log[2:] == ["high", "mid", "low"]

    async def test_waiting_for_a_result_ends_but_the_task_goes_on(self, tasks: Any) -> None:
        task = await tasks.submit(gated, "slow")
        with pytest.raises(TimeoutError):
            await task.result(0.05)
        WORLD.gate.set()
        assert await task.result(5) == "slow"

    async def test_a_cancelled_task_stays_cancelled_running_or_not(self, tasks: Any) -> None:
        made = [await tasks.submit(gated, str(n)) for n in range(3)]
        await until(lambda: WORLD.at_once == 2)
        for task in (made[2], made[0]):
            assert await task.cancel()
            assert not await task.cancel()
            assert await task.status() == "cancelled"
            with pytest.raises(TaskCancelled):
                await task.result(1)
        WORLD.gate.set()
        assert await made[1].result(5) == "1"
        assert not await made[1].cancel()

    async def test_an_unknown_task_is_lost(self, tasks: Any) -> None:
        with pytest.raises(TaskLost):
            await Task("task_none", tasks).result(1)


async def test_a_function_that_workers_do_not_have_is_refused_at_once(state_table: Table, clock: FakeClock) -> None:
    queued = QueuedTasks(DynamoShelf(state_table, MemoryBlobs(), clock, "task"), MemoryQueue(clock), clock, [double])
    with pytest.raises(KeyError):
        await queued.submit(plain, "a")
    with pytest.raises(TypeError):
        await queued.submit(double, object())


class TestBatcher:
    async def test_calls_are_joined_by_number_or_by_time(self, clock: FakeClock) -> None:
        seen: list[list[int]] = []

        async def run(items: list[int]) -> list[int]:
            seen.append(items)
            return [item * 10 for item in items]

        batcher = Batcher(run, clock, most=3, wait_s=1)
        calls = [asyncio.ensure_future(batcher(n)) for n in range(5)]
        await clock.advance(0.5)
        assert seen == [[0, 1, 2]]
        await clock.advance(1)
        assert seen == [[0, 1, 2], [3, 4]]
        assert await asyncio.gather(*calls) == [0, 10, 20, 30, 40]

    async def test_an_items_error_is_its_own_and_a_joint_one_is_everybodys(self, clock: FakeClock) -> None:
        async def run(items: list[int]) -> Sequence[int | BaseException]:
            if 9 in items:
                raise RuntimeError("all")
            return [ValueError("one") if item == 1 else item for item in items]

        batcher: Batcher[int, int] = Batcher(run, clock, most=2)
        outcome = await asyncio.gather(*(batcher(n) for n in (0, 1, 8, 9)), return_exceptions=True)
        assert outcome[0] == 0
        assert [str(error) for error in outcome[1:]] == ["one", "all", "all"]

    async def test_who_has_gone_is_not_asked_for(self, clock: FakeClock) -> None:
        seen: list[list[int]] = []

        async def run(items: list[int]) -> list[int]:
            seen.append(items)
            return items

        batcher = Batcher(run, clock, most=10, wait_s=1)
        calls = [asyncio.ensure_future(batcher(n)) for n in range(3)]
        await clock.advance(0.1)
        calls[1].cancel()
        await clock.advance(0.1)
        await batcher.close()
        assert seen == [[0, 2]]
        assert [await calls[0], await calls[2]] == [0, 2]


def spending(costs: dict[int, Decimal]) -> Callable[[int], Awaitable[Asked[int]]]:
    async def ask(prompt: int) -> Asked[int]:
        await asyncio.sleep(0)
        if prompt == 13:
            raise ValueError("unlucky")
        return Asked(prompt, costs[prompt])

    return ask


@given(
    costs=st.lists(st.decimals(min_value=0, max_value=1, places=2), min_size=1, max_size=12),
    budget=st.decimals(min_value=0, max_value=5, places=2),
    at_once=st.integers(1, 5),
)
async def test_gather_never_passes_its_budget_and_uses_it(costs: list[Decimal], budget: Decimal, at_once: int) -> None:
    ask = spending(dict(enumerate(costs)))
    outcome = await gather(
        range(len(costs)), ask, most_usd=lambda _: Decimal(1), budget_usd=budget, max_concurrent=at_once
    )
    spent = sum((o.cost_usd or Decimal(0) for o in outcome if isinstance(o, Asked)), Decimal(0))
    assert spent <= budget
    if any(isinstance(o, Unasked) for o in outcome):
        assert budget - spent < 1, "a prompt is left unasked only when there is no room for it"


async def test_gather_keeps_order_and_one_failure_to_itself() -> None:
    costs = {n: Decimal("0.1") for n in range(20)}
    outcome = await gather(range(20), spending(costs), most_usd=lambda _: Decimal(1))
    assert isinstance(outcome[13], Failed)
    assert [o.value for o in outcome if isinstance(o, Asked)] == [n for n in range(20) if n != 13]
