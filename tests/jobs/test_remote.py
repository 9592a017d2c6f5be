"""A provider's own batch: submitted once, looked after, collected, and what it leaves is done line by line."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from edgewise.api.away import Admission
from edgewise.aws import Aws, Table
from edgewise.clock import SystemClock
from edgewise.errors import UpstreamRefused, UpstreamUnavailable
from edgewise.jobs import start, upkeep
from edgewise.jobs.batch import Batch
from edgewise.jobs.offer import Offer
from edgewise.jobs.openai_batch import OpenAiBatches
from edgewise.jobs.remote import START_S, Remote
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from edgewise.price import Price
from edgewise.words import Model
from tests import fakes
from tests.jobs.away import HALF, PRICE, FakeCallers, FakeService, Priced
from tests.jobs.rig import CHAT, Rig, chat_line, jsonl, make_rig
from tests.jobs.stack import Places, room_at, serving, working


class Away:
    """A rig whose batches may go away."""

    def __init__(self, min_lines: int = 10) -> None:
        self.rig: Rig = make_rig()
        self.service = FakeService()
        self.open = True
        self.remote = Remote(self.rig.room, self.admit, {"p": self.service}, min_lines)
        self.worker = Worker(self.rig.room, ChunkWork(self.rig.room, self.rig.run, self.rig.share), remote=self.remote)

    async def admit(self, batch: Batch) -> Offer | None:
        may = self.open and batch.tenant == "acme"
        return Offer(self.service, Model("p", "provider-model"), HALF) if may else None

    async def forget(self, id: str) -> None:
        """The worker that submitted it died before it had noted so."""
        remote = (await self.rig.batch(id)).remote or {}
        await self.rig.room.batches.note(id, remote={**remote, "id": "", "state": "submitting"})

    async def sweep(self) -> int:
        await self.rig.clock.advance(61)
        return await upkeep.sweep(self.rig.room, self.remote)


async def test_a_large_batch_goes_away_and_comes_back_at_the_batch_price() -> None:
    away = Away()
    lines = [chat_line(f"c{n}", f"t{n % 40}", cache={"ttl": 5}) for n in range(60)]
    batch = await away.rig.submit(lines)
    await away.rig.pump(away.worker)
    sent = away.service.batches[batch.id]
    assert len(sent) == 40, "equal lines are asked once there, too"
    assert sent[0]["body"]["model"] == "provider-model" and "cache" not in sent[0]["body"]
    assert await away.sweep() == 0 and await away.sweep() == 0
    assert away.rig.run.asked == []
    away.service.state = "ended"
    assert await away.sweep() == 1
    await away.rig.pump(away.worker)
    done = await away.rig.batch(batch.id)
    assert done.status == "completed" and away.rig.run.asked == []
    assert done.wire()["request_counts"] == {"total": 60, "completed": 60, "failed": 0}
    assert done.tally.cost_usd == 40 * (10 * Decimal(1) + 5 * Decimal(4)) / 1_000_000
    found = await away.rig.output(done)
    for n in range(60):
        assert found[f"c{n}"]["response"]["body"]["choices"][0]["message"]["content"] == f"far: t{n % 40}"


async def test_what_the_provider_does_not_answer_is_asked_here() -> None:
    away = Away()
    away.service.refuses = {"t3", "t7"}
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    await away.rig.pump(away.worker)
    away.service.state = "ended"
    await away.sweep()
    await away.rig.pump(away.worker)
    assert sorted(away.rig.run.texts()) == ["t3", "t7"]
    assert (await away.rig.batch(batch.id)).wire()["request_counts"]["completed"] == 20


@pytest.mark.parametrize("lost", [False, True])
async def test_a_repeated_message_submits_nothing_twice(*, lost: bool) -> None:
    """Nor does upkeep, which finds a batch that stands still and whose message is lost."""
    away = Away()
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    noted = away.rig.room.batches.note

    async def dies(id: str, **changes: Any) -> None:
        if changes["remote"]["state"] == "working":
            raise RuntimeError("the worker died after it had submitted")
        await noted(id, **changes)

    away.rig.room.batches.note = dies  # type: ignore[method-assign]
    await away.rig.deliver(away.worker, away.rig.queue.receive(1))
    assert away.service.submissions == 1
    away.rig.room.batches.note = noted  # type: ignore[method-assign]
    if lost:
        away.rig.queue.messages.clear()
        assert await away.sweep() == 0
    await away.rig.pump(away.worker)
    assert away.rig.run.asked == [], "nothing is asked here while it runs there"
    assert away.service.submissions == 1
    found = await away.rig.batch(batch.id)
    assert found.remote is not None and found.remote["state"] == "working" and found.remote["id"] == batch.id


@pytest.mark.parametrize("gone", ["price", "service"])
@pytest.mark.parametrize("died_submitting", [False, True])
async def test_what_is_away_is_not_worked_here_too_whatever_changes_meanwhile(
    gone: str, *, died_submitting: bool
) -> None:
    """Its model loses its price or comes to stand for several (nothing is offered any more), or the operator takes its
    provider's key away: it is fetched on the terms that it went away on, or not at all, and never paid for twice."""
    away = Away()
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    await away.rig.pump(away.worker)
    if died_submitting:
        await away.forget(batch.id)
    away.open = False
    away.remote.services = {} if gone == "service" else away.remote.services
    away.service.state = "ended"
    for _ in range(3):
        await away.sweep()
        await away.rig.pump(away.worker)
    assert away.rig.run.asked == [] and away.service.submissions == 1
    if gone == "service":
        assert (await away.rig.batch(batch.id)).is_away, "neither stopped nor fetched"
        away.rig.clock.time += 24 * 3600
        await away.sweep()
        await away.rig.pump(away.worker, rounds=2000)
        assert (await away.rig.batch(batch.id)).status == "expired" and away.rig.run.asked == []
        return
    done = await away.rig.batch(batch.id)
    assert (done.status, done.tally.cost_usd) == ("completed", 20 * (10 * Decimal(1) + 5 * Decimal(4)) / 1_000_000)


