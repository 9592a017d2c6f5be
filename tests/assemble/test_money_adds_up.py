"""Whatever is asked, in whatever order: providers' bills, the records and the budgets come to the same sum.

Real rooms for policy, routing, calls and batches; the providers and the guardrail are stand-ins that keep their own
bills, by their own arithmetic. Left out is what nobody can know the cost of (a call that broke off): that is charged
as it was held.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise import flow
from edgewise.api.away import Admission
from edgewise.api.lines import Lines
from edgewise.chat import Answer, CacheAsk, ChatRequest, Usage, completion, unfold
from edgewise.clock import Deadline
from edgewise.errors import (
    ContentFiltered,
    EdgewiseError,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from edgewise.jobs import start, upkeep
from edgewise.jobs.paid import PaidCall, PaidCalls
from edgewise.jobs.ports import Ask as LineAsk
from edgewise.jobs.remote import Remote
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from edgewise.policy.guards.bedrock import Judgement
from edgewise.policy.guards.guard import Guard
from edgewise.policy.guards.moderation import Moderator
from edgewise.policy.room import PolicyRoom
from edgewise.provider.caller import Caller
from edgewise.provider.port import Call
from edgewise.routing.names import Alias
from edgewise.routing.room import Room as Routing
from edgewise.words import Credentials, Model
from tests import fakes
from tests.jobs.away import FakeService
from tests.jobs.rig import CHAT, chat_line, jsonl, make_rig
from tests.policy.rig import Rig as Policy
from tests.routing.casting import ROWS, catalog

READING = Decimal("0.0004")
BATCH = 12
BRIEFLY = Decimal("1.25")
TIERS: dict[str, Decimal] = {"priority": Decimal(2), "flex": Decimal("0.5"), "batch": Decimal("0.5")}
ERRORS: dict[str, EdgewiseError] = {
    "busy": UpstreamRateLimited("Too many.", retry_after_s=1),
    "down": UpstreamUnavailable("It is down."),
    "refused": UpstreamRefused("Not this."),
    "filtered": ContentFiltered("Not that."),
}


def tiered(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the catalogue whose model has every tier, at a multiple of its price."""
    usual = {**row["price"], "w": str(BRIEFLY * Decimal(row["price"]["i"]))}
    rates = {
        tier: {letter: str(times * Decimal(usd)) for letter, usd in usual.items()} for tier, times in TIERS.items()
    }
    return {**row, "price": {**usual, "t": rates}}


ALL = {name: tiered(row) for name, row in ROWS.items()}


def bill(name: str, usage: Usage, tier: str | None) -> Decimal:
    """What a provider asks for, by its own arithmetic: writing is dearer than reading, for an hour twice as dear."""
    price = ALL[name]["price"]
    rate_in, rate_out = Decimal(price["i"]), Decimal(price["o"])
    hour = usage.cache_write_1h_tokens
    brief = usage.cache_write_tokens - hour
    plain = usage.prompt_tokens - usage.cache_write_tokens
    tokens = plain * rate_in + brief * BRIEFLY * rate_in + hour * 2 * rate_in + usage.completion_tokens * rate_out
    return tokens * TIERS.get(tier or "", Decimal(1)) / 10**6


