"""Limits: a minute that slides, tokens that are corrected, flights that come back, OpenAI's headers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.aws import Table
from edgewise.chat import Usage
from edgewise.clock import FakeClock
from edgewise.errors import RateLimited
from edgewise.policy.dynamodb import DynamoMinutes
from edgewise.policy.limits import Counts, Limiter, MemoryMinutes, Minutes, go_duration
from edgewise.policy.terms import Limits
from edgewise.policy.tills import MemoryTills
from tests.policy.rig import Rig, attempt, choice, request


@pytest.fixture(params=["memory", "dynamodb"])
def minutes(request: pytest.FixtureRequest) -> Minutes:
    if request.param == "memory":
        return MemoryMinutes()
    table: Table = request.getfixturevalue("state_table")
    return DynamoMinutes(table)


async def test_a_count_never_passes_its_room(minutes: Minutes) -> None:
    room = Counts(1, 100)
    assert await minutes.add("k", 5, Counts(1, 60), room) == Counts(1, 60)
    assert await minutes.add("k", 5, Counts(1, 60), room) == Counts(2, 120)
    assert await minutes.add("k", 5, Counts(1, 1), room) is None
    assert await minutes.read("k", 5) == Counts(2, 120)
    assert await minutes.read("k", 6) == Counts()


async def test_more_than_the_limit_waits_as_long_as_it_is_told(rig: Rig) -> None:
    token = await rig.key(limits={"requests_per_minute": 3})
    for left in (2, 1, 0):
        plan = await rig.plan(token)
        assert plan.headers["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(RateLimited) as caught:
        await rig.plan(token)
    error = caught.value
    assert error.body()["error"]["code"] == "rate_limit_exceeded"
    assert error.headers["x-ratelimit-limit-requests"] == "3"
    await rig.clock.advance(float(error.headers["retry-after"]))
    await rig.plan(token)


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4)), min_size=1, max_size=40), st.integers(1, 6))
def test_no_minute_holds_much_more_than_the_limit(steps: list[tuple[float, int]], most: int) -> None:
    """Two windows cannot see the order within the last minute, so the bound is twice the limit at its worst, and the
    limit itself in every calendar minute."""
    asyncio.run(_ask(steps, most))


async def _ask(steps: list[tuple[float, int]], most: int) -> None:
    clock = FakeClock()
    limiter = Limiter(MemoryMinutes(), MemoryTills(), clock)
    admitted: list[float] = []
    waits: list[float] = []
    for wait_s, times in steps:
        clock.time += wait_s
        for _ in range(times):
            try:
                await limiter.enter("k", Limits(requests_per_minute=most), 1)
            except RateLimited as error:
                waits.append(float(error.headers["retry-after"]))
            else:
                admitted.append(clock.time)
    assert all(1 <= wait_s <= 121 for wait_s in waits)
    for start in admitted:
        assert sum(start <= at < start + 60 for at in admitted) <= 2 * most
        assert sum(at // 60 == start // 60 for at in admitted) <= most


async def test_tokens_are_taken_at_their_estimate_and_corrected_by_use(rig: Rig) -> None:
    token = await rig.key(limits={"tokens_per_minute": 1000})
    plan = await rig.plan(token, request("hello", max_tokens=600))
    with pytest.raises(RateLimited):
        await rig.plan(token, request("hello", max_tokens=600))
    hold = await rig.room.reserve(plan, choice())
    await rig.room.settle(hold, [attempt(usage=Usage(10, 20))])
    await rig.room.close(plan)
    again = await rig.plan(token, request("hello", max_tokens=600))
    assert int(again.headers["x-ratelimit-remaining-tokens"]) < 1000 - 30


async def test_a_cache_hit_gives_its_tokens_back(rig: Rig) -> None:
    token = await rig.key(limits={"tokens_per_minute": 700})
    for _ in range(3):
        await rig.room.close(await rig.plan(token, request("hello", max_tokens=600)))


async def test_a_request_above_the_limit_itself_is_told_not_to_retry(rig: Rig) -> None:
    token = await rig.key(limits={"tokens_per_minute": 100})
    with pytest.raises(RateLimited) as caught:
        await rig.plan(token, request("hello", max_tokens=600))
    assert caught.value.headers["x-should-retry"] == "false"


async def test_work_that_can_wait_enters_only_while_its_share_has_room(clock: FakeClock) -> None:
    """And what fits into the whole limit fits into it alone, however large it is."""
    limiter = Limiter(MemoryMinutes(), MemoryTills(), clock)
    limits = Limits(requests_per_minute=10, tokens_per_minute=100, in_flight=3)
    first = await limiter.enter("k", limits, 80, share=0.5)
    first.used_tokens = 45
    await limiter.leave(first)
    with pytest.raises(RateLimited):
        await limiter.enter("k", limits, 10, share=0.5)
    ticket = await limiter.enter("k", limits, 10)
    assert ticket.headers["x-ratelimit-limit-requests"] == "10", "the limit is told as it is"
    with pytest.raises(RateLimited) as caught:
        await limiter.enter("k", limits.model_copy(update={"tokens_per_minute": None}), 1, share=0.5)
    assert caught.value.code == "too_many_in_flight"


async def test_flights_are_counted_and_come_back_from_the_dead(rig: Rig) -> None:
    token = await rig.key(limits={"in_flight": 2})
    one, _ = await rig.plan(token), await rig.plan(token)
    with pytest.raises(RateLimited, match="in flight"):
        await rig.plan(token)
    await rig.room.close(one)
    await rig.plan(token)
    await rig.clock.advance(961)
    await rig.plan(token)
    await rig.plan(token)


async def test_a_flight_that_is_refused_uses_no_minute_up(rig: Rig) -> None:
    token = await rig.key(limits={"in_flight": 1, "requests_per_minute": 2})
    plan = await rig.plan(token)
    for _ in range(3):
        with pytest.raises(RateLimited, match="in flight"):
            await rig.plan(token)
    await rig.room.close(plan)
    await rig.plan(token)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (0.25, "250ms"), (59.2, "1m0s"), (3661, "1h1m1s")])
def test_durations_are_gos(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


async def test_without_limits_nothing_is_written(rig: Rig) -> None:
    plan = await rig.plan(await rig.key())
    assert plan.headers == {} and plan.context.get("ticket") is None
    kept: Any = rig.room.desk.limiter._minutes
    assert kept._counts == {}
