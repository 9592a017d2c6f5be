"""The HTTP edge around the rooms: which routes there are, and what each is given."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from edgewise.api.app import app
from edgewise.assemble.embedding import embedders, local_embedders
from edgewise.assemble.house import House, build
from edgewise.assemble.meaning import LateMeaning
from edgewise.aws import AwsError, Table
from edgewise.rooms import Rooms
from edgewise.settings import Settings

READY_S = 2.0

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from edgewise.api import responses
    from edgewise.api.background import Background
    from edgewise.chat import ChatRequest
    from edgewise.policy.replays import ReplayStore
    from edgewise.words import Plan, Principal


def gateway(settings: Settings) -> FastAPI:
    """The whole gateway as an ASGI app; connections come with the first request that needs them."""
    return around(build(settings))


def around(house: House) -> FastAPI:
    """The edge around a house that is built."""
    # It writes a line for every malformed form, so a stranger could fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    from edgewise.api import idempotency

    @asynccontextmanager
    async def rooms() -> AsyncIterator[Rooms]:
        await house.open()
        try:
            yield house.rooms
        finally:
            await house.close()

    def beside() -> list[Route]:
        from edgewise.api import page

        return [*page.routes(), *_of_people(house), *_of_jobs(house)]

    application = app(
        rooms,
        house.settings,
        beside,
        listing=lambda: (*house.models, *local_embedders(house.settings)),
        ready=lambda: _ready(house),
        clock=house.clock,
        embedders=embedders(house.settings, house.providers, house.models),
        **_later(house),
    )
    bound = house.settings.max_body_bytes
    idempotency.install(application, house.policy, lambda: _replays(house), house.clock, max_body_bytes=bound)
    application.state.background = house.background
    application.state.renew = house.renew
    return application


def _replays(house: House) -> ReplayStore:
    """Where answers are kept for whoever asks again: in the state table where there is one, else in this process."""
    if house.settings.state_table:
        from edgewise.policy.dynamodb_replays import DynamoReplays

        return DynamoReplays(Table(house.aws, house.settings.state_table))
    from edgewise.policy.replays import MemoryReplays

    return MemoryReplays()


async def _ready(house: House) -> dict[str, bool | str]:
    """Whether each table that there is answers a read; and, as text, what is missing that costs only hits."""

    async def answers(name: str) -> bool:
        try:
            async with asyncio.timeout(READY_S):
                await Table(house.aws, name).get("ready", "ready")
        except (AwsError, TimeoutError):
            return False
        return True

    settings = house.settings
    tables = {"cache": settings.cache_table, "state": settings.state_table}
    parts: dict[str, bool | str] = {part: await answers(name) for part, name in tables.items() if name}
    missing = house.cache.meaning.missed() if isinstance(house.cache.meaning, LateMeaning) else ""
    return {**parts, "meaning": missing} if missing else parts


def _later(house: House) -> dict[str, Any]:
    """What keeps and takes over requests, where there is a table, a bucket and a queue; imported when it is wanted."""
    if not house.can_work:
        return {}

    def background() -> Background:
        from edgewise.assemble.jobs import background_of

        return background_of(house)

    class Kept:
        async def keep(self, plan: Plan, kept: responses.Kept) -> None:
            await background().keep(plan, kept)

        async def find(self, tenant: str, id: str) -> responses.Kept | None:
            return await background().find(tenant, id)

    async def take_response(request: Request, body: dict[str, Any], asked: ChatRequest) -> Response:
        return await background().take_response(request, body, asked)

    async def take_chat(request: Request, asked: ChatRequest) -> Response:
        return await background().take_chat(request, asked)

    return {"kept": Kept(), "background": take_response, "background_chat": take_chat}


def _of_people(house: House) -> list[Route]:
    """Keys, usage, feedback and what the cache holds."""
    from edgewise.api import admin, cache_admin, feedback, usage

    identify, clock = house.policy.identify, house.clock
    return [
        *admin.routes(lambda: house.policy, clock),
        *usage.routes(
            identify,
            lambda: house.memory.rollups.store,
            clock,
            budgets=house.policy.budgets,
            flush=house.memory.rollups.flush,
            counters=house.record.counters.all,
        ),
        *feedback.routes(identify, lambda: house.memory.feedback, clock),
        *cache_admin.routes(lambda: house.cache, _by_request(house), clock),
        *_of_models(house),
    ]


def _of_models(house: House) -> list[Route]:
    """The operator's changes to the catalogue, where there is a table to keep them in."""
    table = house.settings.state_table
    if not table:
        return []
    from edgewise.api import models_admin
    from edgewise.routing.dynamodb import OverrideTable

    return models_admin.routes(OverrideTable(Table(house.aws, table)), _by_request(house))


def _by_request(house: House) -> Callable[[Request], Awaitable[Principal]]:
    from edgewise.api.door import credentials_of

    async def identify(request: Request) -> Principal:
        return await house.policy.identify(credentials_of(request))

    return identify


def _of_jobs(house: House) -> list[Route]:
    """Files and batches, where there is a table, a bucket and a queue for them."""
    if not house.can_work:
        return []
    from edgewise.api import batches, files

    identify = _by_request(house)

    def desk() -> Any:
        from edgewise.assemble.jobs import desk_of

        return desk_of(house)

    from edgewise.assemble.jobs import background_of

    return [
        *background_of(house).routes(),
        *files.routes(lambda: desk().room.files, lambda: desk().uploads, identify),
        *batches.routes(lambda: desk().room, identify),
    ]
