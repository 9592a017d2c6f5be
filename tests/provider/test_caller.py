"""The caller: when it tries again, and what it writes down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.chat import Answer, ChatRequest, Chunk, Usage, chunk, completion, usage_chunk
from edgewise.clock import Deadline, FakeClock
from edgewise.errors import (
    ModelNotFound,
    UpstreamDied,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from edgewise.provider.caller import Caller, Patience
from edgewise.provider.port import NEVER_FORWARDED, Call
from edgewise.words import Attempt, Model, Price

MODEL = Model("fake", "m", price=Price(Decimal(2), Decimal(10)))
USAGE = Usage(prompt_tokens=1000, completion_tokens=100)
HEAD: dict[str, Any] = {"id": "c", "created": 1, "model": "m"}
PIECES = [
    chunk({"role": "assistant", "content": ""}, **HEAD),
    chunk({"content": "Hi"}, **HEAD),
    chunk({}, **HEAD, finish_reason="stop"),
    usage_chunk(USAGE.wire(), **HEAD),
]


@dataclass
class Fake:
    """Fails with `errors`, one a call (None: not), then answers. `dies_after` chunks of the stream `death` comes."""

    clock: FakeClock
    errors: list[UpstreamError | None] = field(default_factory=list)
    takes_s: float = 0.0
    dies_after: int | None = None
    death: BaseException | None = None
    name: str = "fake"
    calls: list[Call] = field(default_factory=list)
    closed: int = 0
    usage: Usage | None = USAGE

    def models(self) -> tuple[Model, ...]:
        return ()

    async def _begin(self, call: Call) -> None:
        self.calls.append(call)
        self.clock.time += self.takes_s
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    async def complete(self, call: Call) -> Answer:
        await self._begin(call)
        message = {"role": "assistant", "content": "Hi", "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return Answer(completion([choice], **HEAD, usage=self.usage))

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        try:
            await self._begin(call)
            for number, piece in enumerate(PIECES):
                if number == self.dies_after and self.death is not None:
                    raise self.death
                yield piece
        finally:
            self.closed += 1

    async def close(self) -> None: ...


class Budget:
    def __init__(self, retries: int) -> None:
        self.left, self.asked = retries, 0

    def began(self) -> None: ...

    def allow(self) -> bool:
        self.asked += 1
        self.left -= 1
        return self.left >= 0


async def made(clock: FakeClock, fake: Fake, stream: bool, deadline_s: float = 60, **more: Any) -> Any:
    """The outcome of one call, with time moving by itself: (answer, chunks or error; trail)."""
    trail: list[Attempt] = []
    caller = Caller({"fake": fake}, clock, more.pop("patience", None), more.pop("budget", None))
    request = ChatRequest({"model": "auto", "messages": [], **more}, stream=stream)
    deadline = Deadline.after(clock, deadline_s)

    async def work() -> Any:
        if not stream:
            return await caller.complete(MODEL, request, deadline, trail)
        return [piece async for piece in await caller.stream(MODEL, request, deadline, trail)]

    task = asyncio.ensure_future(work())
    for _ in range(50):
        await clock.advance(1)
        if task.done():
            break
    try:
        return await task, trail
    except UpstreamError as error:
        return error, trail


both = pytest.mark.parametrize("stream", [False, True])


@both
async def test_a_good_call_is_one_attempt_with_its_cost(clock: FakeClock, stream: bool) -> None:
    fake = Fake(clock)
    got, trail = await made(clock, fake, stream)
    assert got == PIECES if stream else got.text == "Hi"
    (attempt,) = trail
    assert attempt.usage == USAGE and attempt.cost_usd == Decimal("0.003") and attempt.error is None
    assert (attempt.first_ms is not None) is stream
    assert fake.closed == stream


@both
async def test_an_unknown_price_or_count_is_unknown_and_never_zero(clock: FakeClock, stream: bool) -> None:
    trail: list[Attempt] = []
    caller = Caller({"fake": Fake(clock, usage=None)}, clock)
    await caller.complete(MODEL, ChatRequest({}), Deadline.after(clock, 9), trail)
    unpriced = Model("fake", "new")
    caller = Caller({"fake": Fake(clock)}, clock)
    await caller.complete(unpriced, ChatRequest({}), Deadline.after(clock, 9), trail)
    assert [attempt.cost_usd for attempt in trail] == [None, None]


@both
@pytest.mark.parametrize(
    "error",
    [UpstreamUnavailable("busy"), UpstreamRateLimited("slow"), UpstreamTimeout("late")],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_pass_is_tried_again(clock: FakeClock, stream: bool, error: UpstreamError) -> None:
    got, trail = await made(clock, Fake(clock, [error, error]), stream)
    assert not isinstance(got, UpstreamError)
    assert [attempt.error is None for attempt in trail] == [False, False, True]
    charged = None if isinstance(error, UpstreamTimeout) else Decimal(0)
    assert trail[0].cost_usd == charged and trail[0].status == error.status


@both
@pytest.mark.parametrize("error", [UpstreamRefused("no"), UpstreamError("broke", code="upstream_quota")])
async def test_what_cannot_pass_is_not(clock: FakeClock, stream: bool, error: UpstreamError) -> None:
    got, trail = await made(clock, Fake(clock, [error]), stream)
    assert got is error and len(trail) == 1


@both
async def test_it_gives_up_after_its_retries_with_the_last_error(clock: FakeClock, stream: bool) -> None:
    errors: list[UpstreamError | None] = [UpstreamUnavailable(str(number)) for number in range(9)]
    got, trail = await made(clock, Fake(clock, errors), stream, patience=Patience(max_retries=3))
    assert isinstance(got, UpstreamUnavailable) and got.message == "3" and len(trail) == 4


async def test_retry_after_is_waited_for(clock: FakeClock) -> None:
    begun = clock.time
    fake = Fake(clock, [UpstreamRateLimited("slow", retry_after_s=7)])
    _, trail = await made(clock, fake, False)
    assert len(trail) == 2 and clock.time - begun >= 7


@pytest.mark.parametrize(("told_s", "deadline_s"), [(10, 9), (25, 600)])
async def test_a_wait_beyond_the_deadline_or_our_patience_is_the_clients(
    clock: FakeClock, told_s: float, deadline_s: float
) -> None:
    begun = clock.time
    fake = Fake(clock, [UpstreamRateLimited("slow", retry_after_s=told_s)])
    got, trail = await made(clock, fake, False, deadline_s)
    assert isinstance(got, UpstreamRateLimited) and got.headers["retry-after"] == str(told_s)
    assert len(trail) == 1 and clock.time - begun <= 1


@both
async def test_an_attempt_that_cannot_finish_is_never_begun(clock: FakeClock, stream: bool) -> None:
    fake = Fake(clock)
    got, trail = await made(clock, fake, stream, deadline_s=0.2)
    assert isinstance(got, UpstreamTimeout) and not fake.calls and not trail
    slow = Fake(clock, [UpstreamUnavailable("busy")], takes_s=5.7)
    got, trail = await made(clock, slow, stream, deadline_s=6)
    assert isinstance(got, UpstreamUnavailable) and len(trail) == 1


async def test_the_budget_is_asked_once_a_retry_and_obeyed(clock: FakeClock) -> None:
    errors: list[UpstreamError | None] = [UpstreamUnavailable("x") for _ in range(5)]
    budget = Budget(1)
    _, trail = await made(clock, Fake(clock, errors), False, budget=budget, patience=Patience(max_retries=4))
    assert len(trail) == 2 and budget.asked == 2
    untouched = Budget(1)
    await made(clock, Fake(clock), False, budget=untouched)
    await made(clock, Fake(clock, [UpstreamRefused("no")]), False, budget=untouched)
    assert untouched.asked == 0


@pytest.mark.parametrize("death", [UpstreamUnavailable("gone"), UpstreamTimeout("late"), UpstreamDied("gone")])
@pytest.mark.parametrize("after", [1, 2, 3])
async def test_a_death_after_the_first_chunk_is_final(clock: FakeClock, death: UpstreamError, after: int) -> None:
    """Not tried again, even though another attempt might help: the client has heard the beginning."""
    fake = Fake(clock, dies_after=after, death=death)
    got, trail = await made(clock, fake, True)
    assert isinstance(got, UpstreamDied) and len(fake.calls) == 1 and fake.closed == 1
    (attempt,) = trail
    assert attempt.error is not None and attempt.cost_usd is None and attempt.first_ms is not None


async def test_an_empty_stream_is_tried_again(clock: FakeClock) -> None:
    fake = Fake(clock, dies_after=0, death=UpstreamUnavailable("empty"))
    got, trail = await made(clock, fake, True, patience=Patience(max_retries=1))
    assert isinstance(got, UpstreamUnavailable) and len(trail) == 2 and fake.closed == 2


@pytest.mark.parametrize("read", [0, 1, 2])
async def test_a_client_that_leaves_closes_the_call_and_leaves_a_record(clock: FakeClock, read: int) -> None:
    """Also one that leaves before it has read anything."""
    fake, trail = Fake(clock), list[Attempt]()
    chunks = await Caller({"fake": fake}, clock).stream(MODEL, ChatRequest({}), Deadline.after(clock, 9), trail)
    for _ in range(read):
        await anext(chunks)
    assert isinstance(chunks, AsyncGenerator)
    await chunks.aclose()
    assert fake.closed == 1
    assert [(attempt.error, attempt.status, attempt.cost_usd) for attempt in trail] == [("cancelled", 499, None)]


async def test_a_cancelled_call_leaves_a_record(clock: FakeClock) -> None:
    class Silent(Fake):
        async def complete(self, call: Call) -> Answer:
            await asyncio.Event().wait()
            raise AssertionError

    trail: list[Attempt] = []
    caller = Caller({"fake": Silent(clock)}, clock)
    task = asyncio.ensure_future(caller.complete(MODEL, ChatRequest({}), Deadline.after(clock, 9), trail))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() and trail[0].error == "cancelled"


async def test_an_unknown_provider_is_no_model(clock: FakeClock) -> None:
    with pytest.raises(ModelNotFound):
        await Caller({}, clock).complete(MODEL, ChatRequest({}), Deadline.after(clock, 9), [])


async def test_where_a_call_goes_is_never_the_clients_to_say(clock: FakeClock) -> None:
    fake = Fake(clock)
    foreign: dict[str, Any] = dict.fromkeys(sorted(NEVER_FORWARDED), "http://evil.example")
    await made(clock, fake, False, **foreign, future_field=1)
    assert fake.calls[0].body == {"model": "auto", "messages": [], "future_field": 1}


@given(st.integers(0, 6), st.floats(0, 30) | st.none(), st.floats(0.1, 100), st.integers(0, 1000))
async def test_no_wait_reaches_past_the_deadline_and_jitter_stays_in_its_bounds(
    retries: int, told_s: float | None, left_s: float, seed: int
) -> None:
    clock, patience = FakeClock(seed=seed), Patience(max_retries=9)
    caller = Caller({}, clock, patience)
    call = Call(MODEL, {}, Deadline.after(clock, left_s))
    wait_s = caller._wait_s(call, UpstreamRateLimited("slow", retry_after_s=told_s), retries)
    if wait_s is not None:
        assert (told_s or 0) <= wait_s <= (told_s or 0) + min(patience.cap_s, patience.base_s * 2**retries)
        assert left_s - wait_s >= patience.min_attempt_s