async def test_what_is_away_stays_away_where_nobody_can_look_after_it() -> None:
    """The message that had it checked comes once more, to a gateway without any batch service."""
    away = Away()
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    await away.rig.pump(away.worker)
    bare = away.rig.worker()
    await away.rig.room.send("validate", batch.id, "acme")
    await away.rig.pump(bare)
    assert away.rig.run.asked == [] and await upkeep.sweep(away.rig.room) == 0
    away.rig.clock.time += 25 * 3600
    await upkeep.sweep(away.rig.room)
    await away.rig.pump(bare, rounds=2000)
    assert (await away.rig.batch(batch.id)).status == "expired" and away.rig.run.asked == []


async def test_one_that_does_not_stop_is_not_worked_here_too() -> None:
    """Its window runs out, and the provider goes on with it, told to stop or not."""
    away = Away()
    away.service.stops = False
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    await away.rig.pump(away.worker)
    for hours in (21, 1, 1):
        away.rig.clock.time += hours * 3600
        await away.sweep()
        await away.rig.pump(away.worker)
    assert away.service.cancelled == [batch.id] and away.rig.run.asked == []
    away.rig.clock.time += 2 * 3600
    await away.sweep()
    await away.rig.pump(away.worker, rounds=2000)
    assert (await away.rig.batch(batch.id)).status == "expired" and away.rig.run.asked == []


@pytest.mark.parametrize("refuses", [False, True])
async def test_one_that_may_have_been_submitted_is_looked_for_until_that_is_known(*, refuses: bool) -> None:
    """A search that fails is no answer, whichever way it fails."""
    away = Away()
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    await away.rig.pump(away.worker)
    await away.forget(batch.id)
    find = away.service.find

    async def fails(batch_id: str) -> str | None:
        raise UpstreamRefused("Not with this key.", status=401) if refuses else UpstreamUnavailable("It is down.")

    away.service.find = fails  # type: ignore[method-assign]
    await away.sweep()
    await away.rig.deliver(away.worker, away.rig.queue.receive(10))
    assert away.rig.run.asked == [] and (await away.rig.batch(batch.id)).is_submitting
    away.service.find = find  # type: ignore[method-assign]
    await away.rig.pump(away.worker)
    assert away.rig.run.asked == [] and away.service.submissions == 1


async def test_small_batches_and_bound_callers_stay_here() -> None:
    away = Away()
    for tenant, count in (("acme", 9), ("other", 30)):
        batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(count)], tenant=tenant)
        await away.rig.pump(away.worker)
        assert (await away.rig.batch(batch.id)).status == "completed"
    assert away.service.submissions == 0


async def test_when_the_window_runs_out_the_rest_is_done_here() -> None:
    away = Away()
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    await away.rig.pump(away.worker)
    away.service.refuses = {f"t{n}" for n in range(10)}
    away.rig.clock.time += 21 * 3600
    assert await away.sweep() == 0, "what it has answered is told when it has stopped"
    assert await away.sweep() == 1
    await away.rig.pump(away.worker)
    assert away.service.cancelled == [batch.id]
    assert Counter(away.rig.run.texts()) == {f"t{n}": 1 for n in range(10)}
    assert (await away.rig.batch(batch.id)).status == "completed"


@pytest.mark.parametrize("died_submitting", [False, True])
async def test_cancelling_cancels_there_and_hands_out_what_is_done(died_submitting: bool) -> None:
    """Also what was submitted by a worker that died before it had noted so."""
    away = Away()
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    await away.rig.pump(away.worker)
    if died_submitting:
        await away.forget(batch.id)
    away.service.refuses = {"t1"}
    await start.cancel(away.rig.room, await away.rig.batch(batch.id))
    await away.rig.pump(away.worker)
    done = await away.rig.batch(batch.id)
    assert (done.status, away.service.cancelled) == ("cancelled", [batch.id])
    assert done.wire()["request_counts"] == {"total": 20, "completed": 19, "failed": 1}


