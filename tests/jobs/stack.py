"""The async room as it is deployed, on loopback: DynamoDB, S3 and SQS by moto, HTTP by uvicorn, a pump for Lambda's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from edgewise.api import batches as batch_routes
from edgewise.api import files as file_routes
from edgewise.api.app import app
from edgewise.api.door import credentials_of
from edgewise.api.lines import Lines
from edgewise.aws import Aws, AwsError, Table
from edgewise.clock import Clock, SystemClock
from edgewise.jobs.dynamodb import DynamoBatches
from edgewise.jobs.files import Files
from edgewise.jobs.index.dynamodb import DynamoFiles
from edgewise.jobs.room import Options, Room
from edgewise.jobs.s3 import S3Blobs
from edgewise.jobs.share import Share
from edgewise.jobs.sqs import SqsQueue
from edgewise.jobs.uploads import Uploads
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from edgewise.local.esm import event_of, failed_of
from edgewise.patience import PatientAws
from edgewise.rooms import Rooms
from edgewise.settings import Settings
from edgewise.words import Principal


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are kept."""

    table: str
    bucket: str
    queue: str
    dead: str


def room_at(aws: Aws, places: Places, clock: Clock, options: Options | None = None) -> tuple[Room, Uploads]:
    patient = PatientAws(aws, clock)
    blobs = S3Blobs(patient, places.bucket)
    table = Table(patient, places.table)
    index = DynamoFiles(table, clock)
    files = Files(index, blobs, clock)
    queue = SqsQueue(patient, places.queue, places.dead)
    return Room(files, DynamoBatches(table, blobs, clock), blobs, queue, clock, options=options or Options()), Uploads(
        files, index
    )


async def pump(aws: Aws, url: str, handle: Callable[[dict[str, Any], float], Any], *, most: int = 10) -> None:
    """Lambda's event source mapping with one environment, for ever."""
    while True:
        found = await aws.call(
            "sqs",
            "receive_message",
            QueueUrl=url,
            MaxNumberOfMessages=most,
            MessageSystemAttributeNames=["All"],
        )
        messages = found.get("Messages", [])
        if not messages:
            await asyncio.sleep(0.05)
            continue
        event = event_of(messages, "arn:aws:sqs:us-east-1:1:jobs")
        import orjson

        failed = failed_of(orjson.dumps(await handle(event, 900.0)), {m["MessageId"] for m in messages})
        for message in messages:
            if message["MessageId"] not in failed:
                # On a busy machine its hiding may have run out: the stand-in refuses what SQS would take.
                with contextlib.suppress(AwsError):
                    await aws.call("sqs", "delete_message", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@asynccontextmanager
async def serving(rooms: Rooms, room: Room, uploads: Uploads, **more: Any) -> AsyncIterator[str]:
    """The gateway on a loopback port; its base URL for OpenAI's clients."""

    async def identify(request: Any) -> Principal:
        return await rooms.policy.identify(credentials_of(request))

    extra = [
        *file_routes.routes(lambda: room.files, lambda: uploads, identify),
        *batch_routes.routes(lambda: room, identify),
    ]
    application = app(rooms, Settings(), [*extra, *more.pop("routes", ())], clock=SystemClock(), **more)
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        await task


async def impersonate(tenant: str, key_id: str, _route: str) -> Principal:
    return Principal(tenant, key_id)


@asynccontextmanager
async def working(aws: Aws, places: Places, room: Room, rooms: Rooms, others: Any = None) -> AsyncIterator[Worker]:
    """A worker that the pump keeps busy."""
    worker = Worker(room, ChunkWork(room, Lines(lambda: rooms, impersonate), Share(room.clock, 50)), others)
    task = asyncio.create_task(pump(aws, places.queue, worker.handle))
    try:
        yield worker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
