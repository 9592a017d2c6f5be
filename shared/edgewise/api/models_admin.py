"""`/admin/models`: the operator's changes to the catalogue, for all tenants, so for the root key alone.

    GET     /admin/models          every change
    PUT     /admin/models/{name}   fields of a catalogue row, in place of the change before
    DELETE  /admin/models/{name}   as it was compiled and set

A change reaches every process within about a minute (`edgewise.routing.overrides`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.api import body
from edgewise.api.desk import Identify
from edgewise.api.reply import reply
from edgewise.aws import AwsError
from edgewise.errors import NotAllowed, Unavailable

MAX_BODY_BYTES = 16_000
MAX_DEPTH = 8


class Rows(Protocol):
    """Where changes are kept (`edgewise.routing.dynamodb.OverrideTable`)."""

    async def all(self) -> dict[str, dict[str, Any]]: ...
    async def save(self, name: str, row: Mapping[str, Any]) -> None: ...
    async def drop(self, name: str) -> None: ...


Handler = Callable[[Request], Awaitable[Response]]


def routes(rows: Rows, identify: Identify) -> list[Route]:
    """The routes, for mounting with and without `/v1`."""

    def guarded(handler: Handler) -> Handler:
        async def endpoint(request: Request) -> Response:
            if not (await identify(request)).is_root:
                raise NotAllowed("Only the root key may change what models are.")
            try:
                return await handler(request)
            except AwsError as error:
                raise Unavailable("The table of models does not answer.") from error

        return endpoint

    async def told(_: Request) -> Response:
        found = await rows.all()
        return reply({"object": "list", "data": [_wire(name, row) for name, row in found.items()], "has_more": False})

    async def change(request: Request) -> Response:
        from edgewise.routing.overrides import checked

        name = request.path_params["name"]
        raw = await body.read(request.receive, request.scope["headers"], MAX_BODY_BYTES)
        row = checked(name, body.parse(raw, MAX_DEPTH))
        await rows.save(name, row)
        return reply(_wire(name, row))

    async def drop(request: Request) -> Response:
        name = request.path_params["name"]
        await rows.drop(name)
        return reply({**_wire(name, {}), "deleted": True})

    return [
        Route("/admin/models", guarded(told), methods=["GET"]),
        Route("/admin/models/{name:path}", guarded(change), methods=["PUT"]),
        Route("/admin/models/{name:path}", guarded(drop), methods=["DELETE"]),
    ]


def _wire(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"object": "model_override", "model": name, "row": dict(row)}
