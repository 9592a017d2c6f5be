"""`GET /v1/usage`: what the caller's own key used. `GET /admin/stats`: what a tenant, or everybody, used.

Both read roll-ups, so neither costs more for a busy month than for an idle one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.api.door import credentials_of
from edgewise.api.reply import reply
from edgewise.clock import Clock
from edgewise.errors import InvalidRequest, NotAllowed, NotFound
from edgewise.record.rollups import EVERYBODY, SPANS, Cell, RollupStore, Span, Sums, by, total
from edgewise.words import Credentials, Principal

Identify = Callable[[Credentials], Awaitable[Principal]]
Budgets = Callable[[Principal], Awaitable[list[dict[str, object]]]]
Flush = Callable[[], Awaitable[None]]

MOST_CELLS = {"minute": 1_440, "hour": 24 * 100}


def routes(
    identify: Identify,
    store: Callable[[], RollupStore],
    clock: Clock,
    *,
    budgets: Budgets | None = None,
    flush: Flush | None = None,
    counters: Callable[[], dict[str, float]] | None = None,
) -> list[Route]:
    """budgets: the caller's budgets with what is used. flush: write what this process holds, before reading.
    counters: what this process counted since it began."""

    async def read(request: Request, tenant: str, key_id: str | None) -> dict[str, Any]:
        span, since, until = _span(request, clock.now())
        if flush is not None:
            await flush()
        cells = await store().read(tenant, span, since, until)
        if key_id is not None:
            cells = [(cell, sums) for cell, sums in cells if cell.key_id == key_id]
        return _told(cells, span, since, until, clock.now())

    async def own(request: Request) -> Response:
        who = await identify(credentials_of(request))
        told = await read(request, who.tenant, who.key_id)
        state = await budgets(who) if budgets is not None else []
        return reply({"object": "usage", "tenant": who.tenant, "key_id": who.key_id, "budgets": state, **told})

    async def stats(request: Request) -> Response:
        who = await identify(credentials_of(request))
        if not who.is_root and "admin" not in who.scopes:
            raise NotAllowed("This key has no 'admin' scope.", code="scope_missing")
        asked = request.query_params.get("tenant")
        if not who.is_root and asked not in (None, who.tenant):
            raise NotFound("There is no such tenant.", param="tenant")
        tenant = asked or (EVERYBODY if who.is_root else who.tenant)
        told = await read(request, tenant, request.query_params.get("key_id"))
        process = counters() if counters is not None and who.is_root else None
        return reply({"object": "stats", "tenant": tenant, **told, "process": process})

    return [Route("/usage", own, methods=["GET"]), Route("/admin/stats", stats, methods=["GET"])]


def _span(request: Request, now: float) -> tuple[Span, int, int]:
    """The asked time: `span`, and `since` and `until` in seconds since the epoch (default: the last 60 of them)."""
    query = request.query_params
    word = query.get("span", "minute")
    if word not in SPANS:
        raise InvalidRequest("`span` must be 'minute' or 'hour'.", param="span")
    span: Span = "minute" if word == "minute" else "hour"
    until = _whole(query.get("until"), "until", int(now) + 1)
    since = _whole(query.get("since"), "since", until - 60 * SPANS[span])
    since = since // SPANS[span] * SPANS[span]
    if not 0 <= until - since <= MOST_CELLS[span] * SPANS[span]:
        raise InvalidRequest(f"At most {MOST_CELLS[span]} {span}s at a time, the earlier first.", param="since")
    return span, since, until


def _whole(text: str | None, param: str, usual: int) -> int:
    if text is None:
        return usual
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise InvalidRequest(f"`{param}` must be seconds since the epoch.", param=param)
    return int(text)


def _told(cells: list[tuple[Cell, Sums]], span: Span, since: int, until: int, now: float) -> dict[str, Any]:
    seconds = max(1.0, min(until, now) - since)
    return {
        "span": span,
        "since": since,
        "until": until,
        "total": total(cells).told(seconds),
        "by_model": [{"model": model, **sums.told(seconds)} for model, sums in by(cells, "model").items()],
        "by_key": [{"key_id": key, **sums.told(seconds)} for key, sums in by(cells, "key_id").items() if key],
        "series": [{"at": at, **sums.told(SPANS[span])} for at, sums in by(cells, "at").items()],
    }
