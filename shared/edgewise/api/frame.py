"""What holds for every request, whatever its route: an id, headers for browsers, and an answer to every failure.

Outermost, so nothing gets past it: an error of the tree becomes its response, anything else a 500 without its inner
text, reported to a hook. Nothing is raised again after a response has gone out: a server that adds its own trailer
of errors to a finished body would spoil it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgewise.api import problems
from edgewise.api.door import REQUEST_ID
from edgewise.api.headers import EXPOSED, OPENAI_VERSION, clean
from edgewise.api.problems import DIALECT
from edgewise.errors import NotAllowed

Crashed = Callable[[BaseException, Scope], None]
"""Told of every failure that is not of the tree, with the request's scope."""

ORIGIN, CLIENT = b"x-edgewise-origin", b"x-edgewise-client"
"""What stands in front shows that it is it, and says whose request it brings (infra/edge.yaml)."""
LOOKED_AT = frozenset({"/healthz"})
"""By DNS, which can show nothing: whether this region answers."""


class Frame:
    """ASGI middleware around the whole app.

    token          makes request ids
    cors_origin    who may read answers from a browser ('*': anyone; no cookie is ever read, so nothing leaks); '': none
    origin_secret  what `x-edgewise-origin` must hold, so that only what stands in front can get in
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: Callable[[str], str],
        crashed: Crashed,
        cors_origin: str = "*",
        origin_secret: str | None = None,
    ) -> None:
        self._app = app
        self._token = token
        self._crashed = crashed
        self._secret = origin_secret.encode() if origin_secret else None
        self._cors_origin = cors_origin
        self._always: list[tuple[bytes, bytes]] = [(b"openai-version", OPENAI_VERSION.encode())]
        if cors_origin:
            self._always += [
                (b"access-control-allow-origin", cors_origin.encode()),
                (b"access-control-expose-headers", EXPOSED.encode()),
            ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = request_id = self._token("req_")
        added = [(b"x-request-id", request_id.encode()), *self._always]
        started = False

        async def tell(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *added]
                if (dialect := scope.get(DIALECT)) is not None:
                    message["headers"].append((dialect.id_header, request_id.encode()))
            await send(message)

        try:
            if self._secret is not None and scope["path"] not in LOOKED_AT:
                self._come_in(scope, self._secret)
            if self._cors_origin and scope["method"] == "OPTIONS" and (preflight := _preflight(scope)) is not None:
                await preflight(scope, receive, tell)
                return
            await self._app(scope, receive, tell)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  the edge's catch-all: counted by the hook, told as a bare 500
            told = problems.known(error)
            if told is not error and told.status >= 500:
                self._crashed(error, scope)
            if not started:
                dialect = scope.get(DIALECT)
                body = dialect.error(told, request_id) if dialect is not None else None
                await problems.response(told, body)(scope, receive, tell)

    def _come_in(self, scope: Scope, secret: bytes) -> None:
        """Refuse who goes around what stands in front. Who comes through it is who that says: by its own address
        everybody would be one client, and one who misbehaves would have all of them banned. What it shows goes no
        further: it is no wish of the client's, who may come again from another network."""
        shown = {name: value for name, value in scope["headers"] if name in (ORIGIN, CLIENT)}
        if not hmac.compare_digest(shown.get(ORIGIN, b""), secret):
            raise NotAllowed("Requests must come through the gateway's own address.")
        if CLIENT in shown:
            # The last of several: a client's own words would stand before it.
            scope["client"] = (shown[CLIENT].rpartition(b",")[2].strip().decode("latin-1"), 0)
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name not in shown]


def _preflight(scope: Scope) -> Response | None:
    """The answer to a browser's question before its request; None when this OPTIONS is not one."""
    asked = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if b"origin" not in asked or b"access-control-request-method" not in asked:
        return None
    return Response(
        status_code=204,
        headers={
            "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
            # '*' never covers Authorization, so what is asked for is named back.
            "access-control-allow-headers": clean(asked.get(b"access-control-request-headers", "authorization")),
            "access-control-max-age": "86400",
            "vary": "access-control-request-headers",
        },
    )
