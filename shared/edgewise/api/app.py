"""The HTTP application: routes, and nothing of what they do.

Every route is mounted at `/v1/…` and without `/v1`, since clients differ in what they take for the base URL. FastAPI
is the application; the chat route is a bare ASGI endpoint in it, and no schema is generated until somebody asks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edgewise.api import models
from edgewise.api.chat import Chat, TakeOver
from edgewise.api.door import ROUTE
from edgewise.api.edge import Edge
from edgewise.api.frame import Frame
from edgewise.api.reply import reply
from edgewise.clock import Clock, SystemClock
from edgewise.deferred import deferred
from edgewise.rooms import Rooms
from edgewise.settings import Settings

with deferred():
    from fastapi import FastAPI
    from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware

if TYPE_CHECKING:
    from edgewise.api import embeddings, responses

OpenRooms = Callable[[], AbstractAsyncContextManager[Rooms]]
"""Opens the rooms when the app starts and closes them when it stops."""
Ready = Callable[[], Awaitable[Mapping[str, bool | str]]]
"""Which of the parts behind the gateway answer: True, or False, and then nobody should be sent here; or, as text, what
is missing that costs only hits."""
Routes = Iterable[BaseRoute] | Callable[[], Iterable[BaseRoute]]
"""Routes, or what imports and makes them when they are first wanted."""


def _none(_: str) -> None:
    return None


def app(
    rooms: Rooms | OpenRooms,
    settings: Settings,
    extra_routes: Routes = (),
    *,
    listing: models.Listing = tuple,
    ready: Ready | None = None,
    clock: Clock | None = None,
    kept: responses.Store | None = None,
    background: responses.TakeOver | None = None,
    background_chat: TakeOver | None = None,
    embedders: embeddings.Find = _none,
) -> FastAPI:
    """The gateway as an ASGI app.

    rooms         built, or an async context manager that builds them when the server (or a cold start) begins
    extra_routes  of other parts of the edge; each is mounted with and without `/v1`, a callable's when first asked for
    listing       the models to show at `/v1/models`
    ready         what `/readyz` asks
    kept          where responses are kept; without it none can be gone on with
    background    takes over responses that are asked for in the background; without it they are refused
    background_chat  the same for chat
    embedders     what embeds, by the name that a client asks for
    """
    edge = Edge(settings, rooms if isinstance(rooms, Rooms) else None)
    edge_clock = clock or (rooms.clock if isinstance(rooms, Rooms) else SystemClock())

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        if isinstance(rooms, Rooms):
            yield
            await rooms.background.drain(within_s=5)
            return
        async with rooms() as opened:
            edge.opened = opened
            application.state.background = opened.background
            yield
            await opened.background.drain(within_s=5)

    application = Gateway(edge, edge_clock, lifespan)
    if edge.opened is not None:
        # `edgewise.runtime` drains this before an environment freezes.
        application.state.background = edge.opened.background

    def translations() -> Iterable[BaseRoute]:
        from edgewise.api import embeddings, messages, responses

        yield from responses.routes(edge, store=kept, background=background)
        yield from messages.routes(edge)
        yield from embeddings.routes(edge, embedders)

    chat = Route("/chat/completions", Chat(edge, background_chat), methods=["POST"])
    application.mount_all([chat, *models.routes(edge, listing), *_own(edge, ready)])
    application.mount_all(translations)
    application.mount_all(extra_routes)
    return application


class Gateway(FastAPI):
    """FastAPI with a stack of our own: one frame instead of four layers, and errors in OpenAI's shape everywhere."""

    def __init__(self, edge: Edge, clock: Clock, lifespan: Any) -> None:
        self._edge = edge
        self._clock = clock
        super().__init__(
            title="Edgewise", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
        )
        self._later: list[Callable[[], Iterable[BaseRoute]]] = []
        self.router.default = self._elsewhere

    def build_middleware_stack(self) -> ASGIApp:
        settings = self._edge.settings
        inner: ASGIApp = AsyncExitStackMiddleware(self.router)
        for middleware in reversed(self.user_middleware):
            inner = middleware.cls(inner, *middleware.args, **middleware.kwargs)
        return Frame(
            inner,
            token=self._clock.token,
            crashed=self._edge.crashed,
            cors_origin=settings.cors_origin,
            origin_secret=settings.origin_secret,
        )

    def mount_all(self, routes: Routes) -> None:
        """Add routes; those of a callable when a path is asked for that no route has yet.

        A cold start then pays for the modules of the routes that it serves. All routes of one path belong together.
        """
        if callable(routes):
            self._later.append(routes)
            return
        for route in routes:
            self.mount_both(route)

    async def _elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._later:
            raise HTTPException(404)
        self.load()
        await self.router(scope, receive, send)

    def load(self) -> list[tuple[str, Route]]:
        """Mount what was to be mounted later; every route with the template of its path."""
        while self._later:
            self.mount_all(list(self._later[0]()))
            del self._later[0]
        return [(route.template, route) for route in self.router.routes if isinstance(route, Way)]

    def mount_both(self, route: BaseRoute) -> None:
        """Add `route` at its path under `/v1` and without it; the page and what is no plain route as they are."""
        if not isinstance(route, Route):
            self.router.routes.append(route)
            return
        path = route.path.removeprefix("/v1")
        if path == "/" or path.startswith("/console/"):
            self.router.routes.append(Way(path, route, path))
            return
        template = path if path in ("/healthz", "/readyz", "/openapi.json") else f"/v1{path}"
        for at in (f"/v1{path}", path):
            self.router.routes.append(Way(at, route, template))


class Way(Route):
    """A route that tells its template to what comes after it, and every method of its path to who misses it."""

    def __init__(self, path: str, route: Route, template: str) -> None:
        methods = sorted((route.methods or set()) - ({"HEAD"} if "GET" in (route.methods or ()) else set()))
        super().__init__(path, route.endpoint, methods=methods or None, name=route.name, include_in_schema=False)
        self.template = template

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = self.template
        if self.methods and scope["method"] not in self.methods:
            raise HTTPException(405, headers={"allow": _allowed(scope)})
        await self.app(scope, receive, send)


def _allowed(scope: Scope) -> str:
    """Every method that some route takes at this path."""
    routes: Sequence[BaseRoute] = scope["app"].router.routes
    methods: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return ", ".join(sorted(methods))


def _own(edge: Edge, ready: Ready | None) -> list[Route]:
    async def healthz(_: Request) -> Response:
        return reply({"status": "ok"})

    async def readyz(_: Request) -> Response:
        parts = await ready() if ready is not None else {}
        fine = edge.opened is not None and all(parts.values())
        return reply({"status": "ready" if fine else "not ready", "parts": parts}, status=200 if fine else 503)

    async def described(request: Request) -> Response:
        from edgewise.api import openapi

        gateway: Gateway = request.app
        return reply(openapi.document(gateway.load()))

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/openapi.json", described, methods=["GET"]),
    ]
