"""The page at `/`: a few static files, each with its hash as ETag, under a policy that lets in nothing else."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/console/console.css": ("console.css", "text/css; charset=utf-8"),
    "/console/console.js": ("console.js", "text/javascript; charset=utf-8"),
    "/console/activity.js": ("activity.js", "text/javascript; charset=utf-8"),
}
_POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@cache
def _content(name: str) -> tuple[bytes, str]:
    content = files("edgewise.console").joinpath(name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'


async def page(request: Request) -> Response:
    """One of the page's files, or 304 when the browser has it."""
    name, kind = _FILES[request.scope["path"]]
    content, tag = _content(name)
    headers = {
        "etag": tag,
        "cache-control": "no-cache",
        "content-security-policy": _POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def routes() -> list[Route]:
    return [Route(path, page, methods=["GET"]) for path in _FILES]
