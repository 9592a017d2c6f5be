"""Who plays in routing's tests: a catalogue of four upstreams, a caller that behaves as it is told, a room of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edgewise.background import Background
from edgewise.chat import Answer, ChatRequest, Chunks, Usage, completion, unfold
from edgewise.clock import Deadline, FakeClock
from edgewise.errors import EdgewiseError
from edgewise.routing.catalog import Catalog
from edgewise.routing.room import Room
from edgewise.settings import Upstream
from edgewise.words import Attempt, Choice, Live, Model, Plan, Principal

ALL = ["streaming", "tools", "parallel_tools", "vision", "json_schema", "json_object", "logprobs", "n", "seed"]
ROWS: dict[str, dict[str, Any]] = {
    "small/mini": {"tier": "small", "quality": 0.75, "price": {"i": "0.15", "o": "0.6"}, "latency_ms": 500},
    "other/flash": {"tier": "small", "quality": 0.72, "price": {"i": "0.1", "o": "0.4"}, "latency_ms": 400},
    "middle/chat": {"tier": "medium", "quality": 0.79, "price": {"i": "1", "o": "4"}, "latency_ms": 900},
    "big/opus": {"tier": "large", "quality": 0.9, "price": {"i": "3", "o": "15"}, "latency_ms": 2000},
}


def catalog(rows: Mapping[str, Mapping[str, Any]] = ROWS) -> Catalog:
    full = {name: {"context": 128000, "output": 1000, "capabilities": ALL, **row} for name, row in rows.items()}
    ids: dict[str, list[str]] = {}
    for name in full:
        provider, model_id = name.split("/", 1)
        ids.setdefault(provider, []).append(model_id)
    upstreams = [Upstream(name=p, base_url="http://127.0.0.1:9", models=tuple(found)) for p, found in ids.items()]
    return Catalog.load([], upstreams=upstreams, overrides=full)


def request(text: str = "What is the capital of France?", model: str = "auto", **body: Any) -> ChatRequest:
    routing = body.pop("routing", {})
    stream = body.pop("stream", False)
    said = {"model": model, "messages": [{"role": "user", "content": text}], **body}
    return ChatRequest(said, stream=stream, routing=routing)


def plan_for(asked: ChatRequest, **fields: Any) -> Plan:
    return Plan(Principal("acme", "key_1"), asked, **fields)


def answer(text: str, model: str = "m", finish: str = "stop", **message: Any) -> Answer:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None, **message},
        "logprobs": None,
        "finish_reason": finish,
    }
    return Answer(completion([choice], id="chatcmpl-1", created=1, model=model, usage=Usage(20, 10)))


Script = Callable[[Model], "str | Answer | EdgewiseError"]


@dataclass(slots=True)
class FakeCaller:
    """Implements `Caller`: what a model says or how it fails is the script's; each call takes its model's latency."""

    clock: FakeClock
    script: Script = lambda model: f"from {model.name}"
    asked: list[str] = field(default_factory=list)
    takes_s: float = 0.0

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        self.asked.append(model.name)
        assert deadline.left_s() > 0, "an attempt past its deadline"
        if self.takes_s:
            await self.clock.sleep(self.takes_s)
        said = self.script(model)
        if isinstance(said, EdgewiseError):
            trail.append(Attempt(model, status=said.status, error=said.code or said.type, cost_usd=Decimal(0)))
            raise said
        found = said if isinstance(said, Answer) else answer(said, model.id)
        cost = model.price.cost(Usage(20, 10)) if model.price else None
        trail.append(Attempt(model, usage=found.usage, cost_usd=cost))
        return found

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks:
        found = await self.complete(model, request, deadline, trail)

        async def pieces() -> AsyncIterator[dict[str, Any]]:
            for piece in unfold(found, id="chatcmpl-2", created=2):
                yield piece

        return pieces()


@dataclass(slots=True)
class Stage:
    """A room with its caller and clock; `ask` takes one request all the way."""

    clock: FakeClock = field(default_factory=FakeClock)
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: ROWS)
    aliases: Mapping[str, Any] = field(default_factory=dict)
    table: Any = None
    background: Background | None = None
    room: Room = field(init=False)
    caller: FakeCaller = field(init=False)
    trail: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.room = Room(
            catalog(self.rows),
            self.clock,
            aliases=self.aliases,
            table=None if self.table is None else lambda: self.table,
            background=self.background,
        )
        self.caller = FakeCaller(self.clock)

    async def choose(self, asked: ChatRequest, **plan: Any) -> Choice:
        given = plan_for(asked, **plan)
        return await self.room.choose(asked, given, self.room.resolve(asked, given))

    async def ask(self, asked: ChatRequest, within_s: float = 60.0, **plan: Any) -> tuple[Choice, Live]:
        choice = await self.choose(asked, **plan)
        deadline = Deadline.after(self.clock, within_s)
        live = await self.room.carry_out(choice, asked, self.caller, deadline, self.trail)
        return choice, live

    async def follow_up(self, asked: ChatRequest, choice: Choice, live: Live) -> Choice | None:
        """What happens behind an answer, to its end; what was asked again."""
        plan = plan_for(asked)
        shadow = self.room.follow_up(plan, choice, live, "req_1")
        if self.background is not None:
            await self.background.drain()
        if shadow is not None:
            deadline = Deadline.after(self.clock, 60)
            await self.room.compare(shadow, plan, live, self.caller, deadline, self.trail)
        return shadow
