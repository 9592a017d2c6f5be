import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace as changed
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.chat import Folding
from edgewise.clock import Deadline
from edgewise.errors import (
    ContentFiltered,
    ContextTooLong,
    EdgewiseError,
    UpstreamDied,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from edgewise.routing.breaker import LIMIT, State
from edgewise.routing.retry_budget import RetryBudget
from edgewise.words import Choice, Live, Model, Step
from tests.routing.casting import FakeCaller, Stage, answer, request

NUMBERS = "How many of 120 apples are left after 3 friends take 7 each?"
LIST = {"models": ["small/mini", "middle/chat", "big/opus"], "strategy": "fallback"}


def failing(*names: str, error: EdgewiseError | None = None, says: str = "fine"):  # type: ignore[no-untyped-def]
    def script(model: Model) -> str | EdgewiseError:
        return (error or UpstreamUnavailable("down")) if model.name in names else says

    return script


def cascade(stage: Stage, *first: str, last: str = "big/opus", accept: str = "own") -> Choice:
    models = stage.room.catalog.models
    steps = (Step(tuple(models[name] for name in first), accept, 0.6), Step((models[last],)))
    return Choice(steps, "test", "because")


async def drive(stage: Stage, choice: Choice, asked=None, within_s: float = 60.0):  # type: ignore[no-untyped-def]
    asked = asked or request(NUMBERS)
    return await stage.room.carry_out(choice, asked, stage.caller, Deadline.after(stage.clock, within_s), stage.trail)


async def test_when_one_model_fails_the_next_one_answers_and_the_reason_says_so() -> None:
    stage = Stage()
    stage.caller.script = failing("small/mini")
    _, live = await stage.ask(request(routing=LIST))
    assert live.model.name == "middle/chat"
    assert "fallback to middle/chat" in live.reason
    assert [attempt.status for attempt in stage.trail] == [503, 200]


async def test_a_refusal_of_the_request_is_the_requests_own() -> None:
    stage = Stage()
    stage.caller.script = failing("small/mini", error=UpstreamRefused("bad temperature"))
    with pytest.raises(UpstreamRefused):
        await stage.ask(request(routing=LIST))
    assert stage.caller.asked == ["small/mini"]


async def test_a_refused_key_of_one_provider_is_not_the_requests_fault() -> None:
    stage = Stage()
    stage.caller.script = failing("small/mini", error=UpstreamRefused("no such key", status=401))
    _, live = await stage.ask(request(routing=LIST))
    assert live.model.name == "middle/chat"


@pytest.mark.parametrize(
    ("error", "option"),
    [(ContextTooLong("too long"), "context_fallbacks"), (ContentFiltered("no"), "content_fallbacks")],
)
async def test_length_and_content_have_lists_of_their_own(error: EdgewiseError, option: str) -> None:
    stage = Stage()
    stage.caller.script = failing("small/mini", error=error)
    with pytest.raises(type(error)):
        await stage.ask(request(routing=LIST))
    _, live = await stage.ask(request(routing={**LIST, option: ["big/opus"]}))
    assert live.model.name == "big/opus"


@pytest.mark.parametrize(("share", "helped"), [(0.9, True), (0.5, False)])
async def test_a_refusal_without_a_reason_of_a_nearly_full_prompt_is_for_its_length(share: float, helped: bool) -> None:
    stage = Stage()
    stage.caller.script = failing("small/mini", error=UpstreamRefused("prompt is too long: 1 > 0"))
    choice = await stage.choose(request(routing={**LIST, "context_fallbacks": ["big/opus"]}))
    choice = changed(choice, features={**choice.features, "prompt_tokens": int(128_000 * share)})
    if helped:
        assert (await drive(stage, choice)).model.name == "big/opus"
    else:
        with pytest.raises(UpstreamRefused):
            await drive(stage, choice)


async def test_an_answer_that_a_filter_cut_is_asked_of_the_content_list_and_told_when_that_fails() -> None:
    stage = Stage()
    asked = request(routing={**LIST, "content_fallbacks": ["big/opus"]})
    cut = answer("", finish="content_filter")
    stage.caller.script = lambda model: cut if model.name == "small/mini" else "fine"
    _, live = await stage.ask(asked)
    assert live.model.name == "big/opus"
    stage.caller.script = lambda model: cut if model.name == "small/mini" else UpstreamUnavailable("down")
    _, live = await stage.ask(asked)
    assert live.model.name == "small/mini" and live.answer == cut
    assert len(stage.trail) == 4, "every one is charged"


async def test_who_answers_for_one_that_failed_stands_in_and_who_is_listed_for_the_request_does_not() -> None:
    stage = Stage()
    _, live = await stage.ask(request(routing=LIST))
    assert not live.stands_in
    stage.caller.script = failing("small/mini")
    _, live = await stage.ask(request(routing=LIST))
    assert live.stands_in
    stage.caller.script = failing("small/mini", error=ContextTooLong("too long"))
    _, live = await stage.ask(request(routing={**LIST, "context_fallbacks": ["big/opus"]}))
    assert live.model.name == "big/opus" and not live.stands_in


async def test_the_last_error_is_told_when_all_have_failed() -> None:
    stage = Stage()
    stage.caller.script = lambda model: UpstreamError(f"broken {model.name}")
    with pytest.raises(UpstreamError, match="big/opus"):
        await stage.ask(request(routing=LIST))


async def test_a_model_that_rests_is_asked_last_but_not_never() -> None:
    stage = Stage()
    stage.caller.script = failing("small/mini", error=UpstreamRateLimited("slow down", retry_after_s=30.0))
    await stage.ask(request(routing=LIST))
    stage.caller.asked.clear()
    stage.caller.script = failing("middle/chat", "big/opus", error=UpstreamError("broken"))
    _, live = await stage.ask(request(routing=LIST))
    assert stage.caller.asked == ["middle/chat", "big/opus", "small/mini"]
    assert live.model.name == "small/mini"


async def test_a_429_with_a_short_wait_is_worth_waiting_for() -> None:
    stage = Stage()
    calls = iter([UpstreamRateLimited("wait", retry_after_s=2.0)])
    stage.caller.script = lambda model: next(calls, "fine")
    task = asyncio.create_task(stage.ask(request(model="small/mini")))
    await stage.clock.advance(1.9)
    assert not task.done()
    await stage.clock.advance(0.2)
    _, live = await task
    assert "retry of small/mini" in live.reason


async def test_retries_stop_when_their_budget_is_spent() -> None:
    stage = Stage()
    stage.room.budget = RetryBudget(stage.clock, least=0)
    stage.caller.script = lambda model: UpstreamUnavailable("down")
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable):
            await stage.ask(request(model="small/mini"))
    assert len(stage.caller.asked) == 5


