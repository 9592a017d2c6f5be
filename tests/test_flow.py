"""The corridor's own rules: what is handed out comes back, however a request ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from edgewise import flow
from edgewise.chat import ChatRequest
from edgewise.clock import Deadline, FakeClock
from edgewise.errors import QuotaExceeded, UpstreamTimeout, UpstreamUnavailable
from edgewise.record.room import RecordRoom
from edgewise.rooms import Rooms
from edgewise.served import Served
from edgewise.words import Attempt, Choice, Credentials, Late, Model, Step
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


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_request_is_laid_to_the_model_that_was_tried_last(stream: bool) -> None:
    """Or `Errors` by model would stay at 0 whatever a model does."""
    clock, record = FakeClock(), fakes.FakeRecord()
    caller = fakes.FakeCaller(clock, script=lambda _: UpstreamUnavailable("overloaded"))
    with pytest.raises(UpstreamUnavailable):
        await serve(fakes.rooms(clock=clock, record=record, caller=caller), stream=stream)
    (note,) = record.notes
    assert (note.model, note.provider, note.status) == ("fake/m", "fake", 503)
    lines: list[bytes] = []
    RecordRoom(clock, out=lines.append, emf=True).note(note)
    line = json.loads(lines[0])
    (by_model,) = [of for of in line["_aws"]["CloudWatchMetrics"] if of["Dimensions"] == [["service", "model"]]]
    assert {"Name": "Errors", "Unit": "Count"} in by_model["Metrics"]
    assert (line["Errors"], line["model"]) == (1, "fake/m")


class Shadowing(fakes.FakeRouter):
    """A router whose shadow call takes a minute."""

    compared: int = 0

    def follow_up(self, plan: Any, choice: Any, live: Any, request_id: str) -> Choice | None:
        return Choice((Step((Model("other", "shadow"),)),), "shadow", "to learn")

    async def compare(self, shadow: Any, plan: Any, live: Any, caller: Any, deadline: Any, trail: Any) -> None:
        await deadline.clock.sleep(50)
        assert live.answer is not None and live.answer.text
        trail.append(Attempt(shadow.models[0], role="shadow", cost_usd=Decimal(1)))
        self.compared += 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_shadow_call_is_behind_the_answer_on_a_line_and_a_hold_of_its_own(stream: bool) -> None:
    clock, router, policy = FakeClock(), Shadowing(), fakes.FakePolicy()
    cache, record = fakes.FakeCache(clock), fakes.FakeRecord()
    rooms = fakes.rooms(clock=clock, policy=policy, cache=cache, record=record, router=router)
    served = await serve(rooms, stream=stream)
    if served.chunks is not None:
        async for _ in served.chunks:
            pass
    assert [(entry.provider, entry.model) for entry in cache.entries.values()] == [("fake", "m")]
    assert [note.route for note in record.notes] == ["/v1/chat/completions"] and router.compared == 0
    assert served.cost_usd == record.notes[0].cost_usd != Decimal(1) and policy.closed == 1
    await clock.advance(51)
    await rooms.background.drain()
    assert [(note.route, note.model) for note in record.notes[1:]] == [("shadow", "other/shadow")]
    assert record.notes[1].cost_usd == Decimal(1) and record.notes[1].request_id == "req_1"
    assert len(policy.settled) == 2 and policy.closed == 1


async def test_what_a_guardrail_cost_is_neither_held_nor_noted_again_for_a_shadow() -> None:
    class Read(fakes.FakePolicy):
        async def plan(self, principal: Any, request: Any, credentials: Any) -> Any:
            return replace(await fakes.FakePolicy.plan(self, principal, request, credentials), late=Late(Decimal(7)))

        async def reserve(self, plan: Any, choice: Choice) -> Any:
            held.append(plan.late)
            return await fakes.FakePolicy.reserve(self, plan, choice)

    held: list[Late | None] = []
    clock, record = FakeClock(), fakes.FakeRecord()
    rooms = fakes.rooms(clock=clock, policy=Read(), record=record, router=Shadowing())
    await serve(rooms)
    await clock.advance(51)
    await rooms.background.drain()
    assert held == [Late(Decimal(7)), None]
    assert record.notes[1].cost_usd == Decimal(1)


async def test_a_shadow_call_that_policy_refuses_is_not_made() -> None:
    class Broke(fakes.FakePolicy):
        async def reserve(self, plan: Any, choice: Any) -> Any:
            if choice.strategy == "shadow":
                raise QuotaExceeded("spent")
            return await fakes.FakePolicy.reserve(self, plan, choice)

    clock, router, record = FakeClock(), Shadowing(), fakes.FakeRecord()
    rooms = fakes.rooms(clock=clock, policy=Broke(), record=record, router=router)
    await serve(rooms)
    await rooms.background.drain()
    assert len(record.notes) == 1 and router.compared == 0


async def test_who_waits_for_anothers_answer_waits_no_longer_than_its_own_deadline() -> None:
    """On Lambda the function would be ended first, and its client would be told nothing."""

    class Follows(fakes.FakeCache):
        async def look(self, query: Any, plan: Any) -> Any:
            await asyncio.get_running_loop().create_future()

    clock, policy = FakeClock(), fakes.FakePolicy()
    rooms = fakes.rooms(clock=clock, policy=policy, cache=Follows(clock))
    with pytest.raises(UpstreamTimeout):
        await flow.serve(
            rooms, Credentials(fakes.KEY, "/v1/chat/completions"), asked(), Deadline.after(clock, 0), "req_1"
        )
    assert policy.closed == 1
