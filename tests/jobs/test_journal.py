"""An answer that was paid for is not asked for, or charged, again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

import pytest

from edgewise.api.embeddings import EmbedLine
from edgewise.api.lines import Lines
from edgewise.api.making import Making
from edgewise.chat import Answer, CacheAsk, ChatRequest, Folding, unfold
from edgewise.clock import Deadline, FakeClock
from edgewise.errors import UpstreamUnavailable
from edgewise.jobs.answers.kept import Kept as AnswerKept
from edgewise.jobs.answers.log import Log
from edgewise.jobs.journal import Journal
from edgewise.jobs.paid import PaidCall
from edgewise.jobs.ports import Ask
from edgewise.price import Price
from edgewise.words import Attempt, Late, Model, Plan
from tests import fakes
from tests.jobs.fakes import MemoryStretches
from tests.jobs.rig import CHAT, chat_line
from tests.jobs.stack import impersonate


class Kept:
    """A line's calls, in memory."""

    def __init__(self) -> None:
        self.calls: dict[str, PaidCall] = {}
        self.dies = False

    def find(self, key: str) -> PaidCall | None:
        return self.calls.get(key)

    def earlier(self) -> list[PaidCall]:
        return list(self.calls.values())

    async def keep(self, key: str, call: PaidCall) -> None:
        self.calls[key] = call
        if self.dies:
            raise KeyboardInterrupt


def ask(calls: Kept | None, text: str = "hi", url: str = CHAT) -> Ask:
    body = chat_line("a", text)["body"] if url == CHAT else {"model": "m", "input": text}
    return Ask("acme", "key_acme", url, body, "req_1", 30.0, calls)


async def test_a_second_try_finds_the_answer_and_charges_nothing(clock: FakeClock) -> None:
    kept, caller, policy = Kept(), fakes.FakeCaller(clock), fakes.FakePolicy()
    rooms = fakes.rooms(clock=clock, caller=caller, policy=policy, cache=fakes.FakeCache(clock))
    run = Lines(lambda: rooms, impersonate)
    first = await run(ask(kept))
    fresh = fakes.rooms(clock=clock, caller=caller, policy=policy)
    again = await Lines(lambda: fresh, impersonate)(ask(kept))
    assert len(caller.calls) == 1
    assert again.body["choices"] == first.body["choices"]
    assert first.cost_usd == again.cost_usd == Decimal("0.0012")
    charged = [attempt.cost_usd for attempts in policy.settled for attempt in attempts]
    assert charged == [Decimal("0.0012"), Decimal(0)]


async def test_a_worker_that_dies_right_after_the_answer_has_kept_it(clock: FakeClock) -> None:
    kept, caller = Kept(), fakes.FakeCaller(clock)
    kept.dies = True
    rooms = fakes.rooms(clock=clock, caller=caller)
    run = Lines(lambda: rooms, impersonate)
    try:
        await run(ask(kept))
    except KeyboardInterrupt:
        kept.dies = False
    assert (await run(ask(kept))).status == 200
    assert len(caller.calls) == 1


async def test_an_answer_that_came_at_the_second_asking_is_found_at_the_first_of_the_next_try(clock: FakeClock) -> None:
    """The router asks again after a failure, the worker dies with the answer kept, and the next one asks nobody."""
    kept, caller = Kept(), fakes.FakeCaller(clock)
    journal = Journal(caller, kept)
    model, request = Model("fake", "m"), ChatRequest(chat_line("a", "hi")["body"])
    for stream in (False, True):
        ways: list[Any] = [UpstreamUnavailable("Busy."), fakes.saying("hello"), fakes.saying("again")]
        caller.script = lambda _: ways.pop(0)  # noqa: B023
        deadline = Deadline.after(clock, 30)
        call: Any = journal.stream if stream else journal.complete
        with pytest.raises(UpstreamUnavailable):
            await call(model, request, deadline, [])
        for _ in range(2):
            told = await call(model, request, deadline, [])
            if stream:
                assert [piece async for piece in told]
        later: Any = Journal(caller, kept)
        call = later.stream if stream else later.complete
        texts = []
        for _ in range(2):
            told = await call(model, request, deadline, [])
            folding = Folding()
            for piece in [piece async for piece in told] if stream else ():
                folding.add(piece)
            texts.append((folding.answer() if stream else told).text)
        assert (texts, ways) == (["hello", "again"], [])
        kept.calls.clear()
        journal = Journal(caller, kept)


