"""What was asked most is counted where the operator wants it, and only there."""

from __future__ import annotations

import pytest

from edgewise.cache.build import near_of, room_of, store_of
from edgewise.cache.dynamodb_tally import DynamoTally
from edgewise.cache.options import CacheOptions
from edgewise.cache.popular import MOST_COUNTED, LocalTally, Popular, Question, Tally, day_of
from edgewise.chat import CacheAsk
from edgewise.clock import FakeClock
from tests.cache.parts import key_of, plan_of, query_of


@pytest.fixture(params=["local", "dynamodb"])
def tally(request: pytest.FixtureRequest, clock: FakeClock) -> Tally:
    return LocalTally() if request.param == "local" else DynamoTally(request.getfixturevalue("cache_table"), clock)


async def test_counts_of_all_processes_add_up(tally: Tally) -> None:
    """By day and scope, most first; the body is the first one told."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Où?"}]}
    for scope, name, times in (("acme", "a", 2), ("acme", "b", 3), ("acme", "a", 5), ("umbrella", "c", 9)):
        await tally.add("2026-01-31", Question(scope, key_of(name), times, body))
    await tally.add("2026-02-01", Question("acme", key_of("d"), 100, body))
    found = await tally.top("2026-01-31", "acme", 10)
    assert [(q.key, q.times) for q in found] == [(key_of("a"), 7), (key_of("b"), 3)]
    assert found[0].body == body
    assert len(await tally.top("2026-01-31", "acme", 1)) == 1
    assert await tally.top("2026-01-30", "acme", 1) == []


async def test_a_room_tells_every_minute(clock: FakeClock) -> None:
    """Hits and misses alike are counted, and told when a minute has passed."""
    options = CacheOptions(keep_requests=True)
    room = room_of(clock, options, near_of(clock, "lru", 9, 9_999), store_of(clock, None, None, 1))
    assert room.popular is not None
    for _ in range(3):
        verdict = await room.look(query_of(), plan_of())
        await room.give_up(query_of(), getattr(verdict, "lead", None), None)
    await clock.advance(60)
    assert await room.popular.tally.top(day_of(clock.now()), "acme", 5) == []
    await room.look(query_of(), plan_of())
    (found,) = await room.popular.tally.top(day_of(clock.now()), "acme", 5)
    assert (found.times, found.body) == (4, plan_of().request.body)


def test_nothing_is_kept_unless_wanted(clock: FakeClock) -> None:
    """Off by default; and never what was flagged or is not to be stored."""
    room = room_of(clock, CacheOptions(), near_of(clock, "lru", 9, 9_999), store_of(clock, None, None, 1))
    assert room.popular is None
    popular = Popular(clock, LocalTally())
    popular.saw(query_of(), plan_of(flags=("pii:email",)))
    popular.saw(query_of(), plan_of(ask=CacheAsk(no_store=True)))
    assert popular._counts == {}


def test_counting_is_bounded(clock: FakeClock) -> None:
    """Singles make room for what is asked again."""
    popular = Popular(clock, LocalTally())
    popular.saw(query_of("often"), plan_of())
    popular.saw(query_of("often"), plan_of())
    for number in range(MOST_COUNTED * 2):
        popular.saw(query_of(str(number)), plan_of())
        assert len(popular._counts) <= MOST_COUNTED
    assert popular._counts["acme", query_of("often").key][0] == 2
