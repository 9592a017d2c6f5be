"""Bedrock's batch service on loopback, for real boto3: jobs over the stand-in's bucket, in the service's own shapes.

It answers when it is told to (`run`), as the documentation has it: output beside a manifest under the job's id, in
another order than the input, with `error` in place of `modelOutput` for records that fail, tools among them.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from edgewise.aws import Aws, AwsOptions

LEAST = 100
ROLE = "arn:aws:iam::123456789012:role/edgewise-batches"


@dataclass(slots=True)
class BedrockJobs:
    """`aws` speaks to it for `bedrock`, and to moto for everything else."""

    aws: Aws
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuses: str | None = None
    """An error code for every new job."""
    fails: set[str] = field(default_factory=set)
    """Texts whose records end in an error."""
    loses: bool = False
    """The next new job is made, and the connection dies before the answer."""

    def error(self, code: str, status: int = 400) -> web.Response:
        return web.json_response({"message": code}, status=status, headers={"x-amzn-errortype": code})

    async def create(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if self.refuses is not None:
            return self.error(self.refuses, 429 if self.refuses == "ThrottlingException" else 400)
        place = asked["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
        assert (
            re.fullmatch(r"[a-zA-Z0-9]{1,63}(-*[a-zA-Z0-9+\-.]){0,63}", asked["jobName"]) and asked["roleArn"] == ROLE
        )
        assert re.fullmatch(r"[a-zA-Z0-9]{1,256}(-*[a-zA-Z0-9]){0,256}", asked["clientRequestToken"])
        assert asked["modelInvocationType"] == "Converse" and 24 <= asked["timeoutDurationInHours"] <= 168
        if any(job["clientRequestToken"] == asked["clientRequestToken"] for job in self.jobs.values()):
            return self.error("ConflictException")
        if len(await self.records(place)) < LEAST:
            return self.error("ValidationException")
        arn = f"arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/{len(self.jobs):012d}"
        self.jobs[arn] = {**asked, "jobArn": arn, "status": "Submitted", "submitTime": "2026-11-22T00:00:00Z"}
        if self.loses:
            self.loses = False
            return self.error("InternalServerException", 500)
        return web.json_response({"jobArn": arn})

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self.jobs[request.match_info["id"]])

    async def listed(self, request: web.Request) -> web.Response:
        name = request.query["nameContains"]
        found = [job for job in self.jobs.values() if name in job["jobName"]]
        return web.json_response({"invocationJobSummaries": found})

    async def stop(self, request: web.Request) -> web.Response:
        job = self.jobs[request.match_info["id"]]
        if job["status"] in ("Completed", "Stopped"):
            return self.error("ConflictException")
        job["status"] = "Stopping"
        return web.json_response({})

    async def records(self, place: str) -> list[dict[str, Any]]:
        bucket, _, key = place.removeprefix("s3://").partition("/")
        found = await self.aws.call("s3", "get_object", Bucket=bucket, Key=key)
        whole: bytes = await self.aws.run(found["Body"].read)
        return [orjson.loads(line) for line in whole.strip().split(b"\n")]

    async def run(self, arn: str, *, share: float = 1.0, to: str = "Completed") -> None:
        """Answer the first `share` of the job's records and end it."""
        job = self.jobs[arn]
        records = await self.records(job["inputDataConfig"]["s3InputDataConfig"]["s3Uri"])
        done = [self._output(record) for record in records[: int(len(records) * share)]]
        random.Random(1).shuffle(done)
        bucket, _, prefix = job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].removeprefix("s3://").partition("/")
        folder = f"{prefix.rstrip('/')}/{arn.rpartition('/')[2]}"
        failed = sum("error" in record for record in done)
        manifest = {
            "totalRecordCount": len(records),
            "processedRecordCount": len(done),
            "successRecordCount": len(done) - failed,
            "errorRecordCount": failed,
        }
        for name, body in (
            ("in.jsonl.out", b"".join(orjson.dumps(record) + b"\n" for record in done)),
            ("manifest.json.out", orjson.dumps(manifest)),
        ):
            await self.aws.call("s3", "put_object", Bucket=bucket, Key=f"{folder}/{name}", Body=body)
        job["status"] = to

    def _output(self, record: dict[str, Any]) -> dict[str, Any]:
        asked = record["modelInput"]
        assert re.fullmatch(r"[a-zA-Z0-9]+", record["recordId"]) and "modelId" not in asked
        text = asked["messages"][-1]["content"][0]["text"]
        if text in self.fails or "toolConfig" in asked:
            return {**record, "error": {"errorCode": 400, "errorMessage": "bad request"}}
        message = {"role": "assistant", "content": [{"text": f"far: {text}"}]}
        usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
        return {**record, "modelOutput": {"output": {"message": message}, "stopReason": "end_turn", "usage": usage}}


@asynccontextmanager
async def bedrock_jobs(moto_url: str) -> AsyncIterator[BedrockJobs]:
    application = web.Application()
    runner = web.AppRunner(application, access_log=None)
    keys: dict[str, Any] = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}
    jobs = BedrockJobs(Aws(AwsOptions(endpoint_url=moto_url, **keys)))
    application.router.add_post("/model-invocation-job", jobs.create)
    application.router.add_get("/model-invocation-jobs", jobs.listed)
    application.router.add_get("/model-invocation-job/{id:.+}", jobs.get)
    application.router.add_post("/model-invocation-job/{id:.+}/stop", jobs.stop)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    own = {"bedrock": f"http://127.0.0.1:{runner.addresses[0][1]}"}
    stores, jobs.aws = jobs.aws, Aws(AwsOptions(endpoint_url=moto_url, endpoints=own, max_attempts=1, **keys))
    try:
        yield jobs
    finally:
        jobs.aws.close()
        stores.close()
        await runner.cleanup()
