"""A provider's own batches in the gateway as it is assembled: off unless asked for, and then for whom it may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from aiohttp import web

from edgewise.assemble.away import remote_of
from edgewise.assemble.edge import around
from edgewise.assemble.house import House, build
from edgewise.assemble.jobs import desk_of, worker_of
from edgewise.assemble.upkeep import chores_of
from edgewise.aws import Aws, Table
from edgewise.jobs import start
from edgewise.jobs.batch import Batch
from edgewise.jobs.files import Wanted
from edgewise.jobs.worker import Worker
from edgewise.settings import Settings
from tests import fakes
from tests.assemble.test_gateway import ROOT, Gateway
from tests.jobs.rig import CHAT, chat_line, jsonl

MODEL = "openai/gpt-4o-mini"
LINES = 30


class OpenAi:
    """Its batches and its chat completions, in memory. `done` ends every batch, with all but one line answered."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.done = False
        self.url = ""

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.files[f"file-{len(self.files)}"] = form["file"].file.read()  # type: ignore[union-attr]
        return web.json_response({"id": f"file-{len(self.files) - 1}"})

    async def create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        made = {**asked, "id": f"batch_{len(self.batches)}", "status": "in_progress"}
        self.batches[made["id"]] = made
        return web.json_response(made)

    async def listed(self, _: web.Request) -> web.Response:
        return web.json_response({"data": list(self.batches.values()), "has_more": False})

    async def get(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        if self.done:
            lines = [orjson.loads(line) for line in self.files[batch["input_file_id"]].strip().split(b"\n")]
            told = [_answer(line) for line in lines[1:]]
            self.files["out"] = b"".join(orjson.dumps(line) + b"\n" for line in told)
            batch |= {"status": "completed", "output_file_id": "out"}
        return web.json_response(batch)

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def chat(self, request: web.Request) -> web.Response:
        self.asked.append((await request.json())["messages"][-1]["content"])
        return web.json_response(dict(fakes.saying("near").completion))


def _answer(line: dict[str, Any]) -> dict[str, Any]:
    body = {**fakes.saying("far").completion, "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
    return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}}


@pytest.fixture
async def openai() -> AsyncIterator[OpenAi]:
    service, application = OpenAi(), web.Application()
    application.router.add_post("/v1/files", service.upload)
    application.router.add_get("/v1/files/{id}/content", service.content)
    application.router.add_post("/v1/batches", service.create)
    application.router.add_get("/v1/batches", service.listed)
    application.router.add_get("/v1/batches/{id}", service.get)
    application.router.add_post("/v1/batches/{id}/cancel", service.get)
    application.router.add_post("/v1/chat/completions", service.chat)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield service
    await runner.cleanup()


def settings_of(moto_url: str, openai: OpenAi, *names: str, **more: Any) -> Settings:
    cache, state, bucket, queue, dead = names
    return Settings(
        root_key=ROOT, request_log=False, local_aws_url=moto_url, cache_table=cache, state_table=state, bucket=bucket,
        jobs_queue_url=queue, dead_letter_queue_url=dead, cache_timeout_s=5, openai_api_key="sk-test",
        openai_base_url=openai.url, **more,
    )  # fmt: skip


async def _submit(house: House, tenant: str = "root", key_id: str = "root") -> str:
    async def once() -> AsyncIterator[bytes]:
        yield jsonl([chat_line(f"c{n}", f"t{n}", MODEL) for n in range(LINES)])

    room = desk_of(house).room
    file = await room.files.store(tenant, Wanted("in.jsonl", "batch"), once())
    wanted = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file.id}
    return (await start.create(room, tenant, key_id, wanted)).id


