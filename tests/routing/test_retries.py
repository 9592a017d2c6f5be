"""How often, how long and on whose account a request tries again."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.chat import begun
from edgewise.clock import FakeClock
from edgewise.errors import UpstreamRateLimited, UpstreamUnavailable
from edgewise.routing.retry_budget import LEAST, WINDOW_S, RetryBudget
from tests.routing.casting import FakeCaller, Stage, request

PAIR = {"models": ["small/mini", "middle/chat"], "strategy": "fallback"}


@pytest.mark.parametrize("retries", [0, 1, 2, 3])
async def test_a_request_makes_no_more_tries_than_one_and_its_retries(retries: int) -> None:
    stage = Stage()
    stage.room.max_retries = retries
    stage.caller.script = lambda model: UpstreamUnavailable("down")
    task = asyncio.create_task(stage.ask(request(model="small/mini")))
    await stage.clock.advance(30)
    with pytest.raises(UpstreamUnavailable):
        await task
    assert stage.caller.asked == ["small/mini"] * (1 + retries)


async def test_a_long_retry_after_is_the_clients_to_wait_for() -> None:
    stage = Stage()
    stage.caller.script = lambda model: UpstreamRateLimited("wait", retry_after_s=7.0)
    with pytest.raises(UpstreamRateLimited) as caught:
        await stage.ask(request(model="small/mini"))
    assert caught.value.headers["retry-after"] == "7"
    assert stage.caller.asked == ["small/mini"]


async def test_a_retry_is_not_called_a_fallback() -> None:
    stage = Stage()
    fates = iter([UpstreamUnavailable("down")])
    stage.caller.script = lambda model: next(fates, "fine")
    task = asyncio.create_task(stage.ask(request(model="small/mini")))
    await stage.clock.advance(5)
    _, live = await task
    assert "retry of small/mini" in live.reason
    assert "fallback" not in live.reason


class Counting(FakeCaller):
    """Knows how many calls are under way."""

    under_way = 0

    async def complete(self, *call: Any) -> Any:
        Counting.under_way += 1
        try:
            return await FakeCaller.complete(self, *call)
        finally:
            Counting.under_way -= 1


async def test_a_hedged_request_that_is_cancelled_leaves_no_call_behind() -> None:
    stage = Stage()
    stage.caller = Counting(stage.clock, takes_s=50)
    task = asyncio.create_task(stage.ask(request(routing={**PAIR, "hedge": True})))
    await stage.clock.advance(5)
    assert Counting.under_way == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert Counting.under_way == 0


@pytest.mark.parametrize("reads", [0, 1])
async def test_a_stream_is_closed_when_its_client_leaves_even_before_it_has_read(reads: int) -> None:
    stage, closed = Stage(), []

    async def pieces() -> Any:
        try:
            while True:
                yield {}
        finally:
            closed.append(True)

    class Begun(FakeCaller):
        async def stream(self, *_: Any) -> Any:
            return await begun(pieces())

    stage.caller = Begun(stage.clock)
    _, live = await stage.ask(request(model="small/mini", stream=True))
    assert isinstance(live.chunks, AsyncGenerator)
    assert stage.room.in_flight["small/mini"] == 1
    for _ in range(reads):
        await anext(live.chunks)
    await live.chunks.aclose()
    assert closed == [True]
    assert stage.room.in_flight["small/mini"] == 0


def test_a_quiet_gateway_can_try_again_after_a_storm() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock)
    assert [budget.take() for _ in range(LEAST + 1)] == [True] * LEAST + [False]
    clock.time += WINDOW_S - 1
    assert not budget.take()
    clock.time += 1
    assert budget.take()


def test_what_was_not_used_is_not_saved_up() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock)
    for _ in range(1000):
        budget.request()
    clock.time += WINDOW_S
    assert [budget.take() for _ in range(LEAST + 1)] == [True] * LEAST + [False]


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=300), st.floats(0, 0.5), st.integers(0, 4))
def test_retries_never_pass_the_larger_of_their_share_and_the_few(
    steps: list[tuple[float, bool]], share: float, least: int
) -> None:
    """However calls and retries are mixed: within every window of whole seconds, at each retry that was allowed."""
    clock = FakeClock()
    budget = RetryBudget(clock, share=share, least=least, window_s=10)
    told: list[tuple[int, bool]] = []
    for wait_s, is_retry in steps:
        clock.time += wait_s
        now = int(clock.time)
        window = [was_retry for second, was_retry in told if second > now - 10]
        requests, retries = window.count(False), window.count(True)
        if not is_retry:
            budget.request()
            told.append((now, False))
        elif budget.take():
            assert retries + 1 <= max(least, share * requests)
            told.append((now, True))
        else:
            assert retries + 1 > max(least, share * requests)
