"""Batch work takes its share, in turn by tenant, and yields."""

from __future__ import annotations

import asyncio

from edgewise.clock import FakeClock
from edgewise.jobs.ports import Ask, Ran
from edgewise.jobs.share import Share
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from tests.jobs.rig import chat_line, make_rig


async def _line(share: Share, tenant: str, log: list[str], clock: FakeClock) -> None:
    async with share.slot(tenant):
        log.append(tenant)
        await clock.sleep(1)


async def test_tenants_take_turns_however_long_their_queues(clock: FakeClock) -> None:
    share = Share(clock, 2)
    log: list[str] = []
    lines = [asyncio.ensure_future(_line(share, "large", log, clock)) for _ in range(20)]
    await clock.advance(0.5)
    lines += [asyncio.ensure_future(_line(share, "small", log, clock)) for _ in range(3)]
    await clock.advance(3)
    assert log[:8] == ["large", "large", "large", "small", "large", "small", "large", "small"]
    await clock.advance(30)
    assert share.running == 0 and len(log) == 23
    await asyncio.gather(*lines)


async def test_a_newcomer_does_not_wait_for_a_line_of_who_has_all_the_slots(clock: FakeClock) -> None:
    share = Share(clock, 10)
    log: list[str] = []
    lines = [asyncio.ensure_future(_line(share, "large", log, clock)) for _ in range(30)]
    await clock.advance(0.5)
    lines += [asyncio.ensure_future(_line(share, "small", log, clock)) for _ in range(5)]
    await clock.advance(0.1)
    assert (log.count("large"), log.count("small"), share.running) == (10, 2, 12)
    share.throttled(1)
    lines.append(asyncio.ensure_future(_line(share, "third", log, clock)))
    await clock.advance(0.1)
    assert "third" not in log, "not when a provider is too busy"
    await clock.advance(30)
    assert share.running == 0 and len(log) == 36
    await asyncio.gather(*lines)


async def test_a_throttled_provider_halves_the_share_and_holds_it(clock: FakeClock) -> None:
    share = Share(clock, 8)
    log: list[str] = []
    share.throttled(10)
    share.throttled(10)
    assert share.limit == 4, "refusals of calls that were under way together count once"
    lines = [asyncio.ensure_future(_line(share, "t", log, clock)) for _ in range(8)]
    await clock.advance(9)
    assert log == []
    await clock.advance(1.5)
    assert len(log) == 4
    for _ in range(40):
        share.eased()
    assert share.limit == 8
    await clock.advance(10)
    await asyncio.gather(*lines)


async def test_who_stops_waiting_leaves_no_hole(clock: FakeClock) -> None:
    share = Share(clock, 1)
    log: list[str] = []
    lines = [asyncio.ensure_future(_line(share, "t", log, clock)) for _ in range(3)]
    await clock.advance(0.1)
    lines[1].cancel()
    lines[0].cancel()
    await clock.advance(3)
    assert len(log) == 2 and share.running == 0
    await asyncio.gather(*lines, return_exceptions=True)


async def test_batch_work_waits_while_interactive_requests_are_throttled() -> None:
    rig = make_rig()
    busy_s = 30.0

    async def pressure(_model: str) -> float:
        left_s: float = until - rig.clock.tick()
        return max(0.0, left_s)

    until = rig.clock.tick() + busy_s
    began: list[float] = []

    async def run(ask: Ask) -> Ran:
        began.append(rig.clock.tick())
        return await rig.run(ask)

    await rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(5)])
    await rig.pump(Worker(rig.room, ChunkWork(rig.room, run, rig.share, pressure)))
    assert len(began) == 5 and min(began) >= until
