"""Workers in a shop: they take messages as Lambda's do, on a clock that only turns move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from edgewise.jobs.ports import Ask, Ran
from edgewise.jobs.room import Options
from edgewise.jobs.share import Share
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from edgewise.local.serve import job_source
from tests.jobs.rig import Rig, answer, chat_line, make_rig

BATCH_SIZE, WORKERS = job_source()
LINE_S = 1.0


class Shop:
    """Workers that take messages in the order in which they came, each with slots of its own; a line takes a second
    unless `line_s` says otherwise. Who began when is written down."""

    def __init__(
        self,
        options: Options | None = None,
        *,
        batch_size: int = BATCH_SIZE,
        line_s: Callable[[], float] = lambda: LINE_S,
        turn_s: float = 0.05,
    ) -> None:
        self.rig: Rig = make_rig(options=options)
        self.began: list[str] = []
        self._batch_size, self._line_s, self._turn_s = batch_size, line_s, turn_s

    async def run(self, ask: Ask) -> Ran:
        self.began.append(ask.tenant)
        await self.rig.clock.sleep(self._line_s())
        return Ran(200, answer(ask))

    async def _work(self) -> None:
        worker = Worker(self.rig.room, ChunkWork(self.rig.room, self.run, Share(self.rig.clock, 50)))
        queue = self.rig.queue
        while True:
            records: list[dict[str, Any]] = queue.receive(self._batch_size)
            if not records:
                await self.rig.clock.sleep(self._turn_s)
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
            await self.rig.clock.advance(self._turn_s)
        return float(self.rig.clock.now() - began)
