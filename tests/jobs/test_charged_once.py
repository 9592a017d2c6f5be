"""A line's money: whenever its worker dies, its key's budget is charged once and the provider is paid once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from edgewise.api.embeddings import EmbedLine
from edgewise.api.lines import Lines
from edgewise.aws import Table
from edgewise.chat import ChatRequest
from edgewise.clock import Clock, Deadline, FakeClock
from edgewise.errors import UpstreamUnavailable
from edgewise.jobs.paid import PaidCall, PaidCalls
from edgewise.jobs.ports import Ask, Ran
from edgewise.policy.dynamodb_tills import DynamoTills
from edgewise.policy.tills import Full, MemoryTills, Taken, Till, Tills
from edgewise.price import Price
from edgewise.words import Credentials, Model, Principal
from tests import fakes
from tests.jobs.rig import CHAT, chat_line
from tests.policy.rig import Rig

COST = Decimal("0.0012")
EMBEDDER = Model("fake", "e", price=Price(Decimal(400), Decimal(0)))
ASKS = {
    CHAT: {**chat_line("a", "hi")["body"]},
    "/v1/embeddings": {"model": "e", "input": "a cat"},
}


class Dead(BaseException):
    """What a killed process does no more."""


class Mortal:
    """Tills that a worker reaches until it is dead; it dies at the `at`-th thing it does there or with its calls."""

    def __init__(self, inner: Tills) -> None:
        self.inner = inner
        self.at: int | None = None
        self.done = 0

    def step(self) -> None:
        self.done += 1
        if self.at is not None and self.done >= self.at:
            raise Dead

    async def take(self, tills: Sequence[Till], amounts: Sequence[int], hold: str, until: float) -> Taken | Full:
        self.step()
        return await self.inner.take(tills, amounts, hold, until)

    async def give(self, till: Till, amount: int, actual: int, hold: str) -> int | None:
        self.step()
        given = await self.inner.give(till, amount, actual, hold)
        # The write is made and its answer is lost: what an exact charge must survive, too.
        self.step()
        return given

    async def used(self, tills: Sequence[Till], now: float) -> list[int]:
        return await self.inner.used(tills, now)

    async def sweep(self, till: Till, now: float) -> int:
        return await self.inner.sweep(till, now)


class World:
    """A key with a budget, a provider that counts, and one line's calls; `live` is one worker's try at the line."""

    def __init__(self, tills: Tills) -> None:
        self.mortal = Mortal(tills)
        self.policy = Rig(self.mortal)
        self.clock: Clock = self.policy.clock
        self.caller = fakes.FakeCaller(self.clock)
        self.calls: dict[str, PaidCall] = {}
        self.embedded = 0
        self.key = ""

    async def start(self) -> World:
        await self.policy.key(budgets=[{"per": "day", "usd": "1"}])
        self.key = "k_1"
        return self

    async def keep(self, key: str, call: PaidCall) -> None:
        self.mortal.step()
        self.calls[key] = PaidCall.of(call.answer.completion, call.wire())

    async def embed(self, body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
        self.embedded += 1
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return {"data": [{"embedding": [0.5, 1.0]}], "model": model_id, "usage": usage}

    async def live(self, url: str, cache: Any = None) -> Ran:
        room, router = self.policy.room, fakes.FakeRouter(worst_usd=Decimal("0.01"))
        rooms = fakes.rooms(clock=self.clock, caller=self.caller, policy=room, router=router, cache=cache)
        embed = EmbedLine(lambda name: (EMBEDDER, self.embed) if name == "e" else None)
        lines = Lines(lambda: rooms, room.impersonate, {"/v1/embeddings": embed}, room)
        calls = PaidCalls(dict(self.calls), self.keep)
        return await lines(Ask("acme", self.key, url, ASKS[url], "req_1", 30.0, calls))

    async def used(self) -> str:
        plan = await self.policy.room.plan(
            await self.policy.room.impersonate("acme", self.key, CHAT), ChatRequest(ASKS[CHAT]), _NOBODY
        )
        return str((await self.policy.ledger.state(plan.context["lines"]))[0]["used_usd"])

    @property
    def paid(self) -> int:
        return len(self.caller.calls) + self.embedded


_NOBODY = Credentials(None, CHAT)


@pytest.fixture(params=["memory", "dynamodb"])
def world(request: pytest.FixtureRequest) -> Callable[[], World]:
    if request.param == "memory":
        return lambda: World(MemoryTills())
    table: Table = request.getfixturevalue("state_table")
    return lambda: World(DynamoTills(table, FakeClock()))


@pytest.mark.parametrize("url", ASKS)
async def test_a_line_is_charged_what_its_call_cost(world: Callable[[], World], url: str) -> None:
    first = await world().start()
    whole = await first.live(url)
    assert (whole.status, whole.cost_usd, await first.used(), first.paid) == (200, COST, str(COST), 1)


@pytest.mark.parametrize("url", ASKS)
@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("at", [3, 4, 5])
async def test_a_death_between_the_answer_and_the_result(url: str, at: int, *, swept: bool) -> None:
    """3: kept and not charged; 4: charged and not told; 5: all done but the line's result."""
    world = await World(MemoryTills()).start()
    world.mortal.at = at
    if at < 5:
        with pytest.raises(Dead):
            await world.live(url)
    else:
        await world.live(url)
    world.mortal.at = None
    if swept:
        # Its lease runs out, and somebody who was refused has taken it back.
        world.policy.clock.time += 1000
        (owner, name) = next(iter(world.mortal.inner._drawers))  # type: ignore[attr-defined]
        await world.mortal.sweep(Till(owner, name, 0), world.clock.now())
    for _ in range(2):
        ran = await world.live(url)
        assert (ran.status, ran.cost_usd, ran.cached) == (200, COST, False)
        assert (world.paid, await world.used()) == (1, str(COST))