async def test_a_batch_that_will_not_stop_is_not_waited_for_for_ever() -> None:
    away = Away()
    away.service.stops = False
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    await away.rig.pump(away.worker)
    await start.cancel(away.rig.room, await away.rig.batch(batch.id))
    await away.rig.pump(away.worker, rounds=2000)
    done = await away.rig.batch(batch.id)
    assert (done.status, away.service.cancelled) == ("cancelled", [batch.id])
    assert done.times["cancelled_at"] - done.times["cancelling_at"] <= 700


async def test_a_provider_that_refuses_the_batch_leaves_it_to_us() -> None:
    away = Away()
    away.service.error = UpstreamRefused("This model takes no batches.", status=400)
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(20)])
    await away.rig.pump(away.worker)
    assert (await away.rig.batch(batch.id)).status == "completed"
    assert len(away.rig.run.asked) == 20


async def test_a_provider_that_does_not_answer_is_asked_for_an_hour() -> None:
    away = Away()
    away.service.error = UpstreamUnavailable("It is down.")
    first, second = [await away.rig.submit([chat_line(f"c{n}", f"{b}{n}") for n in range(20)]) for b in "ab"]
    await away.rig.deliver(away.worker, away.rig.queue.receive(2))
    assert away.rig.run.asked == [] and away.service.submissions == 0
    away.service.error = None
    await away.rig.clock.advance(61)
    await away.rig.deliver(away.worker, away.rig.queue.receive(1))
    away.rig.clock.time += START_S
    await away.rig.pump(away.worker)
    assert away.service.submissions == 1
    states = {(await away.rig.batch(batch.id)).status for batch in (first, second)}
    assert states == {"in_progress", "completed"}
    assert len(away.rig.run.asked) == 20


async def test_what_equal_lines_leave_to_ask_must_be_worth_it() -> None:
    away = Away()
    batch = await away.rig.submit([chat_line(f"c{n}", f"t{n % 5}") for n in range(40)])
    await away.rig.pump(away.worker)
    assert (await away.rig.batch(batch.id)).status == "completed" and away.service.submissions == 0


async def test_the_openai_adapter_speaks_to_a_real_batch_service(
    moto_aws: Aws, state_table: Table, bucket: str, queues: tuple[str, str]
) -> None:
    """The service is this gateway itself: it is what it claims to be."""
    clock = SystemClock()
    places = Places(state_table.name, bucket, *queues)
    room, uploads = room_at(moto_aws, places, clock)
    rooms = fakes.rooms(clock=clock)
    async with serving(rooms, room, uploads) as url, working(moto_aws, places, room, rooms):
        service = OpenAiBatches(url, fakes.KEY)
        assert await service.find("ours") is None

        async def lines() -> AsyncIterator[bytes]:
            yield jsonl([chat_line(f"0-{n}", f"t{n}") for n in range(30)])

        made = await service.submit("ours", CHAT, Model("openai", "m"), lines())
        assert await service.find("ours") == made
        while await service.poll(made) == "working":  # noqa: ASYNC110 - the service has no event for it
            await asyncio.sleep(0.05)
        answered = [line async for line in service.collect(made, Model("openai", "m"))]
        assert sorted(line["custom_id"] for line in answered) == sorted(f"0-{n}" for n in range(30))
        await service.cancel(made)
        with pytest.raises(UpstreamRefused):
            await service.poll("batch_none")
    with pytest.raises(UpstreamUnavailable):
        await service.poll(made)


async def test_only_a_caller_whom_nothing_binds_may_go_away() -> None:
    service = FakeService()
    callers = FakeCallers()
    rooms = fakes.rooms(router=Priced())
    admit = Admission(lambda: rooms, callers, {"fake": service})
    batch = Batch("batch_1", "acme", "k1", CHAT, "file-1", 0, 86_400, model="m")
    assert await admit(batch) == Offer(service, Model("fake", "m", price=PRICE), HALF)
    changes: tuple[dict[str, Any], ...] = (
        {"key_id": "bound"},
        {"key_id": "gone"},
        {"model": "two"},
        {"endpoint": "/v1/embeddings"},
    )
    for change in changes:
        assert await admit(replace(batch, **change)) is None
    assert await Admission(lambda: rooms, callers, {})(batch) is None
    halves = FakeService()
    halves.share = Decimal("0.5")
    router = Priced()
    router.price = Price(Decimal(2), Decimal(8), above=(100, Price(Decimal(4), Decimal(16))))
    half = await Admission(lambda: fakes.rooms(router=router), callers, {"fake": halves})(batch)
    assert half is not None and half.price.above is not None
    assert [half.price.input, half.price.output] == [1, 4]
    assert half.price.above[1].output == 8
    assert await Admission(lambda: fakes.rooms(router=router), callers, {"fake": service})(batch) is None
    unpriced = fakes.rooms()
    assert await Admission(lambda: unpriced, callers, {"fake": service})(batch) is None
