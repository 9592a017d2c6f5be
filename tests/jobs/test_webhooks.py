"""The word that a batch has ended: checked when it is asked for, and not lost with the worker that owed it."""

from __future__ import annotations

from typing import Any

import pytest

from edgewise.errors import InvalidRequest
from edgewise.jobs import upkeep
from edgewise.jobs.batch import Batch
from edgewise.jobs.finish import TELLING_S
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from tests.jobs.rig import Rig, chat_line, make_rig

HOOK = "https://hooks.example/batches"


class Ear:
    """A client's server, which may be down or take its worker with it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.up = True
        self.kills = 0

    async def __call__(self, batch: Batch) -> bool:
        if self.kills:
            self.kills -= 1
            raise RuntimeError("the worker died before it had told")
        if self.up:
            self.heard.append((batch.id, batch.status))
        return self.up


async def _allowed(url: str) -> None:
    if url != HOOK:
        raise InvalidRequest("Webhooks are not sent to this host.", param="x-edgewise-webhook")


class Told:
    def __init__(self, lines: int = 3) -> None:
        self.rig: Rig = make_rig()
        self.rig.room.check_url = _allowed
        self.ear = Ear()
        self.worker = Worker(self.rig.room, ChunkWork(self.rig.room, self.rig.run, self.rig.share), ended=self.ear)
        self.lines = [chat_line(f"c{n}", f"t{n}") for n in range(lines)]

    async def submit(self, content: Any = None) -> Batch:
        return await self.rig.submit(content or self.lines, metadata={"webhook_url": HOOK})

    async def active(self) -> list[str]:
        return [name async for name in self.rig.room.batches.active()]


@pytest.mark.parametrize("lines", [3, 250])
async def test_the_end_is_told_once(lines: int) -> None:
    told = Told(lines)
    batch = await told.submit()
    await told.rig.pump(told.worker)
    assert told.ear.heard == [(batch.id, "completed")]
    await told.rig.clock.advance(600)
    assert await upkeep.sweep(told.rig.room) == 0
    assert await told.active() == []


async def test_a_file_that_is_no_good_is_told_too() -> None:
    told = Told()
    batch = await told.submit(b"nonsense\n")
    await told.rig.pump(told.worker)
    assert told.ear.heard == [(batch.id, "failed")]
    assert await told.active() == []


@pytest.mark.parametrize("lines", [3, 250])
@pytest.mark.parametrize("lost", [False, True])
async def test_a_worker_that_dies_before_it_has_told_leaves_a_debt(lines: int, *, lost: bool) -> None:
    """Its message comes again; where that is lost too, upkeep knows."""
    told = Told(lines)
    told.ear.kills = 1
    batch = await told.submit()
    while not (await told.rig.batch(batch.id)).ended:
        await told.rig.deliver(told.worker, told.rig.queue.receive(1))
    assert told.ear.heard == []
    if lost:
        told.rig.queue.messages.clear()
    assert await upkeep.sweep(told.rig.room) == 1
    await told.rig.pump(told.worker)
    assert (batch.id, "completed") in told.ear.heard
    assert await told.active() == []


async def test_a_server_that_is_down_is_told_when_it_is_up() -> None:
    told = Told()
    told.ear.up = False
    batch = await told.submit()
    await told.rig.pump(told.worker)
    tries = 0
    for _ in range(12):
        await told.rig.clock.advance(300)
        tries += await upkeep.sweep(told.rig.room)
        await told.rig.pump(told.worker)
    assert 3 <= tries <= 6, "the waits double"
    told.ear.up = True
    await told.rig.clock.advance(7200)
    await upkeep.sweep(told.rig.room)
    await told.rig.pump(told.worker)
    assert told.ear.heard == [(batch.id, "completed")]
    assert await told.active() == []


async def test_after_a_day_nobody_is_told_any_more() -> None:
    told = Told()
    told.ear.up = False
    await told.submit()
    await told.rig.pump(told.worker)
    told.rig.clock.time += TELLING_S + 1
    assert await upkeep.sweep(told.rig.room) == 1
    await told.rig.pump(told.worker)
    assert await told.active() == []


async def test_a_url_that_may_not_be_called_is_refused_when_it_is_given() -> None:
    told = Told()
    for check, url in ((_allowed, "http://169.254.169.254/"), (None, HOOK)):
        told.rig.room.check_url = check
        with pytest.raises(InvalidRequest) as caught:
            await told.rig.submit(told.lines, metadata={"webhook_url": url})
        assert (caught.value.status, caught.value.param) == (400, "metadata.webhook_url")
    assert told.rig.queue.sent == []