async def test_no_attempt_starts_that_the_deadline_leaves_no_time_for() -> None:
    stage = Stage()
    with pytest.raises(UpstreamTimeout):
        await stage.ask(request(routing=LIST), within_s=0.1)
    assert stage.caller.asked == []


async def test_an_accepted_cheap_answer_is_kept_and_streamed_whole() -> None:
    stage = Stage()
    live = await drive(stage, cascade(stage, "small/mini"), request(NUMBERS, stream=True))
    assert stage.caller.asked == ["small/mini"]
    folding = Folding()
    assert live.chunks is not None
    async for piece in live.chunks:
        folding.add(piece)
    assert folding.answer().text == "from small/mini"
    assert (live.confidence, live.confidence_source) == (0.75, "prior")


async def test_a_doubtful_cheap_answer_is_never_seen() -> None:
    stage = Stage()
    stage.caller.script = lambda m: answer("It is", finish="length") if m.name == "small/mini" else "99"
    live = await drive(stage, cascade(stage, "small/mini"))
    assert live.answer is not None and live.answer.text == "99"
    assert "truncated" in live.reason
    assert [attempt.role for attempt in stage.trail] == ["answer", "answer"]


async def test_a_pair_is_asked_at_once_and_kept_when_it_agrees() -> None:
    stage = Stage()
    stage.caller.script = lambda m: "The answer is 99." if m.name == "small/mini" else "99"
    live = await drive(stage, cascade(stage, "small/mini", "other/flash", accept="agreement"))
    assert live.model.name == "small/mini" and live.confidence_source == "agreement"
    assert [attempt.role for attempt in stage.trail] == ["answer", "check"]


