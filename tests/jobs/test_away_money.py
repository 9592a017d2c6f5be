"""A provider's batch for a key with a budget: held before it goes, charged once with what it cost when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from edgewise.api.away import Admission
from edgewise.aws import Table
from edgewise.clock import FakeClock
from edgewise.errors import Unavailable, UpstreamRefused
from edgewise.jobs import start, upkeep
from edgewise.jobs.batch import Batch
from edgewise.jobs.remote import Remote
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from edgewise.policy.dynamodb_tills import DynamoTills
from edgewise.policy.tills import MemoryTills, Tills
from edgewise.words import Model
from tests import fakes
from tests.jobs.away import FakeService, Priced
from tests.jobs.rig import chat_line, jsonl, make_rig
from tests.policy.rig import Rig as PolicyRig

LINES = 20
COST = LINES * (10 * Decimal(1) + 5 * Decimal(4)) / 1_000_000
SHARE = 0.5


class Shop:
    """A key of the tenant `acme` with a budget, and a provider whose batches it may use."""

    def __init__(self, tills: Tills | None = None) -> None:
        self.policy = PolicyRig(tills)
        self.rig = make_rig(self.policy.clock)
        self.service = FakeService()
        rooms = fakes.rooms(router=Priced())
        services = {"fake": self.service}
        admit = Admission(lambda: rooms, self.policy.room, services, SHARE)
        self.remote = Remote(self.rig.room, admit, services, min_lines=10, purse=self.policy.room)
        self.worker = Worker(self.rig.room, ChunkWork(self.rig.room, self.rig.run, self.rig.share), remote=self.remote)

    async def create(self, usd: str = "1", per: str = "day", model: str | None = None, **more: Any) -> Batch:
        await self.policy.key(budgets=[{"per": per, "usd": usd, "model": model}])
        lines = [chat_line(f"c{n}", f"t{n}", **more) for n in range(LINES)]
        file = await self.rig.upload(jsonl(lines))
        asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": file}
        return await start.create(self.rig.room, "acme", "k_1", asked)

    async def submit(self, usd: str = "1", per: str = "day", model: str | None = None, **more: Any) -> Batch:
        batch = await self.create(usd, per, model, **more)
        await self.work()
        return await self.rig.batch(batch.id)

    async def work(self) -> None:
        await self.rig.pump(self.worker, rounds=2000)

    async def come_back(self) -> None:
        self.service.state = "ended"
        await self.sweep()
        await self.work()

    async def sweep(self) -> None:
        await self.rig.clock.advance(61)
        await upkeep.sweep(self.rig.room, self.remote)

    async def used(self) -> Decimal:
        who = await self.policy.room.impersonate("acme", "k_1", "/v1/chat/completions")
        (told,) = await self.policy.room.budgets(who)
        return Decimal(str(told["used_usd"]))


@pytest.fixture(params=["memory", "dynamodb"])
def shop(request: pytest.FixtureRequest) -> Callable[[], Shop]:
    if request.param == "memory":
        return lambda: Shop(MemoryTills())
    table: Table = request.getfixturevalue("state_table")
    return lambda: Shop(DynamoTills(table, FakeClock()))


async def test_it_is_held_for_sent_with_a_bound_and_charged_what_it_cost(shop: Callable[[], Shop]) -> None:
    one = shop()
    batch = await one.submit()
    sent = one.service.batches[batch.id]
    assert len(sent) == LINES and {line["body"]["max_completion_tokens"] for line in sent} == {4096}
    held = await one.used()
    assert LINES * 4096 * 4 / Decimal(10**6) < held <= Decimal("0.5")
    await one.come_back()
    done = await one.rig.batch(batch.id)
    assert (done.status, one.rig.run.asked) == ("completed", [])
    assert await one.used() == done.tally.cost_usd == COST < held
    told = [percent for name, percent in one.policy.signals if name == "BudgetUsedPct"]
    assert told == [pytest.approx(100 * float(COST))], "alarms hear of it: nobody else may be spending"


@pytest.mark.parametrize(("model", "cost"), [("fake/*", COST), ("claude-*", Decimal(0))])
async def test_a_models_budget_is_held_for_that_model_alone(model: str, cost: Decimal) -> None:
    one = Shop()
    await one.submit(model=model)
    assert one.service.submissions == 1 and (await one.used() > 0) is (cost > 0)
    await one.come_back()
    assert await one.used() == cost


async def test_a_line_that_bounds_its_answer_keeps_its_bound() -> None:
    one = Shop()
    batch = await one.submit(max_tokens=7)
    assert all("max_completion_tokens" not in line["body"] for line in one.service.batches[batch.id])
    assert await one.used() < LINES * (500 + 7 * 4) / Decimal(10**6)


@pytest.mark.parametrize("usd", ["0.5", "0.0001"])
async def test_what_would_leave_others_too_little_stays_here(usd: str) -> None:
    """Half of a budget is for requests that somebody waits for, and a batch's worst case is several times its cost."""
    one = Shop()
    batch = await one.submit(usd)
    assert batch.status == "completed" and len(one.rig.run.asked) == LINES
    assert (one.service.submissions, await one.used()) == (0, Decimal(0))


