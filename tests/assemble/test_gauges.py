"""Levels of the cache's memory become metrics once a minute."""

from __future__ import annotations

from edgewise.assemble.gauges import EVERY_S
from edgewise.assemble.house import build
from edgewise.clock import FakeClock
from edgewise.settings import Settings
from edgewise.words import Note


async def test_levels_are_told_once_a_minute(clock: FakeClock) -> None:
    house = build(Settings(root_key="ew_x", request_log=False), clock)
    note = Note("req_1", "/v1/chat/completions", clock.now())
    house.record.note(note)
    assert "CacheEntries" not in house.record.counters.all()
    await clock.advance(EVERY_S)
    house.record.note(note)
    house.record.note(note)
    told = house.record.counters.all()
    assert (told["CacheEntries"], told["CacheBytes"], told["CacheEvicted"]) == (0, 0, 0)
    await house.close()