async def test_a_pair_that_disagrees_goes_to_the_strong_one_and_all_are_charged() -> None:
    stage = Stage()
    stage.caller.script = lambda m: {"small/mini": "98", "other/flash": "97"}.get(m.name, "99")
    live = await drive(stage, cascade(stage, "small/mini", "other/flash", accept="agreement"))
    assert live.model.name == "big/opus"
    assert len(stage.trail) == 3 and all(attempt.cost_usd for attempt in stage.trail)


async def test_a_third_opinion_may_side_with_one_of_the_pair() -> None:
    stage = Stage()
    models = stage.room.catalog.models
    choice = Choice(
        (
            Step((models["small/mini"], models["other/flash"]), "agreement", 0.6),
            Step((models["middle/chat"],), "majority", 0.6),
            Step((models["big/opus"],)),
        ),
        "test",
        "because",
    )
    stage.caller.script = lambda m: {"small/mini": "98", "other/flash": "99", "middle/chat": "99"}.get(m.name, "1")
    live = await drive(stage, choice)
    assert (live.model.name, live.confidence_source) == ("middle/chat", "majority")


async def test_a_cheap_step_that_fails_costs_the_request_nothing_but_time() -> None:
    stage = Stage()
    stage.caller.script = failing("small/mini")
    live = await drive(stage, cascade(stage, "small/mini"))
    assert live.model.name == "big/opus"


async def test_a_cheap_step_is_skipped_when_there_is_only_time_for_the_strong_one() -> None:
    stage = Stage()
    live = await drive(stage, cascade(stage, "small/mini"), within_s=3.0)
    assert stage.caller.asked == ["big/opus"] and "skipped" in live.reason


async def test_a_slow_answer_is_hedged_and_the_first_one_counts() -> None:
    stage = Stage()

    class Slow(FakeCaller):
        async def complete(self, model, request, deadline, trail):  # type: ignore[no-untyped-def]
            if model.name == "small/mini":
                await self.clock.sleep(50)
            return await FakeCaller.complete(self, model, request, deadline, trail)

    stage.caller = Slow(stage.clock)
    task = asyncio.create_task(stage.ask(request(routing={**LIST, "hedge": True})))
    for _ in range(3):
        await stage.clock.advance(1.0)
    _, live = await task
    assert live.model.name == "middle/chat"
    assert [attempt.role for attempt in stage.trail] == ["hedge"]


async def test_a_hedge_that_fails_is_told_and_the_first_answer_still_counts() -> None:
    stage = Stage()

    class Slow(FakeCaller):
        async def complete(self, model, request, deadline, trail):  # type: ignore[no-untyped-def]
            await self.clock.sleep(5 if model.name == "small/mini" else 0.1)
            return await FakeCaller.complete(self, model, request, deadline, trail)

    stage.caller = Slow(stage.clock, failing("middle/chat"))
    task = asyncio.create_task(stage.ask(request(routing={**LIST, "hedge": True})))
    for _ in range(6):
        await stage.clock.advance(1.0)
    _, live = await task
    assert live.model.name == "small/mini"
    assert stage.room.breakers is not None
    assert (await stage.room.breakers.store.read("middle/chat")).failures == 1


class Streaming(FakeCaller):
    """Streams a piece and then, for all but the models in `whole`, dies."""

    whole: frozenset[str] = frozenset()

    async def stream(self, model, request, deadline, trail):  # type: ignore[no-untyped-def]
        self.asked.append(model.name)

        async def pieces() -> AsyncIterator[dict[str, Any]]:
            yield {"choices": []}
            if model.name not in Streaming.whole:
                raise UpstreamDied("cut")

        return pieces()