async def test_what_an_earlier_try_paid_counts_when_the_cache_serves_the_later_one(clock: FakeClock) -> None:
    """The worker died after the cache had the answer: the line cost what its call cost, though this try is a hit."""
    world = await World(MemoryTills()).start()
    cache = fakes.FakeCache(clock)
    await world.live(CHAT, cache)
    again = await world.live(CHAT, cache)
    assert (again.cost_usd, again.cached, world.paid) == (COST, False, 1)
    world.calls.clear()
    hit = await world.live(CHAT, cache)
    assert (hit.cost_usd, hit.cached) == (Decimal(0), True)


async def test_a_call_without_an_answer_is_made_again_and_charged_once() -> None:
    world = await World(MemoryTills()).start()
    world.mortal.at = 2
    with pytest.raises(Dead):
        await world.live(CHAT)
    world.mortal.at = None
    assert world.calls == {}
    await world.live(CHAT)
    assert world.paid == 2, "nobody kept the first answer"
    world.policy.clock.time += 1000
    assert await world.used() == str(COST), "the dead worker's hold comes back"


async def test_a_further_try_in_the_same_process_pays_nothing_again(clock: FakeClock) -> None:
    """The paid call is kept and something after it fails."""
    kept: dict[str, PaidCall] = {}

    async def keep(key: str, call: PaidCall) -> None:
        kept[key] = call

    class Failing(fakes.FakePolicy):
        async def mend(self, *_: Any) -> Any:
            raise UpstreamUnavailable("The check of the answer failed.")

    caller = fakes.FakeCaller(clock)
    calls = PaidCalls({}, keep)
    ask = Ask("acme", "k", CHAT, ASKS[CHAT], "req_1", 30.0, calls)
    for policy, status in ((Failing(), 503), (fakes.FakePolicy(), 200)):
        rooms = fakes.rooms(clock=clock, caller=caller, policy=policy)
        lines = Lines(lambda: rooms, _anyone)  # noqa: B023
        assert (await lines(ask)).status == status
    assert len(caller.calls) == 1


async def _anyone(tenant: str, key_id: str, route: str) -> Principal:
    return Principal(tenant, key_id)