@pytest.mark.parametrize("more", [{"web_search_options": {}}, {"max_tokens": "many"}, {"n": "x"}])
async def test_so_does_a_line_whose_most_nobody_knows(more: dict[str, Any]) -> None:
    """Because it is without one, or because it is none that any model could be asked."""
    one = Shop()
    await one.submit(**more)
    assert (one.service.submissions, len(one.rig.run.asked), await one.used()) == (0, LINES, Decimal(0))


async def test_what_the_provider_refuses_is_held_no_longer() -> None:
    one = Shop()
    one.service.error = UpstreamRefused("This model takes no batches.", status=400)
    batch = await one.submit()
    assert batch.status == "completed" and len(one.rig.run.asked) == LINES and await one.used() == 0


async def test_what_found_no_room_stays_here_also_when_there_is_some() -> None:
    """The same message comes again while its lines are asked here, and what filled the budget is over."""
    one = Shop()
    batch = await one.create()
    who = await one.policy.room.impersonate("acme", "k_1", "/v1/chat/completions")
    asked: dict[str, Any] = {"name": "other", "until": one.rig.clock.now() + 60, "share": 1.0}
    other = await one.policy.room.hold(who, Model("fake", "m"), Decimal("0.9"), **asked)
    await start.validate(one.rig.room, batch.id, one.remote.take)
    await one.policy.room.charge(other, [])
    await start.validate(one.rig.room, batch.id, one.remote.take)
    await one.work()
    assert (one.service.submissions, len(one.rig.run.asked), await one.used()) == (0, LINES, Decimal(0))


async def test_one_cancelled_while_it_is_submitted_is_stopped_there_and_charged() -> None:
    one = Shop()
    batch = await one.create()
    sending, sent, submit = asyncio.Event(), asyncio.Event(), one.service.submit

    async def slow(*asked: Any) -> str:
        sending.set()
        await sent.wait()
        return await submit(*asked)

    one.service.submit = slow  # type: ignore[method-assign, assignment]
    taking = asyncio.create_task(start.validate(one.rig.room, batch.id, one.remote.take))
    await sending.wait()
    await start.cancel(one.rig.room, await one.rig.batch(batch.id))
    await one.sweep()
    sent.set()
    await taking
    await one.work()
    assert ((await one.rig.batch(batch.id)).status, one.service.cancelled) == ("cancelled", [batch.id])
    assert await one.used() == COST


@pytest.mark.parametrize("step", ["held", "charged", "unreachable"])
async def test_a_worker_that_dies_holds_and_charges_once(step: str, shop: Callable[[], Shop]) -> None:
    """Before it has noted that it holds, after it has charged; or the budgets did not answer just then."""
    one = shop()
    notes, charge = one.rig.room.batches.note, one.policy.room.charge
    failed: list[str] = []

    async def dies(id: str, **changes: Any) -> None:
        state = changes.get("remote", {}).get("state")
        if not failed and state == {"held": "submitting", "charged": "collected"}.get(step):
            failed.append(state)
            raise Unavailable("The worker is gone.") if step == "charged" else RuntimeError("The worker is gone.")
        await notes(id, **changes)

    async def silent(receipt: str, attempts: Any) -> None:
        if step == "unreachable" and not failed:
            failed.append(receipt)
            raise Unavailable("The table does not answer.")
        await charge(receipt, attempts)

    one.rig.room.batches.note = dies  # type: ignore[method-assign]
    one.policy.room.charge = silent  # type: ignore[method-assign]
    batch = await one.submit()
    assert one.service.submissions == 1
    await one.come_back()
    await one.come_back()
    assert failed and (await one.rig.batch(batch.id)).status == "completed"
    assert (await one.used(), one.rig.run.asked) == (COST, [])


@pytest.mark.parametrize("how", ["untold", "unfetched"])
async def test_what_nobody_can_say_the_cost_of_is_charged_as_it_was_held(how: str) -> None:
    one = Shop()
    batch = await one.submit(per="forever")
    held = await one.used()
    if how == "untold":
        one.service.untold = {"t3"}
        await one.come_back()
        assert (await one.rig.batch(batch.id)).tally.unpriced == 1
    else:
        one.remote.services = {}
        one.rig.clock.time += 25 * 3600
        await one.sweep()
        await one.work()
        assert (await one.rig.batch(batch.id)).status == "expired"
    assert await one.used() == held
    one.rig.clock.time += 3 * 86_400
    assert await one.used() == held, "it was charged: it does not come back when its lease ends"
