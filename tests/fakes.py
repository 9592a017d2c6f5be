"""Stand-ins for the rooms behind the corridor's ports. They behave; they expect nothing.

`rooms(...)` builds a whole corridor of them: one tenant a key, a cache in a dict, one provider whose answers are
scripted. A test hands in the part that it is about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edgewise import chat
from edgewise.chat import Answer, ChatRequest, Chunk, Chunks, Usage
from edgewise.clock import Clock, Deadline, FakeClock
from edgewise.errors import EdgewiseError, ModelNotFound, NotAuthenticated, UpstreamDied
from edgewise.query.asker import ExactAsker
from edgewise.rooms import Rooms
from edgewise.words import (
    Attempt,
    CachePolicy,
    Choice,
    Credentials,
    Entry,
    Hit,
    Live,
    Miss,
    Model,
    Note,
    Plan,
    Principal,
    Query,
    Step,
    Target,
    Verdict,
)

KEY = "ew_test"


@dataclass(slots=True)
class FakePolicy:
    """Keys to tenants; every key may do everything. Holds and settlements are kept to be looked at."""

    keys: Mapping[str, str] = field(default_factory=lambda: {KEY: "acme"})
    cache: CachePolicy = field(default_factory=CachePolicy)
    headers: Mapping[str, str] = field(default_factory=dict)
    refuse: EdgewiseError | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    holds: list[Choice] = field(default_factory=list)
    settled: list[list[Attempt]] = field(default_factory=list)
    closed: int = 0

    async def identify(self, credentials: Credentials) -> Principal:
        tenant = self.keys.get(credentials.token or "")
        if tenant is None:
            raise NotAuthenticated("Incorrect API key provided.")
        return Principal(tenant, key_id=f"key_{tenant}", settings=self.settings)

    async def plan(self, principal: Principal, request: ChatRequest, credentials: Credentials) -> Plan:
        if self.refuse is not None:
            raise self.refuse
        return Plan(principal, request, cache=self.cache, headers=self.headers)

    async def reserve(self, plan: Plan, choice: Choice) -> Any:
        self.holds.append(choice)
        return len(self.holds)

    async def mend(self, plan: Plan, answer: Answer, again: Callable[[ChatRequest], Awaitable[Answer]]) -> Answer:
        return answer

    async def settle(self, hold: Any, attempts: list[Attempt]) -> None:
        self.settled.append(list(attempts))

    async def close(self, plan: Plan) -> None:
        self.closed += 1


@dataclass(slots=True)
class FakeCache:
    """A dict by tenant and key. Keeps whole answers that ended well, and heeds `CacheAsk`."""

    clock: Clock
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    given_up: list[EdgewiseError | None] = field(default_factory=list)

    async def look(self, query: Query, plan: Plan) -> Verdict:
        ask = plan.request.cache
        entry = self.entries.get((query.tenant, query.key))
        if plan.cache.mode == "off":
            return Miss("off")
        if ask.no_cache:
            return Miss("no-cache")
        if entry is None:
            return Miss("absent")
        age_s = self.clock.now() - entry.created_at
        if ask.max_age_s is not None and age_s > ask.max_age_s:
            return Miss("too-old")
        return Hit(entry, "exact", age_s)

    async def offer(self, query: Query, plan: Plan, lead: Any, answer: Answer, attempt: Attempt) -> str:
        if plan.request.cache.no_store or plan.cache.mode == "off":
            return "no-store"
        if not set(answer.finish_reasons) <= {"stop", "tool_calls"}:
            return "unfinished"
        now = self.clock.now()
        self.entries[query.tenant, query.key] = Entry(
            query.key, answer, now, now + 3600, now + 3600,
            attempt.model.id, attempt.model.provider, attempt.cost_usd,
        )  # fmt: skip
        return "stored"

    async def give_up(self, query: Query, lead: Any, error: EdgewiseError | None) -> None:
        self.given_up.append(error)

    async def look_each(self, queries: Sequence[Query], plan: Plan) -> list[Verdict]:
        return [await self.look(query, plan) for query in queries]

    async def offer_each(self, made: Sequence[tuple[Query, Answer, Attempt]], plan: Plan) -> str:
        now, until = self.clock.now(), self.clock.now() + 3600
        for query, answer, attempt in [] if plan.request.cache.no_store or plan.cache.mode == "off" else made:
            about = (attempt.model.id, attempt.model.provider, attempt.cost_usd)
            self.entries[query.tenant, query.key] = Entry(query.key, answer, now, until, until, *about)
        return "stored"


Reply = Answer | EdgewiseError | Sequence[Chunk | Exception]
Script = Callable[[ChatRequest], Reply]


def saying(text: str, *, finish: str = "stop", usage: Usage | None = None, **message: Any) -> Answer:
    """A whole answer with `text`; `message` adds to the assistant's message."""
    return Answer(
        chat.completion(
            [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None, **message},
                    "logprobs": None,
                    "finish_reason": finish,
                }
            ],
            id="chatcmpl-0000000000upstream000000",
            created=1_700_000_000,
            model="fake-1",
            usage=usage or Usage(prompt_tokens=5, completion_tokens=7),
        )
    )


