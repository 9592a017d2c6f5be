"""A small batch beside a large one: whose turn it is, on a clock that only turns move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edgewise.clock import FakeClock
from edgewise.jobs.ports import Ask, Ran
from edgewise.jobs.room import Options
from edgewise.jobs.share import Share
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from tests.jobs.rig import Rig, answer, chat_line, make_rig

WORKERS = 4
BATCH_SIZE = 4
LINE_S = 1.0


class Shop:
    """Workers that take messages in the order in which they came, each with slots of its own; every line takes a
    second. Who began when is written down."""

    def __init__(self, options: Options | None = None) -> None:
        self.rig: Rig = make_rig(options=options)
        self.began: list[str] = []

    async def run(self, ask: Ask) -> Ran:
        self.began.append(ask.tenant)
        await self.rig.clock.sleep(LINE_S)
        return Ran(200, answer(ask))

    async def _work(self) -> None:
        worker = Worker(self.rig.room, ChunkWork(self.rig.room, self.run, Share(self.rig.clock, 50)))
        queue = self.rig.queue
        while True:
            records: list[dict[str, Any]] = queue.receive(BATCH_SIZE)
            if not records:
                await self.rig.clock.sleep(0.05)
                continue
            await worker.handle({"Records": records}, 900.0)
            for record in records:
                queue.delete(record["receiptHandle"])

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        tasks = [asyncio.ensure_future(self._work()) for _ in range(WORKERS)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def submit(self, tenant: str, lines: int) -> str:
        batch = await self.rig.submit([chat_line(f"c{n}", f"{tenant} {n}") for n in range(lines)], tenant=tenant)
        return batch.id

    async def seconds_for(self, id: str) -> float:
        """Until the batch has ended, on a clock that goes on when all have had their turn."""
        began = self.rig.clock.now()
        while not (await self.rig.batch(id)).ended:
            await self.rig.clock.advance(0.05)
        return float(self.rig.clock.now() - began)


async def _alone() -> float:
    shop = Shop()
    async with shop.open():
        return await shop.seconds_for(await shop.submit("small", 10))


@pytest.mark.parametrize("after_s", [0.0, 2.3, 7.7, 20.0])
async def test_ten_lines_beside_ten_thousand_take_less_than_twice_their_time_alone(after_s: float) -> None:
    """At whatever moment they come: while the large file is checked, and when its chunks have grown long."""
    alone = await _alone()
    shop = Shop()
    async with shop.open():
        await shop.submit("large", 10_000)
        await shop.rig.clock.advance(0.05)
        while shop.rig.clock.now() < 1_800_000_000.0 + after_s:
            await shop.rig.clock.advance(0.05)
        began = len(shop.began)
        beside = await shop.seconds_for(await shop.submit("small", 10))
    assert beside <= 2 * alone, (alone, beside)
    # In turns: while the ten ran, the large one began at most what its own workers have slots for, twice over.
    assert len(shop.began) - began <= 10 + 2 * 3 * 50


async def test_a_large_batch_leaves_a_worker_free(clock: FakeClock) -> None:
    """Its chunks on the queue are fewer than the workers."""
    shop = Shop()
    async with shop.open():
        await shop.submit("large", 3_000)
        most = 0
        for _ in range(100):
            await shop.rig.clock.advance(0.1)
            held = sum(chunk.lease_until > shop.rig.clock.now() for chunk in shop.rig.room.batches.chunks.values())  # type: ignore[attr-defined]
            most = max(most, held)
    assert most == Options().window_chunks == WORKERS - 1


async def test_many_tenants_beside_a_large_one_are_served_in_their_turn() -> None:
    """Six of ten lines each: theirs begin before the large one has begun twice as many as it has slots."""
    shop = Shop()
    async with shop.open():
        await shop.submit("large", 5_000)
        await shop.rig.clock.advance(3)
        began = len(shop.began)
        small = [await shop.submit(f"small{n}", 10) for n in range(6)]
        seconds = [await shop.seconds_for(id) for id in small]  # noqa: A001
    turns = shop.began[began:]
    last = max(place for place, tenant in enumerate(turns) if tenant != "large")
    assert turns[:last].count("large") <= 3 * 50 * 2
    assert sum(seconds) <= 2 * LINE_S + 1