async def test_so_is_one_that_came_after_a_stream_that_broke_off(clock: FakeClock) -> None:
    kept, caller = Kept(), fakes.FakeCaller(clock)
    model, request = Model("fake", "m"), ChatRequest(chat_line("a", "hi")["body"])
    begins = next(iter(unfold(fakes.saying("hello"), id="c", created=1)))
    ways: list[Any] = [[begins, UpstreamUnavailable("Gone.")], fakes.saying("hello")]
    caller.script = lambda _: ways.pop(0)

    async def streamed(journal: Journal) -> list[Any]:
        return [piece async for piece in await journal.stream(model, request, Deadline.after(clock, 30), [])]

    journal = Journal(caller, kept)
    with pytest.raises(UpstreamUnavailable):
        await streamed(journal)
    assert await streamed(journal) and await streamed(Journal(caller, kept))
    assert ways == []


async def test_a_line_that_fails_at_last_costs_what_its_earlier_try_paid(clock: FakeClock) -> None:
    kept, caller = Kept(), fakes.FakeCaller(clock)
    kept.dies = True
    run = Lines(lambda: fakes.rooms(clock=clock, caller=caller), impersonate)
    with pytest.raises(KeyboardInterrupt):
        await run(ask(kept))
    refused = fakes.FakePolicy(refuse=UpstreamUnavailable("Policy has changed its mind."))
    ran = await Lines(lambda: fakes.rooms(clock=clock, policy=refused), impersonate)(ask(kept))
    assert (ran.status, ran.cost_usd) == (503, Decimal("0.0012"))


async def test_what_the_cache_has_costs_nothing_and_says_so(clock: FakeClock) -> None:
    rooms = fakes.rooms(clock=clock)
    run = Lines(lambda: rooms, impersonate)
    assert not (await run(ask(None))).cached
    again = await run(ask(None))
    assert (again.cached, again.cost_usd) == (True, Decimal(0))


async def test_a_line_whose_reading_cost_something_is_cached_all_the_same(clock: FakeClock) -> None:
    class Reading(fakes.FakePolicy):
        async def plan(self, *asked: Any) -> Plan:
            return replace(await super().plan(*asked), late=Late(Decimal("0.0004")))

    rooms = fakes.rooms(clock=clock, policy=Reading())
    run = Lines(lambda: rooms, impersonate)
    first, again = await run(ask(None)), await run(ask(None))
    assert [(ran.cached, ran.cost_usd) for ran in (first, again)] == [
        (False, Decimal("0.0016")),
        (True, Decimal("0.0004")),
    ]


async def test_refusals_come_back_as_a_status_and_a_body(clock: FakeClock) -> None:
    rooms = fakes.rooms(clock=clock, script=lambda _: UpstreamUnavailable("Busy.", retry_after_s=7))
    ran = await Lines(lambda: rooms, impersonate)(ask(None))
    assert (ran.status, ran.retry_after_s, ran.passing) == (503, 7, True)
    assert set(ran.body["error"]) == {"message", "type", "param", "code"}
    wrong = await Lines(lambda: rooms, impersonate)(ask(None, url="/v1/elsewhere"))
    assert (wrong.status, wrong.passing) == (400, False)
    ill = await Lines(lambda: rooms, impersonate)(Ask("a", "k", CHAT, {"model": "m", "messages": 3}, "r", 5.0))
    assert ill.status == 400


