"""How often, how long and on whose account a request tries again."""

import asyncio
from typing import Any

import pytest

from edgewise.clock import Deadline
from edgewise.errors import UpstreamRateLimited, UpstreamUnavailable
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


async def test_a_stream_that_nobody_has_heard_of_yet_is_closed_when_its_client_leaves() -> None:
    stage, closed = Stage(), []

    async def pieces() -> Any:
        try:
            while True:
                yield {}
        finally:
            closed.append(True)

    class Begun(FakeCaller):
        async def stream(self, *_: Any) -> Any:
            chunks = pieces()
            await anext(chunks)
            return chunks

    assert stage.room.breakers is not None
    asked = request(model="small/mini", stream=True)
    choice = await stage.choose(asked)

    class Stuck(type(stage.room.breakers)):  # type: ignore[misc]
        async def well(self, *_: Any) -> None:
            await asyncio.Event().wait()

    stage.room.breakers = Stuck(stage.clock)
    deadline = Deadline.after(stage.clock, 60)
    task = asyncio.create_task(stage.room.carry_out(choice, asked, Begun(stage.clock), deadline, []))
    await stage.clock.advance(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert closed == [True]
