"""`/admin/cache`: what the cache holds and counts, purging, export and import.

A key with the scope 'admin' sees and changes its own tenant's entries; the root key everybody's, or one tenant's with
`tenant=`. Export and import speak JSON lines, one entry a line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, timedelta

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from edgewise.api import body
from edgewise.api.desk import Identify
from edgewise.api.reply import reply
from edgewise.cache.codec import fields_of, kept_of
from edgewise.cache.popular import day_of
from edgewise.cache.port import Kept, StoreError
from edgewise.cache.purge import rule_of
from edgewise.cache.room import CacheRoom
from edgewise.clock import Clock
from edgewise.errors import InvalidRequest, NotAllowed, Unavailable
from edgewise.words import Principal

MOST_BYTES = 6_000_000
MOST_ASKED = 1_000


def routes(room: Callable[[], CacheRoom], identify: Identify, clock: Clock) -> list[Route]:
    """The routes, for mounting with and without `/v1`. `room` is asked when a request comes, not before."""
    door = _Admin(room, identify, clock)
    return [
        Route("/admin/cache", door.described, methods=["GET"]),
        Route("/admin/cache", door.purge, methods=["DELETE"]),
        Route("/admin/cache/entries", door.export, methods=["GET"]),
        Route("/admin/cache/entries", door.take_in, methods=["POST"]),
        Route("/admin/cache/asked", door.asked, methods=["GET"]),
    ]


class _Admin:
    def __init__(self, room: Callable[[], CacheRoom], identify: Identify, clock: Clock) -> None:
        self._room = room
        self._identify = identify
        self._clock = clock

    async def _caller(self, request: Request) -> tuple[Principal, str | None]:
        """Who asks, and whose entries they mean; None is everybody's."""
        caller = await self._identify(request)
        if not caller.is_root and "admin" not in caller.scopes:
            raise NotAllowed("This key has no 'admin' scope.", code="scope_missing")
        tenant = request.query_params.get("tenant") or None
        if caller.is_root:
            return caller, tenant
        if tenant not in (None, caller.tenant):
            raise NotAllowed("This key sees its own tenant only.", param="tenant")
        return caller, caller.tenant

    async def described(self, request: Request) -> Response:
        """The counters of the process that answers."""
        await self._caller(request)
        return reply({"object": "cache", **self._room().describe()})

    async def purge(self, request: Request) -> Response:
        _, scope = await self._caller(request)
        asked = request.query_params
        rule = rule_of(
            self._clock.now(),
            older_than_s=_seconds(asked.get("older_than_s")),
            everything=asked.get("all") in ("true", "1"),
            scope=scope,
            **{name: asked.get(name) for name in ("key", "tag", "model", "namespace", "prefix")},
        )
        async with _reachable():
            removed = await self._room().purge(rule)
        return reply({"object": "cache.purge", "removed": removed, "rule": rule.wire()})

    async def export(self, request: Request) -> Response:
        _, scope = await self._caller(request)
        namespace = request.query_params.get("namespace")
        return StreamingResponse(self._lines(scope, namespace), media_type="application/x-ndjson")

    async def _lines(self, scope: str | None, namespace: str | None) -> AsyncIterator[bytes]:
        async for of, kept in self._room().walk(scope):
            if namespace in (None, kept.namespace):
                yield orjson.dumps({"scope": of, **fields_of(kept)}) + b"\n"

    async def take_in(self, request: Request) -> Response:
        """Entries as they were exported. One that is not whole refuses them all, before any is stored."""
        caller, scope = await self._caller(request)
        raw = await body.read(request.receive, request.scope["headers"], MOST_BYTES)
        # Lines end at \n only: JSON text may hold other separators.
        entries = [_entry(line, number) for number, line in enumerate(raw.split(b"\n"), 1) if line.strip()]
        if not caller.is_root and any(of != scope for of, _ in entries):
            raise NotAllowed("This key may only bring in its own tenant's entries.")
        taken = 0
        async with _reachable():
            for of, kept in entries:
                taken += await self._room().take_in(scope or of, kept)
        return reply({"object": "cache.import", "imported": taken, "expired": len(entries) - taken})

    async def asked(self, request: Request) -> Response:
        """What was asked most on a day (the last one, unless said): bodies, for warming."""
        caller, scope = await self._caller(request)
        popular = self._room().popular
        if popular is None:
            raise InvalidRequest(
                "Requests are not kept. Set EDGEWISE_CACHE_KEEP_REQUESTS=true to be able to warm them."
            )
        day = request.query_params.get("day") or _day_before(day_of(self._clock.now()))
        most = request.query_params.get("limit", "100")
        if not most.isascii() or not most.isdigit() or not 1 <= int(most[:6]) <= MOST_ASKED:
            raise InvalidRequest(f"`limit` must be from 1 to {MOST_ASKED}.", param="limit")
        async with _reachable():
            found = await popular.tally.top(day, scope or caller.tenant, int(most))
        return reply({"object": "list", "day": day, "data": [{"times": q.times, "body": q.body} for q in found]})


def _entry(line: bytes, number: int) -> tuple[str, Kept]:
    try:
        fields = orjson.loads(line)
        return str(fields["scope"]), kept_of(fields)
    except (orjson.JSONDecodeError, KeyError, TypeError, StoreError) as error:
        raise InvalidRequest(f"Line {number} is not an exported entry.") from error


def _seconds(told: str | None) -> float | None:
    if told is None:
        return None
    try:
        found = float(told)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e12:
        raise InvalidRequest("`older_than_s` is a number of seconds, 0 or more.", param="older_than_s")
    return found


def _day_before(day: str) -> str:
    return (date.fromisoformat(day) - timedelta(days=1)).isoformat()


@asynccontextmanager
async def _reachable() -> AsyncIterator[None]:
    """An administrator is told when the store is not there; a request never is."""
    try:
        yield
    except StoreError as error:
        raise Unavailable("The cache's store does not answer.") from error