def echo(request: ChatRequest) -> Reply:
    """Says the last message back."""
    return saying(chat.text_of(request.messages[-1].get("content")) or "…")


@dataclass(slots=True)
class FakeCaller:
    """A provider by script. A sequence of chunks with an error in it streams up to the error."""

    clock: Clock
    script: Script = echo
    latency_s: float = 0.0
    chunk_s: float = 0.0
    piece_chars: int = 5
    calls: list[ChatRequest] = field(default_factory=list)
    open_streams: int = 0

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        reply = await self._reply(model, request, trail)
        assert isinstance(reply, Answer)
        trail.append(Attempt(model, usage=reply.usage, cost_usd=Decimal("0.0012"), latency_ms=self.latency_s * 1000))
        return reply

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks:
        reply = await self._reply(model, request, trail)
        if isinstance(reply, Answer):
            told = reply.completion
            reply = list(chat.unfold(reply, id=told["id"], created=told["created"], piece_chars=self.piece_chars))
        return self._chunks(model, reply, trail)

    async def _reply(
        self, model: Model, request: ChatRequest, trail: list[Attempt]
    ) -> Answer | Sequence[Chunk | Exception]:
        self.calls.append(request)
        if self.latency_s:
            await self.clock.sleep(self.latency_s)
        reply = self.script(request)
        if isinstance(reply, EdgewiseError):
            trail.append(Attempt(model, status=reply.status, error=reply.code))
            raise reply
        return reply

    async def _chunks(
        self, model: Model, pieces: Sequence[Chunk | Exception], trail: list[Attempt]
    ) -> AsyncIterator[Chunk]:
        usage: Usage | None = None
        error: str | None = "closed"
        self.open_streams += 1
        try:
            for piece in pieces:
                if self.chunk_s:
                    await self.clock.sleep(self.chunk_s)
                if isinstance(piece, Exception):
                    error = getattr(piece, "code", None) or "error"
                    raise piece
                usage = Usage.of(piece.get("usage")) or usage
                yield piece
            error = None
        finally:
            self.open_streams -= 1
            cost = None if usage is None else Decimal("0.0012")
            trail.append(Attempt(model, usage=usage, cost_usd=cost, error=error))


@dataclass(slots=True)
class FakeRouter:
    """One model for every name but 'missing'."""

    provider: str = "fake"
    observed: int = 0
    worst_usd: Decimal | None = None

    def resolve(self, request: ChatRequest, plan: Plan) -> Target:
        if request.model == "missing":
            raise ModelNotFound("The model 'missing' does not exist.", param="model")
        return Target(f"{self.provider}/{request.model}", (Model(self.provider, request.model),))

    async def choose(self, request: ChatRequest, plan: Plan, target: Target) -> Choice:
        return Choice((Step(target.models),), strategy="simple", reason="the only one", worst_usd=self.worst_usd)

    async def carry_out(
        self, choice: Choice, request: ChatRequest, caller: Any, deadline: Deadline, trail: list[Attempt]
    ) -> Live:
        model = choice.steps[0].models[0]
        if not request.stream:
            return Live(model, answer=await caller.complete(model, request, deadline, trail))
        chunks = await caller.stream(model, request, deadline, trail)
        try:
            first = await anext(chunks)
        except StopAsyncIteration:
            raise UpstreamDied("The provider sent nothing.") from None
        return Live(model, chunks=_with(first, chunks))

    def observe(self, plan: Plan, choice: Choice, trail: list[Attempt], answer: Answer | None) -> None:
        self.observed += 1

    def follow_up(self, plan: Plan, choice: Choice, live: Live, request_id: str) -> Choice | None:
        return None

    async def compare(self, shadow: Choice, plan: Plan, live: Live, caller: Any, deadline: Any, trail: Any) -> None:
        raise AssertionError("nothing was to be compared")


async def _with(first: Chunk, rest: Any) -> AsyncIterator[Chunk]:
    try:
        yield first
        async for chunk in rest:
            yield chunk
    finally:
        await rest.aclose()


@dataclass(slots=True)
class FakeRecord:
    notes: list[Note] = field(default_factory=list)

    def note(self, note: Note) -> None:
        self.notes.append(note)


def rooms(
    *,
    clock: Clock | None = None,
    policy: Any = None,
    asker: Any = None,
    cache: Any = None,
    router: Any = None,
    caller: Any = None,
    record: Any = None,
    script: Script = echo,
) -> Rooms:
    """A corridor of fakes; any room may be replaced."""
    clock = clock or FakeClock()
    return Rooms(
        policy=policy or FakePolicy(),
        asker=asker or ExactAsker(),
        cache=cache or FakeCache(clock),
        router=router or FakeRouter(),
        caller=caller or FakeCaller(clock, script),
        record=record or FakeRecord(),
        clock=clock,
    )
