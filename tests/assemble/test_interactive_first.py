"""Batch work yields, in the gateway as it is assembled: to a provider that throttles, and within a key's own limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from edgewise.assemble.edge import around
from edgewise.assemble.house import House, build
from edgewise.assemble.jobs import desk_of, worker_of
from edgewise.clock import FakeClock
from edgewise.jobs import start
from edgewise.jobs.files import Wanted
from edgewise.settings import Settings
from edgewise.settings import Upstream as UpstreamSetting
from tests import fakes
from tests.assemble.test_gateway import ROOT, Gateway
from tests.jobs.rig import CHAT, chat_line, jsonl

ROOM = 6


@dataclass(slots=True)
class Narrow:
    """A provider that takes `room` requests at a time and refuses the others, as long as a gate is shut: what it has
    taken it answers when the gate opens, or at once while it stands open. Every request is written down."""

    room: int = ROOM
    resting: bool = False
    """Refuses everything, with a wait of 30 seconds."""
    seen: list[tuple[str, int]] = field(default_factory=list)
    in_flight: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        text = (await request.json())["messages"][-1]["content"]
        if self.resting or self.in_flight >= self.room:
            self.seen.append((text, 429))
            wait_s = "30" if self.resting else "2"
            error = {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}
            return web.json_response({"error": error}, status=429, headers={"retry-after": wait_s})
        self.in_flight += 1
        try:
            await self.gate.wait()
            self.seen.append((text, 200))
            return web.json_response(dict(fakes.saying(f"echo: {text}").completion))
        finally:
            self.in_flight -= 1

    def count(self, kind: str, status: int) -> int:
        return sum(text.startswith(kind) and got == status for text, got in self.seen)


@asynccontextmanager
async def narrow() -> AsyncIterator[Narrow]:
    provider = Narrow()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", provider.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield provider
    provider.gate.set()
    await runner.cleanup()


@dataclass(slots=True)
class Town:
    """A gateway and a worker of their own, as two functions have them, with one table, one queue and one provider."""

    gateway: Gateway
    front: House
    back: House
    provider: Narrow
    clock: FakeClock

    async def submit(self, count: int, tenant: str = "root", key_id: str = "root") -> str:
        room = desk_of(self.back).room

        async def once() -> AsyncIterator[bytes]:
            yield jsonl([chat_line(f"c{n}", f"batch {n}", "slow/m") for n in range(count)])

        file = await room.files.store(tenant, Wanted("in.jsonl", "batch"), once())
        wanted = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file.id}
        return (await start.create(room, tenant, key_id, wanted)).id

    @asynccontextmanager
    async def working(self, id: str) -> AsyncIterator[asyncio.Task[Any]]:
        body = f'{{"kind": "validate", "batch": "{id}"}}'
        event = {"Records": [{"messageId": "m", "receiptHandle": "r", "body": body, "attributes": {}}]}
        task = asyncio.create_task(worker_of(self.back).handle(event, 900.0))
        try:
            yield task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, true: Any, *, step_s: float = 0.0) -> None:
        """Let both go on until something holds; the clock moves by `step_s` a turn."""
        for _ in range(4000):
            if true():
                return
            if step_s:
                await self.clock.advance(step_s)
            await asyncio.sleep(0.002)
        raise AssertionError("it never came to that")


@pytest.fixture
async def town(places: dict[str, Any], queues: tuple[str, str]) -> AsyncIterator[Town]:
    async with narrow() as provider:
        clock = FakeClock()
        settings = Settings(
            root_key=ROOT,
            request_log=False,
            cache_mode="off",
            upstreams=(UpstreamSetting(name="slow", base_url=provider.url, api_key="sk"),),
            **places,
        )
        front, back = build(settings, clock), build(settings, clock)
        application = around(front)
        async with application.router.lifespan_context(application):
            yield Town(Gateway(application), front, back, provider, clock)
        await back.close()


async def test_a_worker_whose_lines_are_refused_takes_less_and_leaves_room(town: Town) -> None:
    """Forty lines at once at a provider with room for six: the share shrinks to what fits, nothing is hammered."""
    id = await town.submit(40)  # noqa: A001
    async with town.working(id) as work:
        await town.until(lambda: len(town.provider.seen) >= 40 - ROOM)
        assert town.provider.count("batch", 429) == 40 - ROOM, "each was refused once, and none was tried again"
        town.provider.gate.set()
        await town.until(work.done, step_s=0.25)
    assert town.provider.count("batch", 200) == 40
    assert town.provider.count("batch", 429) < 2.5 * 40
    batch = await desk_of(town.back).room.batches.get(id)
    assert batch is not None and batch.status == "completed"
    assert batch.wire()["request_counts"] == {"total": 40, "completed": 40, "failed": 0}


async def test_while_the_provider_refuses_batch_work_starts_nothing_and_requests_go_on(town: Town) -> None:
    """A request is told to come back in thirty seconds. Its environment says so to all; the worker waits that long,
    and whoever asks for himself is let through meanwhile."""
    town.provider.gate.set()
    town.provider.resting = True
    refused = await town.gateway.say("asked 1", ROOT, "slow/m")
    assert (refused.status, refused.headers["retry-after"]) == (429, "30")
    town.provider.resting = False
    began = town.clock.now()
    id = await town.submit(20)  # noqa: A001
    async with town.working(id) as work:
        while town.clock.now() < began + 25:
            await town.clock.advance(1)
            await asyncio.sleep(0.01)
        assert [text for text, _ in town.provider.seen if text.startswith("batch")] == []
        got = await town.gateway.say("asked 2", ROOT, "slow/m")
        assert got.status == 200, "the worker stays away; a request is not kept away"
        await town.until(work.done, step_s=0.25)
    assert town.provider.count("batch", 200) == 20


async def test_batches_leave_a_part_of_a_keys_limits_to_its_requests(town: Town) -> None:
    """Twenty requests a minute: ten for the batch, and ten that nobody can take from who asks for himself."""
    key = await town.gateway.new_key(limits={"requests_per_minute": 20, "in_flight": 20})
    key_id = (await town.gateway.call("GET", "/usage", key)).json["key_id"]
    town.provider.gate.set()
    town.provider.room = 100
    id = await town.submit(30, "acme", key_id)  # noqa: A001
    async with town.working(id):
        await town.until(lambda: town.provider.count("batch", 200) == 10)
        for _ in range(20):
            await asyncio.sleep(0.01)
        answers = [(await town.gateway.say(f"asked {n}", key, "slow/m")).status for n in range(11)]
        assert town.provider.count("batch", 200) == 10
    assert answers == [200] * 10 + [429]


async def test_who_is_held_to_his_own_limits_holds_up_nobody_else(town: Town) -> None:
    """One tenant's key is through with its minute; another's lines run at once, in the same worker."""
    key = await town.gateway.new_key(limits={"requests_per_minute": 2})
    key_id = (await town.gateway.call("GET", "/usage", key)).json["key_id"]
    town.provider.gate.set()
    town.provider.room = 100
    bound, free = await town.submit(10, "acme", key_id), await town.submit(10)
    worker = worker_of(town.back)
    records = [
        {"messageId": name, "receiptHandle": "r", "body": f'{{"kind": "validate", "batch": "{name}"}}'}
        for name in (bound, free)
    ]
    first = asyncio.create_task(worker.handle({"Records": records[:1]}, 900.0))
    await town.until(lambda: town.provider.count("batch", 200) == 1)
    await worker.handle({"Records": records[1:]}, 900.0)
    batch = await desk_of(town.back).room.batches.get(free)
    assert batch is not None and batch.status == "completed"
    assert not first.done()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
