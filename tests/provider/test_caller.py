"""The caller: what it writes down, and what it leaves to others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

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
from edgewise.price import Price
from edgewise.provider.caller import Caller
from edgewise.provider.port import NEVER_FORWARDED, Call
from edgewise.words import Attempt, Model

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
    tier: str | None = None

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
        return Answer(completion([choice], **HEAD, usage=self.usage) | self._served())

    def _served(self) -> dict[str, Any]:
        return {"service_tier": self.tier} if self.tier else {}

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        try:
            await self._begin(call)
            for number, piece in enumerate(PIECES):
                if number == self.dies_after and self.death is not None:
                    raise self.death
                yield piece | self._served() if number == 1 else piece
        finally:
            self.closed += 1

    async def close(self) -> None: ...


async def made(
    clock: FakeClock, fake: Fake, stream: bool, deadline_s: float = 60, model: Model = MODEL, **more: Any
) -> Any:
    """The outcome of one call: (answer, chunks or error; trail)."""
    trail: list[Attempt] = []
    caller = Caller({"fake": fake}, clock)
    request = ChatRequest({"model": "auto", "messages": [], **more}, stream=stream)
    deadline = Deadline.after(clock, deadline_s)

    try:
        if not stream:
            return await caller.complete(model, request, deadline, trail), trail
        return [piece async for piece in await caller.stream(model, request, deadline, trail)], trail
    except UpstreamError as error:
        return error, trail


both = pytest.mark.parametrize("stream", [False, True])


TIERED = Price(
    Decimal(2),
    Decimal(10),
    tiers={"priority": Price(Decimal(4), Decimal(20)), "flex": Price(Decimal(1), Decimal(5))},
)


@both
@pytest.mark.parametrize(
    ("asked", "told", "usd"),
    [
        (None, "priority", "0.006"),
        ("priority", "default", "0.003"),
        ("priority", "priority", "0.006"),
        ("priority", None, "0.006"),
        ("flex", "flex", "0.0015"),
        ("flex", None, "0.003"),
        (None, "reserved", "0.006"),
    ],
)
async def test_a_call_costs_what_the_provider_says_that_it_served(
    clock: FakeClock, stream: bool, asked: str | None, told: str | None, usd: str
) -> None:
    """And what was asked only where it does not say, if that is dearer."""
    fake = Fake(clock, tier=told)
    _, (attempt,) = await made(clock, fake, stream, model=replace(MODEL, price=TIERED), service_tier=asked)
    assert attempt.cost_usd == Decimal(usd)


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
    [UpstreamUnavailable("busy"), UpstreamRateLimited("slow", retry_after_s=1), UpstreamTimeout("late"),
     UpstreamRefused("no"), UpstreamError("broke", code="upstream_quota")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_a_failure_is_told_and_left_to_the_router(clock: FakeClock, stream: bool, error: UpstreamError) -> None:
    fake = Fake(clock, [error])
    got, trail = await made(clock, fake, stream)
    assert got is error and len(fake.calls) == 1
    (attempt,) = trail
    charged = None if isinstance(error, UpstreamTimeout) else Decimal(0)
    assert attempt.cost_usd == charged and attempt.status == error.status


@both
async def test_an_attempt_that_cannot_finish_is_never_begun(clock: FakeClock, stream: bool) -> None:
    fake = Fake(clock)
    got, trail = await made(clock, fake, stream, deadline_s=0.2)
    assert isinstance(got, UpstreamTimeout) and not fake.calls and not trail


@pytest.mark.parametrize("death", [UpstreamUnavailable("gone"), UpstreamTimeout("late"), UpstreamDied("gone")])
@pytest.mark.parametrize("after", [1, 2, 3])
async def test_a_death_after_the_first_chunk_is_final(clock: FakeClock, death: UpstreamError, after: int) -> None:
    """Not tried again, even though another attempt might help: the client has heard the beginning."""
    fake = Fake(clock, dies_after=after, death=death)
    got, trail = await made(clock, fake, True)
    assert isinstance(got, UpstreamDied) and len(fake.calls) == 1 and fake.closed == 1
    (attempt,) = trail
    assert attempt.error is not None and attempt.cost_usd is None and attempt.first_ms is not None


async def test_a_stream_that_fails_before_its_first_chunk_is_closed(clock: FakeClock) -> None:
    fake = Fake(clock, dies_after=0, death=UpstreamUnavailable("empty"))
    got, trail = await made(clock, fake, True)
    assert isinstance(got, UpstreamUnavailable) and len(trail) == 1 and fake.closed == 1


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