@dataclass(slots=True)
class Bank:
    """A provider whose next calls go as they are told to; `billed` is what it asks for in all."""

    name: str
    outcomes: deque[str]
    served: list[str | None]
    billed: Decimal = Decimal(0)

    async def complete(self, call: Call) -> Answer:
        outcome = self.outcomes.popleft() if self.outcomes else "well"
        if outcome in ERRORS:
            raise ERRORS[outcome]
        size = len(str(call.messages))
        usage = Usage(size, 7, cache_write_tokens=size // 2, cache_write_1h_tokens=size // 4)
        tier = self.served[size % len(self.served)] or ("default" if "service_tier" in call.body else None)
        self.billed += bill(f"{self.name}/{call.model.id}", usage, tier)
        message = {"role": "assistant", "content": "yes", "refusal": None}
        finish = "content_filter" if outcome == "cut" else "stop"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        made = completion([choice], id="chatcmpl-1", created=1, model=call.model.id, usage=usage)
        return Answer({**made, "service_tier": tier} if tier else made)

    async def stream(self, call: Call) -> AsyncGenerator[dict[str, Any], None]:
        for piece in unfold(await self.complete(call), id="chatcmpl-2", created=2):
            yield piece


@dataclass(slots=True)
class Reader:
    """A guardrail that refuses what has 'bad' in it, and asks the same for every reading."""

    billed: Decimal = Decimal(0)

    async def judge(self, guardrail: str, text: str, source: str) -> Judgement:
        self.billed += READING
        return Judgement(("topic",), "No.", usd=READING) if "bad" in text else Judgement(usd=READING)


class Dead(BaseException):
    """What a killed worker does no more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, or one line, or one batch: what, how, and how its first calls go."""

    how: str
    text: str
    model: str
    outcomes: tuple[str, ...] = ()
    routing: tuple[tuple[str, Any], ...] = ()
    tier: str | None = None
    no_cache: bool = False


class World:
    """Two keys of a tenant, one of them with a guardrail, both with budgets, in front of it all. `served` are the tiers
    that providers say they served."""

    def __init__(self, served: list[str | None]) -> None:
        self.served, self.recorded = served, Decimal(0)
        self.outcomes: deque[str] = deque()
        self.tokens: dict[str, str] = {}
        self.policy, self.reader = Policy(), Reader()
        self.clock = self.policy.clock
        desk = replace(self.policy.room.desk, guard=Guard(lambda: Moderator(self.reader, self.policy.signal)))
        self.room = PolicyRoom(self.clock, self.policy.room.vault, desk)
        self.banks = {name: Bank(name, self.outcomes, self.served) for name in ("small", "other", "middle", "big")}
        aliases = {"pair": Alias(("small/mini", "big/opus"))}
        self.record = fakes.FakeRecord()
        caller: Any = Caller(self.banks, self.clock)  # type: ignore[arg-type]
        router = Routing(catalog(ALL), self.clock, aliases=aliases)
        self.rooms = fakes.rooms(clock=self.clock, policy=self.room, router=router, caller=caller, record=self.record)
        self.lines = Lines(lambda: self.rooms, self.room.impersonate, purse=self.room)
        self.jobs = make_rig(self.clock)
        self.service = Service(self.served)
        services = {"small": self.service}
        admit = Admission(lambda: self.rooms, self.room, services)
        remote = Remote(self.jobs.room, admit, services, BATCH, tell=self._tell, purse=self.room)
        self.worker = Worker(self.jobs.room, ChunkWork(self.jobs.room, self.lines, self.jobs.share), remote=remote)
        self.remote = remote

    def _tell(self, _batch: Any, result: Any, _model: Model) -> None:
        self.recorded += result.cost_usd

    async def start(self) -> None:
        await self.policy.tenant("acme", {"per": "forever", "usd": "900"})
        budgets = [{"per": "forever", "usd": "900"}]
        self.tokens = {
            "plain": await self.policy.key(budgets=budgets),
            "read": await self.policy.key(budgets=budgets, guards={"bedrock_guardrail": "g:1"}),
        }

    async def go(self, asked: Asked) -> None:
        self.outcomes.clear()
        self.outcomes.extend(asked.outcomes)
        before = len(self.record.notes)
        match asked.how:
            case "batch":
                await self._batch(asked)
            case "line" | "died":
                await self._line(asked)
            case _:
                await self._request(asked)
        await self.rooms.background.drain()
        if asked.how != "died":
            self.recorded += sum((_known(note.cost_usd) for note in self.record.notes[before:]), Decimal(0))

    def _body(self, asked: Asked) -> dict[str, Any]:
        body = {"model": asked.model, "messages": [{"role": "user", "content": asked.text}], "max_tokens": 50}
        return {**body, "service_tier": asked.tier} if asked.tier else body

    async def _request(self, asked: Asked) -> None:
        """A client's own: whole or streamed, by the plain key or by the one whose requests are read."""
        request = ChatRequest(
            self._body(asked),
            stream=asked.how == "stream",
            cache=CacheAsk(no_cache=asked.no_cache),
            routing=dict(asked.routing),
        )
        shown = Credentials(self.tokens["read" if asked.how == "read" else "plain"], CHAT)
        try:
            served = await self._moving(flow.serve(self.rooms, shown, request, Deadline.after(self.clock, 60), "req_1"))
            if served.chunks is not None:
                assert [piece async for piece in served.chunks]
        except EdgewiseError:
            return

    async def _line(self, asked: Asked) -> None:
        """A batch's line; of one that died, the first worker is gone when it has written its answer down."""
        kept: dict[str, PaidCall] = {}
        dead = asked.how == "died"

        async def keep(key: str, call: PaidCall) -> None:
            kept[key] = call
            if dead:
                raise Dead

        ask = LineAsk("acme", "k_1", CHAT, self._body(asked), "req_l", 60.0, PaidCalls(kept, keep))
        try:
            ran = await self._moving(self.lines(ask))
        except Dead:
            dead = False
            ran = await self._moving(self.lines(replace(ask, calls=PaidCalls(kept, keep))))
        if asked.how == "died":
            self.recorded += _known(ran.cost_usd)

    async def _batch(self, asked: Asked) -> None:
        """A whole batch at the provider's own service; what that refuses is asked here."""
        self.service.state = "working"
        self.service.refuses = {"t1", "t2"} if asked.outcomes else set()
        file = await self.jobs.upload(jsonl([chat_line(f"c{n}", f"t{n}", asked.model) for n in range(BATCH)]))
        wanted = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file}
        made = await start.create(self.jobs.room, "acme", "k_1", wanted)
        await self.jobs.pump(self.worker)
        self.service.state = "ended"
        await self.clock.advance(61)
        await upkeep.sweep(self.jobs.room, self.remote)
        await self.jobs.pump(self.worker)
        assert (await self.jobs.batch(made.id)).ended

    async def _moving(self, work: Coroutine[Any, Any, Any]) -> Any:
        """`work` with time going on while it waits."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await self.clock.advance(0.5)
        return task.result()

    @property
    def billed(self) -> Decimal:
        return sum((bank.billed for bank in self.banks.values()), self.reader.billed + self.service.billed)

    async def charged(self) -> set[Decimal]:
        """What the tenant's budget says, and what its keys' say together."""
        told = [await self.room.budgets(await self.room.impersonate("acme", key, CHAT)) for key in ("k_1", "k_2")]
        used = [{str(each["scope"]): Decimal(str(each["used_usd"])) for each in budgets} for budgets in told]
        return {used[0]["tenant"], used[0]["key"] + used[1]["key"]}


class Service(FakeService):
    """A batch service that keeps its bill, at half of the usual whatever tier a line says that it was."""

    def __init__(self, served: list[str | None]) -> None:
        super().__init__()
        self.served = served
        self.billed = Decimal(0)

    async def collect(self, id: str, model: Model) -> AsyncIterator[Mapping[str, Any]]:
        async for told in super().collect(id, model):
            self.billed += bill(model.name, Usage(10, 5), "batch")
            body = {**told["response"]["body"], "service_tier": self.served[0]}
            yield {**told, "response": {"status_code": 200, "body": body}}


def _known(usd: Decimal | None) -> Decimal:
    assert usd is not None, "nothing here is of unknown cost"
    return usd


options = st.sampled_from(
    (
        (),
        (("content_fallbacks", ("big/opus", "other/flash")),),
        (("allow_fallbacks", False),),
        (("fallbacks", ("other/flash",)),),
        (("hedge", True),),
    )
)
asks = st.builds(
    Asked,
    st.sampled_from(["whole", "stream", "read", "line", "died", "batch"]),
    st.sampled_from(["hello", "good day", "something bad", "and a longer question " * 20]),
    st.sampled_from(["small/mini", "pair", "big/opus", "auto:cascading", "auto"]),
    st.lists(st.sampled_from(["well", "cut", *ERRORS]), max_size=4).map(tuple),
    options,
    st.sampled_from([None, "flex", "priority", "auto"]),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(asks, min_size=1, max_size=8), st.lists(st.sampled_from([None, "default", *TIERS]), min_size=1, max_size=3)
)
def test_bills_records_and_budgets_are_one_sum(asked: list[Asked], served: list[str | None]) -> None:
    asyncio.run(_all_of(asked, served))


async def _all_of(asked: list[Asked], served: list[str | None]) -> None:
    world = World(served)
    await world.start()
    for each in asked:
        await world.go(each)
    assert await world.charged() == {world.billed} and world.recorded == world.billed


@pytest.mark.parametrize("how", ["whole", "stream", "read", "line", "died", "batch"])
async def test_every_way_costs_something(how: str) -> None:
    """So that the sums above are not all of nothing."""
    world = World([None])
    await world.start()
    await world.go(Asked(how, "hello", "small/mini", ("well",)))
    assert world.billed > 0 and await world.charged() == {world.billed}