async def read(live: Live) -> None:
    assert live.chunks is not None
    async for _ in live.chunks:
        pass


async def test_a_stream_that_died_after_its_first_byte_is_not_started_again() -> None:
    stage = Stage()
    stage.caller = Streaming(stage.clock)
    _, live = await stage.ask(request(routing=LIST, stream=True))
    with pytest.raises(UpstreamDied):
        await read(live)
    assert stage.caller.asked == ["small/mini"]


async def test_streams_that_die_open_the_breaker_of_their_model() -> None:
    stage = Stage()
    stage.caller = Streaming(stage.clock)
    for _ in range(LIMIT):
        _, live = await stage.ask(request(routing=LIST, stream=True))
        with pytest.raises(UpstreamDied):
            await read(live)
    _, live = await stage.ask(request(routing=LIST, stream=True))
    assert live.model.name == "middle/chat" and live.stands_in
    with pytest.raises(UpstreamDied):
        await read(live)


async def test_a_stream_that_its_client_leaves_counts_as_neither() -> None:
    stage = Stage()
    stage.caller = Streaming(stage.clock)
    assert stage.room.breakers is not None
    model = stage.room.catalog.models["small/mini"]
    for _ in range(2 * LIMIT):
        _, live = await stage.ask(request(routing=LIST, stream=True))
        assert isinstance(live.chunks, AsyncGenerator)
        await anext(live.chunks)
        await live.chunks.aclose()
    assert await stage.room.breakers.store.read("small/mini") == State()
    await stage.room.breakers.ill(model, UpstreamUnavailable("down"))
    _, live = await stage.ask(request(routing=LIST, stream=True))
    assert isinstance(live.chunks, AsyncGenerator)
    await live.chunks.aclose()
    assert (await stage.room.breakers.store.read("small/mini")).failures == 1, "not forgiven either"


async def test_a_stream_that_ends_well_forgives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Streaming, "whole", frozenset({"small/mini"}))
    stage = Stage()
    stage.caller = Streaming(stage.clock)
    assert stage.room.breakers is not None
    await stage.room.breakers.ill(stage.room.catalog.models["small/mini"], UpstreamUnavailable("down"))
    _, live = await stage.ask(request(routing=LIST, stream=True))
    await read(live)
    assert await stage.room.breakers.store.read("small/mini") == State()


async def test_a_shadow_call_brings_a_label_and_is_in_the_trail() -> None:
    stage = Stage()
    asked = request(NUMBERS, routing={"shadow": 1.0, "strategy": "simple", "prefer": "best"})
    stage.caller.script = lambda m: "99"
    choice, live = await stage.ask(asked)
    assert [attempt.role for attempt in stage.trail] == ["answer"]
    shadow = await stage.follow_up(asked, choice, live)
    assert shadow is not None and shadow.worst_usd is not None and shadow.strategy == "shadow"
    assert {attempt.role for attempt in stage.trail[1:]} == {"shadow"}
    (learner,) = stage.room.knowing.learners.values()
    assert learner.test.count == 1


@given(
    st.lists(st.sampled_from(["ok", "503", "429", "504", "502"]), min_size=3, max_size=3),
    st.floats(0.3, 30.0),
)
@settings(max_examples=40, deadline=None)
def test_no_request_is_lost_that_any_model_could_answer(fates: list[str], within_s: float) -> None:
    names = LIST["models"]
    errors = {
        "503": UpstreamUnavailable("down"),
        "429": UpstreamRateLimited("wait", retry_after_s=60.0),
        "504": UpstreamTimeout("late"),
        "502": UpstreamError("broken"),
    }

    async def once() -> None:
        stage = Stage()
        fate = dict(zip(names, fates, strict=True))
        stage.caller.script = lambda m: errors.get(fate[m.name], "fine")
        waiting = asyncio.create_task(stage.ask(request(routing=LIST), within_s=within_s))
        for _ in range(40):
            await stage.clock.advance(1.0)
        assert waiting.done()
        assert (waiting.exception() is None) == ("ok" in fates)

    asyncio.run(once())
