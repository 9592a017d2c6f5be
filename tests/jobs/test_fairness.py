"""A small batch beside a large one: whose turn it is, on a clock that only turns move."""

from __future__ import annotations

import pytest

from edgewise.clock import FakeClock
from edgewise.jobs.room import Options
from tests.jobs.shop import LINE_S, WORKERS, Shop


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