async def test_a_response_line_is_answered_as_the_route_answers(clock: FakeClock) -> None:
    def script(request: ChatRequest) -> Answer:
        return fakes.saying(f"about {request.messages[-1]['content']}")

    rooms = fakes.rooms(clock=clock, script=script)
    ran = await Lines(lambda: rooms, impersonate)(ask(None, "cats", "/v1/responses"))
    assert ran.body["object"] == "response"
    assert ran.body["output"][0]["content"][0]["text"] == "about cats"
    assert ran.body["status"] == "completed"


async def test_an_embeddings_line_is_held_called_settled_and_recorded(clock: FakeClock) -> None:
    async def embed(body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return {"data": [{"embedding": [0.5, 1.0]}], "model": model_id, "usage": usage}

    model = Model("fake", "e", price=Price(Decimal(2), Decimal(0)))
    policy, record = fakes.FakePolicy(), fakes.FakeRecord()
    rooms = fakes.rooms(clock=clock, policy=policy, record=record)
    line = EmbedLine(lambda name: (model, embed) if name == "e" else None)
    run = Lines(lambda: rooms, impersonate, {"/v1/embeddings": line})
    good = Ask("acme", "k", "/v1/embeddings", {"model": "e", "input": "a cat"}, "req_1", 5.0)
    ran = await run(good)
    assert (ran.status, ran.cost_usd) == (200, Decimal("0.000006"))
    assert ran.body["data"][0]["embedding"] == [0.5, 1.0]
    assert [note.request_id for note in record.notes] == ["req_1"]
    assert len(policy.settled) == policy.closed == 1
    assert (await run(replace(good, body={"model": "nope", "input": "x"}))).status == 404
    assert (await run(replace(good, body={"model": "e", "input": {}}))).status == 400


async def test_a_dry_run_in_a_line_tells_the_choice_as_the_route_does(clock: FakeClock) -> None:
    given = ask(None, "cats", "/v1/responses")
    given = replace(given, body={**given.body, "routing": {"dry_run": True}})
    ran = await Lines(lambda: fakes.rooms(clock=clock), impersonate)(given)
    assert (ran.status, ran.body["object"], ran.cost_usd) == (200, "edgewise.route", Decimal(0))


async def test_a_dry_run_in_the_background_is_refused_not_a_defect(clock: FakeClock) -> None:
    wire = {"id": "resp_1", "object": "response", "created_at": 1, "status": "queued"}
    chat = {"body": chat_line("a", "hi")["body"], "routing": {"dry_run": True}, "cache": asdict(CacheAsk())}
    kept = AnswerKept(
        id="resp_1", tenant="acme", key_id="key_acme", url="/v1/responses", created_at=1, expires_at=2,
        wire=wire, ask={"body": {"model": "m", "input": "hi"}, "chat": chat},
    )  # fmt: skip
    making = Making(Lines(lambda: fakes.rooms(clock=clock), impersonate), clock)
    made = await making.make(kept, Kept(), 30.0, Log(MemoryStretches(), kept))
    assert (made.state, made.wire["status"]) == ("failed", "failed")


async def test_a_stream_that_was_paid_for_is_not_asked_for_again(clock: FakeClock) -> None:
    """Kept when its last piece is there; one that broke off is not."""
    calls, caller, model = Kept(), fakes.FakeCaller(clock), Model("fake", "m")
    request = ChatRequest({"model": "m", "messages": [{"role": "user", "content": "hello there"}]}, stream=True)

    async def streamed() -> tuple[str, list[Attempt]]:
        trail: list[Attempt] = []
        chunks = await Journal(caller, calls).stream(model, request, Deadline.after(clock, 30), trail)
        folding = Folding()
        async for chunk in chunks:
            folding.add(chunk)
        return folding.answer().text, trail

    broken = await Journal(caller, calls).stream(model, request, Deadline.after(clock, 30), [])
    await anext(broken)
    await broken.aclose()  # type: ignore[attr-defined]
    assert (calls.calls, caller.open_streams) == ({}, 0)
    (first, paid), (again, free) = await streamed(), await streamed()
    assert first == again == "hello there" and len(caller.calls) == 2
    assert [paid[0].cost_usd, free[0].cost_usd] == [Decimal("0.0012"), Decimal(0)]
