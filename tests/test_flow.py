"""The corridor's own rules: what is handed out comes back, however a request ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

import pytest

from edgewise import flow
from edgewise.chat import ChatRequest
from edgewise.clock import Deadline, FakeClock
from edgewise.flow import Rooms, Served
from edgewise.words import Attempt, Credentials, Model
from tests import fakes


class Told(fakes.FakeRouter):
    """A router that fails as no router should."""

    def resolve(self, request: Any, plan: Any) -> Any:
        raise RuntimeError("a mistake of ours")


def asked(stream: bool = False) -> ChatRequest:
    return ChatRequest({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}, stream=stream)


async def serve(rooms: Rooms, *, stream: bool = False) -> Served:
    deadline = Deadline.after(rooms.clock, 60)
    return await flow.serve(rooms, Credentials(fakes.KEY, "/v1/chat/completions"), asked(stream), deadline, "req_1")


async def test_a_stream_that_is_left_before_its_first_byte_is_settled_and_given_up() -> None:
    policy, cache = fakes.FakePolicy(), fakes.FakeCache(FakeClock())
    rooms = fakes.rooms(policy=policy, cache=cache)
    served = await serve(rooms, stream=True)
    assert isinstance(served.chunks, AsyncGenerator)
    await served.chunks.aclose()
    assert len(policy.settled) == 1
    assert cache.given_up == [None]
    assert policy.closed == 1


async def test_a_request_that_is_cancelled_gives_back_what_policy_handed_out() -> None:
    clock, policy = FakeClock(), fakes.FakePolicy()
    rooms = fakes.rooms(clock=clock, policy=policy, caller=fakes.FakeCaller(clock, latency_s=5))
    task = asyncio.create_task(serve(rooms))
    await clock.advance(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert policy.closed == 1
    assert len(policy.settled) == 1


async def test_a_mistake_of_ours_gives_back_what_policy_handed_out() -> None:
    policy = fakes.FakePolicy()
    with pytest.raises(RuntimeError):
        await serve(fakes.rooms(policy=policy, router=Told()))
    assert policy.closed == 1


class Shadowing(fakes.FakeRouter):
    """A router whose shadow call ends after the answer's."""

    async def carry_out(self, choice: Any, request: Any, caller: Any, deadline: Any, trail: Any) -> Any:
        live = await fakes.FakeRouter.carry_out(self, choice, request, caller, deadline, trail)
        trail.append(Attempt(Model("other", "shadow"), role="shadow", cost_usd=Decimal(1)))
        return live


async def test_what_is_kept_and_recorded_is_the_model_that_answered_not_its_shadow() -> None:
    cache, record = fakes.FakeCache(FakeClock()), fakes.FakeRecord()
    rooms = fakes.rooms(cache=cache, record=record, router=Shadowing())
    await serve(rooms)
    assert [(entry.provider, entry.model) for entry in cache.entries.values()] == [("fake", "m")]
    assert [note.model for note in record.notes] == ["fake/m"]