async def _handle(worker: Worker, aws: Aws, queue: str) -> None:
    """What is on the queue, until nothing is."""
    while messages := (await aws.call("sqs", "receive_message", QueueUrl=queue, MaxNumberOfMessages=10)).get(
        "Messages"
    ):
        for message in messages:
            record = {"messageId": "m", "receiptHandle": message["ReceiptHandle"], "body": message["Body"]}
            told = await worker.handle({"Records": [record]}, 900.0)
            assert told == {"batchItemFailures": []}
            await aws.call("sqs", "delete_message", QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


@pytest.mark.parametrize("changed", [False, True])
async def test_a_large_batch_goes_to_the_provider_when_the_operator_wants_it(
    moto_url: str, moto_aws: Aws, cache_table: Table, state_table: Table, bucket: str, queues: Any, openai: OpenAi,
    *, changed: bool,
) -> None:  # fmt: skip
    """Submitted by the worker, found done by the upkeep, at the batch price; the line it left is asked here. So also by
    a gateway that would not have sent it."""
    names = (cache_table.name, state_table.name, bucket, *queues)
    house = build(settings_of(moto_url, openai, *names, provider_batches=True))
    worker = worker_of(house)
    assert worker._remote is not None
    worker._remote.min_lines = LINES
    id = await _submit(house)  # noqa: A001
    await _handle(worker, moto_aws, queues[0])
    assert len(openai.batches) == 1 and openai.asked == []
    openai.done = True
    price = house.router.catalog.find(MODEL)[0].price
    await house.close()
    # What comes later is another gateway: nothing goes away any more, and the model has lost its price.
    later: dict[str, Any] = {"model_overrides": {MODEL: {"price": None}}} if changed else {}
    house = build(settings_of(moto_url, openai, *names, provider_batches=not changed, **later))
    worker = worker_of(house)
    sweep = next(chore for chore in chores_of(house) if chore.name == "batches")
    assert await sweep.run() == {"pushed": 1}
    await _handle(worker, moto_aws, queues[0])
    done = await desk_of(house).room.batches.get(id)
    assert done is not None and done.status == "completed" and openai.asked == ["t0"]
    assert price is not None
    far = (LINES - 1) * (1000 * price.tiers["batch"].input + 100 * price.tiers["batch"].output) / 1_000_000
    near = 0 if changed else (5 * price.input + 7 * price.output) / 1_000_000
    assert done.tally.cost_usd == far + near
    await house.memory.rollups.flush()
    cells = await house.memory.rollups.store.read("root", "hour", 0, 2**40)
    spent = Decimal(sum(sums.counts.get("cost", 0) for _, sums in cells)) / 10**12
    assert abs(spent - done.tally.cost_usd) < Decimal("1e-9"), "usage has what the provider's batch cost, too"
    await house.close()


async def test_a_key_goes_that_nothing_binds_and_no_other(
    moto_url: str, cache_table: Table, state_table: Table, bucket: str, queues: Any, openai: OpenAi
) -> None:
    """A list of models, a scope and a budget bind no line; a limit or a guard does."""
    names = (cache_table.name, state_table.name, bucket, *queues)
    house = build(settings_of(moto_url, openai, *names, provider_batches=True))
    gateway, room = Gateway(around(house)), desk_of(house).room
    remote = remote_of(house, room)
    assert remote is not None
    limits: tuple[dict[str, Any], ...] = (
        {"models": ["openai/*"], "scopes": ["batches", "chat", "files"]},
        {"budgets": [{"per": "day", "usd": "5"}]},
        {"limits": {"requests_per_minute": 100}},
        {"guards": {"pii": "redact"}},
        {"routing": {"prefer": "cheap"}},
        {"models": ["anthropic/*"]},
    )
    offers = []
    for terms in limits:
        asked = {"name": "app", "tenant": "acme", "terms": terms}
        made = (await gateway.call("POST", "/admin/keys", ROOT, asked)).json
        batch = await room.batches.get(await _submit(house, "acme", made["id"]))
        assert batch is not None
        offers.append(await remote.admit(replace(batch, model=MODEL)) is not None)
    assert offers == [True, True, False, False, False, False]
    await house.close()


async def test_unless_the_operator_asks_for_it_nothing_goes(moto_url: str, openai: OpenAi) -> None:
    """Off by default: an answer within minutes is what a client waits for."""
    names = ("cache", "state", "bucket", "queue", "dead")
    plain = build(settings_of(moto_url, openai, *names))
    remote = remote_of(plain, desk_of(plain).room)
    assert remote is not None, "what went away before it was turned off comes back"
    batch = Batch("batch_1", "root", "root", CHAT, "file-1", 0, 86_400, model=MODEL)
    assert await remote.admit(batch) is None
    bare = build(
        settings_of(moto_url, openai, *names, provider_batches=True).model_copy(update={"openai_api_key": None})
    )
    assert remote_of(bare, desk_of(bare).room) is None
    role = settings_of("", openai, *names, provider_batches=True, bedrock_batch_role="arn:aws:iam::1:role/r")
    both = build(role.model_copy(update={"local_aws_url": None, "aws_region": "us-east-1"}))
    found = remote_of(both, desk_of(both).room)
    assert found is not None and set(found.admit._services) == {"openai", "bedrock"}  # type: ignore[attr-defined]
    for house in (plain, bare, both):
        await asyncio.wait_for(house.close(), 10)
