"""`/v1/batches`, as OpenAI's clients call it, and a redrive of what failed."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.api.desk import Identify, Page, json_body, listing
from edgewise.api.reply import reply
from edgewise.errors import NotAllowed, NotFound
from edgewise.jobs import start
from edgewise.jobs.batch import Batch
from edgewise.jobs.room import Room

Service = Callable[[], Room]
REDRIVE_MOST = 1000


def routes(room: Service, identify: Identify) -> list[Route]:
    """The routes, for mounting with and without `/v1`. `room` is asked when a request comes, not before."""
    door = _Batches(room, identify)
    return [
        Route("/batches", door.create, methods=["POST"]),
        Route("/batches", door.listed, methods=["GET"]),
        Route("/batches/redrive", door.redrive_letters, methods=["POST"]),
        Route("/batches/{batch_id}", door.get, methods=["GET"]),
        Route("/batches/{batch_id}/cancel", door.cancel, methods=["POST"]),
        Route("/batches/{batch_id}/redrive", door.redrive, methods=["POST"]),
    ]


class _Batches:
    def __init__(self, room: Service, identify: Identify) -> None:
        self._room = room
        self._identify = identify

    async def _own(self, request: Request) -> Batch:
        """The batch that the path names. Another tenant's is not found."""
        tenant = (await self._identify(request)).tenant
        return await self._find(tenant, request.path_params["batch_id"])

    async def _find(self, tenant: str, batch_id: str) -> Batch:
        batch = await self._room().batches.get(batch_id)
        if batch is None or batch.tenant != tenant:
            raise NotFound(f"No batch has the id '{batch_id[:80]}'.", param="batch_id")
        return batch

    async def create(self, request: Request) -> Response:
        caller = await self._identify(request)
        batch = await start.create(self._room(), caller.tenant, caller.key_id, await json_body(request))
        return reply(batch.wire())

    async def listed(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        page = Page.of(request.query_params, most=100, usual=20)
        after = await self._find(tenant, page.after) if page.after else None
        found = await self._room().batches.page(tenant, after, page.limit + 1)
        return reply(listing([batch.wire() for batch in found[: page.limit]], len(found) > page.limit))

    async def get(self, request: Request) -> Response:
        return reply((await self._own(request)).wire())

    async def cancel(self, request: Request) -> Response:
        return reply((await start.cancel(self._room(), await self._own(request))).wire())

    async def redrive(self, request: Request) -> Response:
        """A new batch of the lines that failed in this one."""
        return reply((await start.redrive(self._room(), await self._own(request))).wire())

    async def redrive_letters(self, request: Request) -> Response:
        """The operator's: dead letters back on the queue."""
        if not (await self._identify(request)).is_root:
            raise NotAllowed("Only the root key moves dead letters.")
        return reply({"object": "redrive", "moved": await self._room().queue.redrive(REDRIVE_MOST)})
