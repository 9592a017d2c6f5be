"""What was asked most is counted where the operator wants it, and only there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgewise.aws import Table
from edgewise.cache.build import near_of, room_of, store_of
from edgewise.cache.dynamodb_tally import DynamoTally
from edgewise.cache.freshness import Lifetimes
from edgewise.cache.options import CacheOptions
from edgewise.cache.popular import MOST_COUNTED, LocalTally, Popular, Question, Tally, day_of
from edgewise.cache.room import CacheRoom
from edgewise.chat import Answer, CacheAsk
from edgewise.clock import FakeClock
from edgewise.errors import UpstreamRefused
from edgewise.words import Hit, Miss
from tests.cache.parts import ATTEMPT, answer_of, key_of, plan_of, query_of


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
    """What was kept and what was hit is counted, and told when a minute has passed."""
    options = CacheOptions(keep_requests=True)
    room = room_of(clock, options, near_of(clock, "lru", 9, 9_999), store_of(clock, None, None, 1))
    assert room.popular is not None
    await answered(room, answer_of())
    for _ in range(2):
        assert isinstance(await room.look(query_of(), plan_of()), Hit)
    await clock.advance(60)
    assert await room.popular.tally.top(day_of(clock.now()), "acme", 5) == []
    await room.look(query_of(), plan_of())
    (found,) = await room.popular.tally.top(day_of(clock.now()), "acme", 5)
    assert (found.times, found.body) == (4, plan_of().request.body)


async def answered(room: CacheRoom, answer: Answer, text: str = "What is the capital of France?") -> None:
    query = query_of(text)
    verdict = await room.look(query, plan_of())
    await room.offer(query, plan_of(), getattr(verdict, "lead", None), answer, ATTEMPT)


async def test_a_dry_run_asks_nothing_and_is_not_counted(clock: FakeClock) -> None:
    """Nor does it lead: whoever asks in earnest would wait for an answer that never comes."""
    options = CacheOptions(keep_requests=True)
    room = room_of(clock, options, near_of(clock, "lru", 9, 9_999), store_of(clock, None, None, 1))
    dry = replace(plan_of(), request=replace(plan_of().request, routing={"dry_run": True}))
    verdict = await room.look(query_of(), dry)
    assert isinstance(verdict, Miss) and verdict.lead is None
    await answered(room, answer_of())
    assert isinstance(await room.look(query_of(), dry), Hit)
    await clock.advance(60)
    await room.look(query_of(), plan_of())
    assert room.popular is not None
    (found,) = await room.popular.tally.top(day_of(clock.now()), "acme", 5)
    assert found.times == 2
    assert (room.stats.hits.total(), room.stats.misses.total()) == (1, 1)


async def test_what_cannot_be_kept_is_not_counted(clock: FakeClock) -> None:
    """Warming it would cost a call each time and fill nothing; a refusal that is kept for seconds is no answer."""
    options = CacheOptions(keep_requests=True)
    room = room_of(clock, options, near_of(clock, "lru", 9, 9_999), store_of(clock, None, None, 1))
    assert room.popular is not None
    for _ in range(3):
        await answered(room, answer_of("Once upon a", finish="length"), "Tell me all.")
        verdict = await room.look(query_of("status"), plan_of())
        await room.give_up(query_of("status"), getattr(verdict, "lead", None), UpstreamRefused("no"))
    await answered(room, answer_of())
    await room.popular.flush()
    found = await room.popular.tally.top(day_of(clock.now()), "acme", 5)
    assert [q.key for q in found] == [query_of().key]


async def test_one_request_that_renews_an_answer_is_counted_once(clock: FakeClock) -> None:
    options = CacheOptions(keep_requests=True, lifetimes=Lifetimes(ttl_s=10, stale_s=100, jitter=0))
    room = room_of(clock, options, near_of(clock, "lru", 9, 9_999), store_of(clock, None, None, 1))
    assert room.popular is not None
    await answered(room, answer_of())
    await clock.advance(15)
    found = await room.look(query_of(), plan_of())
    assert isinstance(found, Hit) and found.refresh is not None
    await room.offer(query_of(), plan_of(), found.refresh, answer_of(), ATTEMPT)
    await room.popular.flush()
    assert [q.times for q in await room.popular.tally.top(day_of(clock.now()), "acme", 5)] == [2]


async def test_a_body_that_fits_no_row_keeps_no_other_from_being_told(cache_table: Table, clock: FakeClock) -> None:
    popular = Popular(clock, DynamoTally(cache_table, clock))
    long = {"model": "m", "messages": [{"role": "user", "content": "".join(str(n) for n in range(150_000))}]}
    for _ in range(2):
        popular.saw(query_of("long"), plan_of(body=long))
    popular.saw(query_of("short"), plan_of())
    await popular.flush()
    assert [q.key for q in await popular.tally.top(day_of(clock.now()), "acme", 5)] == [query_of("short").key]


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
