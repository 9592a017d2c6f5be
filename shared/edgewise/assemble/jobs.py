"""The async room on its adapters, and the handler that Lambda calls with its messages."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from edgewise.api.background import Background
from edgewise.api.background import Desk as BackgroundDesk
from edgewise.api.door import credentials_of
from edgewise.api.embeddings import EmbedLine
from edgewise.api.lines import Impersonate, Lines, RunRoute
from edgewise.api.making import Making
from edgewise.assemble.away import remote_of
from edgewise.assemble.embedding import embedders
from edgewise.assemble.filters import screened
from edgewise.assemble.house import House, build
from edgewise.assemble.task_queue import tasks_on
from edgewise.aws import Table
from edgewise.chat import ChatRequest
from edgewise.clock import Deadline
from edgewise.errors import InvalidRequest
from edgewise.jobs.answers.dynamodb import DynamoShelf
from edgewise.jobs.answers.work import AnswerWork
from edgewise.jobs.dynamodb import DynamoBatches
from edgewise.jobs.files import Files
from edgewise.jobs.index.dynamodb import DynamoFiles
from edgewise.jobs.ports import Meter
from edgewise.jobs.room import Options, Room
from edgewise.jobs.s3 import S3Blobs
from edgewise.jobs.share import Share
from edgewise.jobs.sqs import SqsQueue
from edgewise.jobs.uploads import Uploads
from edgewise.jobs.webhook import Webhooks
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Other, Worker
from edgewise.patience import PatientAws
from edgewise.rooms import Rooms, Router
from edgewise.settings import Settings
from edgewise.words import Choice, Plan, Principal, Target

WEBHOOK_S = 10.0


@dataclass(frozen=True, slots=True)
class Desk:
    """The async room's parts; `webhooks` is None where no host may be told."""

    room: Room
    uploads: Uploads
    shelf: DynamoShelf
    webhooks: Webhooks | None


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
    table = screened(house, Table(patient, settings.state_table))
    blobs = S3Blobs(patient, settings.bucket)
    index = DynamoFiles(table, clock)
    files = Files(index, blobs, clock)
    queue = SqsQueue(patient, settings.jobs_queue_url, settings.dead_letter_queue_url)
    options = Options(window_chunks=max(1, settings.jobs_workers * 3 // 4))
    room = Room(files, DynamoBatches(table, blobs, clock), blobs, queue, clock, Signals(house), options)
    shelf = DynamoShelf(table, blobs, clock)
    webhooks = _webhooks(house, room.meter)
    room.check_url = webhooks.check if webhooks is not None else None
    return Desk(room, Uploads(files, index), shelf, webhooks)


def _webhooks(house: House, meter: Meter) -> Webhooks | None:
    """Webhooks to the operator's hosts, each URL checked when it is given and again when it is used."""
    settings = house.settings
    if not settings.webhook_hosts or not settings.webhook_secret:
        return None
    from edgewise.policy.guards.urls import check_resolved
    from edgewise.provider.http import Http

    http = Http(house.clock)

    async def resolve(host: str) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
        return [str(address[4][0]) for address in found]

    async def allowed(url: str) -> None:
        checked = await check_resolved(url, resolve, param="x-edgewise-webhook")
        if checked.host not in settings.webhook_hosts:
            raise InvalidRequest("Webhooks are not sent to this host.", param="x-edgewise-webhook")

    async def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        return await http.tell(url, headers, body, Deadline.after(house.clock, WEBHOOK_S))

    return Webhooks(settings.webhook_secret, allowed, post, house.clock, meter)


def background_of(house: House) -> Background:
    """What takes over requests that are asked for in the background, and answers for them."""

    async def identify(request: Request) -> Principal:
        return await house.policy.identify(credentials_of(request))

    def desk() -> BackgroundDesk:
        found = desk_of(house)
        check = found.webhooks.check if found.webhooks else None
        return BackgroundDesk(found.shelf, found.room.queue, house.clock, check, house.settings.keepalive_s)

    return Background(desk, identify)


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
    others: dict[str, RunRoute] = {
        "/v1/embeddings": EmbedLine(embedders(house.settings, house.providers, house.models))
    }
    lines = Lines(lambda: house.rooms, house.policy.impersonate, others, house.policy)
    yielding = replace(lines, rooms=_patient_rooms(house), impersonate=_yielding(house))
    share = Share(house.clock, house.settings.jobs_concurrency)
    making = Making(lines, house.clock)
    answers = AnswerWork(
        desk.shelf,
        desk.room.queue,
        house.clock,
        share,
        desk.room.meter,
        make=making.make,
        refuse=making.refuse,
        webhooks=desk.webhooks,
        options=desk.room.options,
    )
    chunks = ChunkWork(desk.room, yielding, share, _pressure_of(house))
    ended = desk.webhooks.batch_ended if desk.webhooks else None
    working: dict[str, Other] = {"response": answers.work}
    if house.settings.tasks:
        working["task"] = tasks_on(house.settings, house.clock, house.aws, desk.room.meter).worker.work
    return Worker(desk.room, chunks, working, ended, remote_of(house, desk.room))


class _Patient:
    """The router as a batch's lines have it: what a provider is too busy for is not tried again at once, as a
    request's client would want it; the line goes back and waits with the others (`jobs.share`)."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)

    async def choose(self, request: ChatRequest, plan: Plan, target: Target) -> Choice:
        choice = await self._router.choose(request, plan, target)
        return replace(choice, max_attempts=min(choice.max_attempts, len({model.name for model in choice.models})))


def _patient_rooms(house: House) -> Callable[[], Rooms]:
    router: Any = _Patient(house.router)
    return lambda: replace(house.rooms, router=router)


def _yielding(house: House) -> Impersonate:
    """Callers as a batch's lines have them: bound to a share of their limits."""

    async def impersonate(tenant: str, key_id: str, route: str) -> Principal:
        found = await house.policy.impersonate(tenant, key_id, route)
        settings = {**found.settings, "share": house.settings.jobs_rate_share} if found.settings else found.settings
        return replace(found, settings=settings)

    return impersonate


def _pressure_of(house: House) -> Callable[[str], Awaitable[float]]:
    """How long batch work should leave a model alone: while its breaker is open, whoever opened it."""

    async def pressure(asked: str) -> float:
        assert house.router.breakers is not None
        found = house.router.catalog.find(asked)
        return await house.router.breakers.open_for_s(found[0].name) if len(found) == 1 else 0.0

    return pressure


class Handler:
    """The Lambda handler. One event loop lives as long as the environment, and connections with it."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._working = worker_of(house)
        self._runner = asyncio.Runner()

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        return self._runner.run(self._run(event, context.get_remaining_time_in_millis() / 1000))

    async def _run(self, event: Mapping[str, Any], left_s: float) -> dict[str, Any]:
        house = self._house
        deadline = Deadline.after(house.clock, left_s - house.settings.deadline_margin_s)
        told = await self._working.handle(event, left_s)
        # A shadow call that the environment's freeze cuts off would hold its budget until the hold's lease ends.
        await house.background.drain(max(0.0, deadline.left_s()))
        return told

    def close(self) -> None:
        """For who outlives it; an environment is never told that it ends."""
        self._runner.run(self._house.close())
        self._runner.close()


def worker(settings: Settings) -> Handler:
    """The handler of queue messages."""
    return Handler(build(settings))
