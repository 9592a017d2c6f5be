"""What the routes of the async room share: who asks, what they sent, which page of a list they want."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from edgewise.api import body
from edgewise.errors import InvalidRequest
from edgewise.words import Principal

Identify = Callable[[Request], Awaitable[Principal]]
"""Who sent a request; raises when nobody we know did."""

MAX_JSON_BYTES = 6_000_000
MAX_DEPTH = 64


async def json_body(request: Request, *, empty: bool = False) -> dict[str, Any]:
    """The body as a JSON object; with `empty` no body at all is {}."""
    raw = await body.read(request.receive, request.scope["headers"], MAX_JSON_BYTES)
    return {} if empty and not raw.strip() else body.parse(raw, MAX_DEPTH)


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: `limit` entries beyond `after`."""

    limit: int
    after: str | None
    forward: bool

    @classmethod
    def of(cls, query: Mapping[str, str], *, most: int, usual: int) -> Page:
        word = query.get("limit", str(usual))
        if not word.isascii() or not word.isdigit() or not 1 <= int(word[:9]) <= most:
            raise InvalidRequest(f"`limit` must be from 1 to {most}.", param="limit")
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise InvalidRequest("`order` must be 'asc' or 'desc'.", param="order")
        return cls(int(word), query.get("after") or None, order == "asc")


def listing(entries: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """OpenAI's list object."""
    return {
        "object": "list",
        "data": entries,
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
        "has_more": has_more,
    }
