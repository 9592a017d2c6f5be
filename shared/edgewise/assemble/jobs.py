"""The async room on its adapters, and the handler that Lambda calls with its messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.api.lines import Lines
from edgewise.assemble.house import House, build
from edgewise.aws import Table
from edgewise.jobs.dynamodb import DynamoBatches
from edgewise.jobs.files import Files
from edgewise.jobs.index.dynamodb import DynamoFiles
from edgewise.jobs.room import Room
from edgewise.jobs.s3 import S3Blobs
from edgewise.jobs.share import Share
from edgewise.jobs.sqs import SqsQueue
from edgewise.jobs.uploads import Uploads
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from edgewise.patience import PatientAws
from edgewise.settings import Settings


@dataclass(frozen=True, slots=True)
class Desk:
    room: Room
    uploads: Uploads


def desk_of(house: House) -> Desk:
    """The async room of a house that has a table, a bucket and a queue; made once."""
    if house.desk is None:
        house.desk = _desk(house)
    desk: Desk = house.desk
    return desk


def _desk(house: House) -> Desk:
    settings, clock = house.settings, house.clock
    assert settings.state_table and settings.bucket and settings.jobs_queue_url
    patient = PatientAws(house.aws, clock)
    table = Table(patient, settings.state_table)
    blobs = S3Blobs(patient, settings.bucket)
    index = DynamoFiles(table, clock)
    files = Files(index, blobs, clock)
    queue = SqsQueue(patient, settings.jobs_queue_url, settings.dead_letter_queue_url or settings.jobs_queue_url)
    room = Room(files, DynamoBatches(table, blobs, clock), blobs, queue, clock, meter=Signals(house))
    return Desk(room, Uploads(files, index))


METRICS = {
    "lines_done": "BatchLinesDone",
    "lines_failed": "BatchLinesFailed",
    "message_failures": "BackgroundFailed",
    "line_defects": "BackgroundFailed",
}


class Signals:
    """The async room's counts as metrics of the record; what nobody watches is not counted."""

    def __init__(self, house: House) -> None:
        self._house = house

    def add(self, name: str, value: float = 1.0) -> None:
        if name in METRICS:
            self._house.record.signal(METRICS[name], value)


def worker_of(house: House) -> Worker:
    """What works through messages, in this process."""
    desk = desk_of(house)
    lines = Lines(lambda: house.rooms, house.policy.impersonate)
    return Worker(desk.room, ChunkWork(desk.room, lines, Share(house.clock, house.settings.jobs_concurrency)))


def worker(settings: Settings) -> Callable[[Mapping[str, Any], Any], dict[str, Any]]:
    """The Lambda handler. One event loop lives as long as the environment, and connections with it."""
    house = build(settings)
    working = worker_of(house)
    runner = asyncio.Runner()

    async def run(event: Mapping[str, Any], left_s: float) -> dict[str, Any]:
        told = await working.handle(event, left_s)
        await house.background.drain(within_s=5)
        return told

    def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        return runner.run(run(event, context.get_remaining_time_in_millis() / 1000))

    return handler
