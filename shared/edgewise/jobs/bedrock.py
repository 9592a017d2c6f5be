"""Bedrock's batch inference: records go into the bucket, a job reads them, its output is read there.

A record is `{"recordId", "modelInput"}`, the input in Converse's words; the output repeats it with `modelOutput`, or
with `error`, and its order is free. Converse jobs take no tools, so lines with tools do not go along, like all that
Converse cannot say; they are asked here one by one, as are lines that came back with an error. The job's name and
its idempotency token are our batch's id, so that one batch is one job. A job has a least number of records, a quota
that Bedrock sets for each model (100 for most).

The manifest that lies beside the output holds sums only. What counts is each line, and a line that is not in the
output is asked again, so the sums are not read.

What it does not know: Converse. The words are translated by the `Converse` that is handed in.

Source: CreateModelInvocationJob and its kin (Bedrock, API version 2023-04-20); "Format and upload your batch
inference data" and "View the results of a batch inference job" in Bedrock's user guide.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any, Protocol

import orjson

from edgewise.aws import Aws, AwsError
from edgewise.errors import NotFound, UpstreamError, UpstreamRefused, UpstreamUnavailable
from edgewise.jobs.lines import MAX_LINE_BYTES, split
from edgewise.jobs.offer import RemoteState
from edgewise.jobs.ports import Blobs
from edgewise.words import Model

LEAST_RECORDS = 100
TIMEOUT_H = 24
"""The least that a job may be given; our own window is over by then."""
WORKING = ("Submitted", "Validating", "Scheduled", "InProgress", "Stopping")
INPUT = "in.jsonl"


class Converse(Protocol):
    """OpenAI's chat in Converse's words, and back."""

    def asked(self, model: Model, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The body of a Converse request; None for what cannot be said in a batch."""
        ...

    def answered(self, model: Model, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The chat completion; None for an output that is none."""
        ...


class BedrockBatches:
    """`remote.ProviderBatch` over jobs that read from and write to our own bucket.

    role_arn  what Bedrock acts as: it may read and write `batches/` of the bucket
    """

    endpoints = frozenset({"/v1/chat/completions"})
    share: Decimal | None = Decimal("0.5")
    """Source: Bedrock's pricing page: batch inference costs half of on-demand."""

    def __init__(self, aws: Aws, blobs: Blobs, bucket: str, role_arn: str, converse: Converse) -> None:
        self._aws, self._blobs, self._bucket, self._role_arn = aws, blobs, bucket, role_arn
        self._converse = converse

    async def find(self, batch_id: str) -> str | None:
        name = _job_name(batch_id)
        told = await self._call("list_model_invocation_jobs", nameContains=name)
        found = [job["jobArn"] for job in told.get("invocationJobSummaries", ()) if job["jobName"] == name]
        return str(found[0]) if found else None

    async def submit(self, batch_id: str, endpoint: str, model: Model, lines: AsyncIterator[bytes]) -> str:
        del endpoint
        await self._write(f"{_folder(batch_id)}/{INPUT}", model, lines)
        place = f"s3://{self._bucket}/{_folder(batch_id)}"
        try:
            told = await self._call(
                "create_model_invocation_job",
                jobName=_job_name(batch_id),
                clientRequestToken=_job_name(batch_id),
                roleArn=self._role_arn,
                modelId=model.id,
                modelInvocationType="Converse",
                inputDataConfig={"s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"{place}/{INPUT}"}},
                outputDataConfig={"s3OutputDataConfig": {"s3Uri": f"{place}/out/"}},
                timeoutDurationInHours=TIMEOUT_H,
            )
        except UpstreamRefused as error:
            if error.code == "ConflictException":
                raise UpstreamUnavailable("There is a job of this name already; the next try finds it.") from error
            raise
        return str(told["jobArn"])

    async def _write(self, key: str, model: Model, lines: AsyncIterator[bytes]) -> None:
        sink, records = self._blobs.sink(key), 0
        try:
            async for line in lines:
                found = orjson.loads(line)
                asked = self._converse.asked(model, found["body"])
                if asked is not None:
                    record = {"recordId": _record_id(found["custom_id"]), "modelInput": asked}
                    await sink.write(orjson.dumps(record, default=_base64) + b"\n")
                    records += 1
            if records < LEAST_RECORDS:
                raise UpstreamRefused(f"A job takes at least {LEAST_RECORDS} records, and there are {records}.")
            await sink.close()
        except BaseException:
            await sink.abort()
            raise

    async def poll(self, id: str) -> RemoteState:
        told = await self._call("get_model_invocation_job", jobIdentifier=id)
        return "working" if told["status"] in WORKING else "ended"

    async def collect(self, id: str, model: Model) -> AsyncIterator[Mapping[str, Any]]:
        told = await self._call("get_model_invocation_job", jobIdentifier=id)
        folder = str(told["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"]).removeprefix(f"s3://{self._bucket}/")
        output = self._blobs.stream(f"{folder}{id.rpartition('/')[2]}/{INPUT}.out")
        try:
            # A line of the output holds what was asked as well.
            async for line in split(output, 3 * MAX_LINE_BYTES):
                if line.raw.strip() and (answer := self._line(model, orjson.loads(line.raw))) is not None:
                    yield answer
        except NotFound:
            return  # it ended before it had written any

    def _line(self, model: Model, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
        output = found.get("modelOutput")
        body = self._converse.answered(model, output) if output else None
        if body is None:
            return None
        response = {"status_code": 200, "body": body}
        return {"custom_id": str(found["recordId"]).replace("L", "-"), "response": response}

    async def cancel(self, id: str) -> None:
        """Stopping what has ended is no error here."""
        try:
            await self._call("stop_model_invocation_job", jobIdentifier=id)
        except UpstreamRefused:
            return

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            return await self._aws.call("bedrock", operation, **arguments)
        except AwsError as error:
            raise _translated(error) from error


def _folder(batch_id: str) -> str:
    return f"batches/{batch_id}/remote"


def _job_name(batch_id: str) -> str:
    """Letters, digits and hyphens are what a job's name and token may have."""
    return f"edgewise-{batch_id}".replace("_", "-")


def _record_id(name: str) -> str:
    """'12-345' → '0012L000345': letters and digits, eleven of them, as the first version of the service wanted."""
    chunk, line = name.split("-")
    return f"{chunk:0>4}L{line:0>6}"


def _base64(value: Any) -> str:
    """Images and documents travel as base64 where the SDK would take bytes."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(type(value).__name__)


def _translated(error: AwsError) -> UpstreamError:
    if error.code == "ThrottlingException" or not 400 <= error.status < 500:
        return UpstreamUnavailable("Bedrock's batch service does not answer.")
    return UpstreamRefused(f"Bedrock's batch service refused: {error.code}.", code=error.code)
