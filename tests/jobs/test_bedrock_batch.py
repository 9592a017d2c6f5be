"""Bedrock's batch inference: a job over the bucket, through real boto3, with what it leaves asked line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import orjson
import pytest

from edgewise.api.away import Admission
from edgewise.aws import Aws
from edgewise.clock import SystemClock
from edgewise.errors import UpstreamUnavailable
from edgewise.jobs import start, upkeep
from edgewise.jobs.batch import Batch
from edgewise.jobs.bedrock import BedrockBatches
from edgewise.jobs.ports import Ask, Ran
from edgewise.jobs.remote import Remote
from edgewise.jobs.room import Options
from edgewise.jobs.s3 import S3Blobs
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from edgewise.price import Price
from edgewise.provider.bedrock_batch import ConverseRecords
from edgewise.words import Model, Plan, Target
from tests import fakes
from tests.jobs.away import FakeCallers
from tests.jobs.bedrock_jobs import ROLE, BedrockJobs, bedrock_jobs
from tests.jobs.rig import Rig, chat_line, make_rig

NOVA = Model("bedrock", "amazon.nova-lite-v1:0", price=Price(Decimal(2), Decimal(8)), output_tokens=4096)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PIXEL = "data:image/png;base64,aGVsbG8="


class _Router(fakes.FakeRouter):
    def resolve(self, request: Any, plan: Plan) -> Target:
        return Target(NOVA.name, (NOVA,))


class Away:
    """A rig over a real bucket whose batches may go to Bedrock."""

    def __init__(self, jobs: BedrockJobs, aws: Aws, bucket: str) -> None:
        clock = SystemClock()
        self.jobs = jobs
        blobs = S3Blobs(aws, bucket)
        self.rig: Rig = make_rig(clock, Options(stale_s=0.0), blobs=blobs)
        self.service = BedrockBatches(jobs.aws, blobs, bucket, ROLE, ConverseRecords(clock))
        rooms = fakes.rooms(clock=clock, router=_Router())
        services = {"bedrock": self.service}
        admit = Admission(lambda: rooms, FakeCallers(), services)
        remote = Remote(self.rig.room, admit, services, min_lines=100)
        self.remote = remote
        self.worker = Worker(self.rig.room, ChunkWork(self.rig.room, self.rig.run, self.rig.share), remote=remote)

    async def submit(self, lines: list[dict[str, Any]]) -> Batch:
        batch = await self.rig.submit(lines)
        await self.work()
        return batch

    async def work(self, rounds: int = 50) -> None:
        for _ in range(rounds):
            if not (records := self.rig.queue.receive(10)):
                return
            told = await self.worker.handle({"Records": records}, 900.0)
            failed = {entry["itemIdentifier"] for entry in told["batchItemFailures"]}
            for record in records:
                if record["messageId"] not in failed:
                    self.rig.queue.delete(record["receiptHandle"])

    async def sweep(self) -> int:
        pushed = await upkeep.sweep(self.rig.room, self.remote)
        await self.work()
        return pushed

    async def texts(self, batch: Batch) -> dict[str, str]:
        found = await self.rig.output(await self.rig.batch(batch.id))
        return {
            name: line["response"]["body"]["choices"][0]["message"]["content"]
            for name, line in found.items()
            if line["response"]
        }


@asynccontextmanager
async def going(moto_url: str, moto_aws: Aws, bucket: str) -> AsyncIterator[Away]:
    async with bedrock_jobs(moto_url) as jobs:
        yield Away(jobs, moto_aws, bucket)


async def test_a_job_is_submitted_followed_and_collected_at_half_the_price(
    moto_url: str, moto_aws: Aws, bucket: str
) -> None:
    async with going(moto_url, moto_aws, bucket) as away:
        lines = [chat_line(f"c{n}", f"t{n}", max_tokens=50) for n in range(120)]
        batch = await away.submit(lines)
        ((arn, job),) = away.jobs.jobs.items()
        assert job["modelId"] == NOVA.id and away.rig.run.asked == []
        record = (await away.jobs.records(job["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]))[7]
        assert record == {
            "recordId": "0000L000008",
            "modelInput": {
                "messages": [{"role": "user", "content": [{"text": "t7"}]}],
                "inferenceConfig": {"maxTokens": 50},
            },
        }
        job["status"] = "InProgress"
        assert await away.sweep() == 0
        await away.jobs.run(arn)
        assert await away.sweep() == 1
        done = await away.rig.batch(batch.id)
        assert (done.status, done.wire()["request_counts"]["completed"]) == ("completed", 120)
        assert await away.texts(batch) == {f"c{n}": f"far: t{n}" for n in range(120)}
        assert done.tally.cost_usd == 120 * (10 * Decimal(2) + 5 * Decimal(8)) / 2 / 1_000_000
        assert away.rig.run.asked == [] and len(away.jobs.jobs) == 1


async def test_what_a_job_cannot_take_or_does_not_answer_is_asked_line_by_line(
    moto_url: str, moto_aws: Aws, bucket: str
) -> None:
    async with going(moto_url, moto_aws, bucket) as away:
        odd = [
            chat_line("tools", "with tools", tools=[TOOL]),
            chat_line("two", "twice", n=2),
            chat_line("ill", "ill", messages=3),
            chat_line("fails", "fails there"),
        ]
        image = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
        lines = [chat_line(f"c{n}", f"t{n}") for n in range(120)]
        away.jobs.fails = {"fails there"}
        batch = await away.submit([*odd, chat_line("image", messages=[{"role": "user", "content": image}]), *lines])
        ((arn, job),) = away.jobs.jobs.items()
        records = await away.jobs.records(job["inputDataConfig"]["s3InputDataConfig"]["s3Uri"])
        assert len(records) == 122, "tools, several answers and nonsense stay here"
        pictures = [r for r in records if len(r["modelInput"]["messages"][0]["content"]) == 2]
        assert pictures[0]["modelInput"]["messages"][0]["content"][1]["image"]["source"] == {"bytes": "aGVsbG8="}
        await away.jobs.run(arn, to="PartiallyCompleted")
        away.rig.run.asked.clear()

        async def odd_ones(ask: Ask, _: int) -> Ran | None:
            return None if isinstance(ask.body["messages"], list) else Ran(400, {"error": {"message": "no"}})

        away.rig.run.script = odd_ones
        await away.sweep()
        asked = Counter(ask.request_id for ask in away.rig.run.asked)
        assert len(asked) == 4 and set(asked.values()) == {1}
        done = await away.rig.batch(batch.id)
        assert done.wire()["request_counts"] == {"total": 125, "completed": 124, "failed": 1}


async def test_cancelling_stops_the_job_and_hands_out_what_it_had_answered(
    moto_url: str, moto_aws: Aws, bucket: str
) -> None:
    async with going(moto_url, moto_aws, bucket) as away:
        batch = await away.submit([chat_line(f"c{n}", f"t{n}") for n in range(120)])
        (arn,) = away.jobs.jobs
        await start.cancel(away.rig.room, await away.rig.batch(batch.id))
        await away.work()
        assert away.jobs.jobs[arn]["status"] == "Stopping"
        assert (await away.rig.batch(batch.id)).status == "cancelling", "it is waited for: what it did is paid for"
        await away.jobs.run(arn, share=0.5, to="Stopped")
        await away.rig.room.send("finish", batch.id, "acme")
        await away.work()
        done = await away.rig.batch(batch.id)
        assert done.status == "cancelled"
        assert done.wire()["request_counts"] == {"total": 120, "completed": 60, "failed": 60}


@pytest.mark.parametrize("code", ["ValidationException", "AccessDeniedException", "ServiceQuotaExceededException"])
async def test_a_refused_job_is_worked_line_by_line(moto_url: str, moto_aws: Aws, bucket: str, code: str) -> None:
    """A model without batch inference, a role that may not, a quota that is used up."""
    async with going(moto_url, moto_aws, bucket) as away:
        away.jobs.refuses = code
        batch = await away.submit([chat_line(f"c{n}", f"t{n}") for n in range(120)])
        assert (await away.rig.batch(batch.id)).status == "completed"
        assert len(away.rig.run.asked) == 120


async def test_a_job_whose_answer_was_lost_is_found_again(moto_url: str, moto_aws: Aws, bucket: str) -> None:
    async with going(moto_url, moto_aws, bucket) as away:
        away.jobs.loses = True
        batch = await away.submit([chat_line(f"c{n}", f"t{n}") for n in range(120)])
        assert (await away.rig.batch(batch.id)).is_submitting
        await away.rig.room.send("validate", batch.id, "acme")
        await away.work()
        (arn,) = away.jobs.jobs
        found = (await away.rig.batch(batch.id)).remote or {}
        assert (found["id"], found["state"]) == (arn, "working")


async def test_a_job_of_fewer_records_than_bedrock_takes_is_not_asked_for(
    moto_url: str, moto_aws: Aws, bucket: str
) -> None:
    async with going(moto_url, moto_aws, bucket) as away:
        lines = [chat_line(f"c{n}", f"t{n}", tools=[TOOL]) for n in range(30)]
        batch = await away.submit(lines + [chat_line(f"d{n}", f"u{n}") for n in range(90)])
        assert away.jobs.jobs == {} and (await away.rig.batch(batch.id)).status == "completed"


async def test_a_service_that_is_down_and_a_job_without_output(moto_url: str, moto_aws: Aws, bucket: str) -> None:
    async with going(moto_url, moto_aws, bucket) as away:
        await away.submit([chat_line(f"c{n}", f"t{n}") for n in range(120)])
        (arn,) = away.jobs.jobs
        assert [line async for line in away.service.collect(arn, NOVA)] == []
        away.jobs.jobs[arn]["status"] = "Completed"
        await away.service.cancel(arn)
        away.jobs.refuses = "ThrottlingException"
        with pytest.raises(UpstreamUnavailable):
            await away.service.submit("other", "", NOVA, _lines())


async def _lines() -> AsyncIterator[bytes]:
    for n in range(100):
        yield orjson.dumps(chat_line(f"0-{n}", f"t{n}"))
