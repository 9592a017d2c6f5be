"""Errors as responses in OpenAI's shape, on every path.

Only this module turns an `EdgewiseError` into JSON; a route whose clients speak another dialect says so in the scope.
What is not an `EdgewiseError` becomes a 500 that says nothing of its cause; the cause goes to the hook that the frame
was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from edgewise.api.headers import clean
from edgewise.errors import EdgewiseError, InvalidRequest, MethodNotAllowed, NotFound

_NEVER = frozenset({"content-length", "content-type", "transfer-encoding", "connection"})


DIALECT = "edgewise.dialect"
"""Key of the ASGI scope: the `Dialect` of the route, when it is not OpenAI's."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a route tells its errors, given the request's id, and by which header its clients know that id."""

    error: Callable[[EdgewiseError, str], dict[str, Any]]
    id_header: bytes


class Broken(EdgewiseError):
    """Something of ours went wrong in a way that nobody thought of."""

    code = "internal_error"


def known(error: BaseException) -> EdgewiseError:
    """`error` as one of the tree, without the inner text of a stranger."""
    if isinstance(error, EdgewiseError):
        return error
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, ClientDisconnect):
        return InvalidRequest("The client went away before its request was whole.", code="client_closed")
    return Broken("The gateway failed to answer this request. The failure has been recorded.")


def _of_http(error: HTTPException) -> EdgewiseError:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return NotFound("There is no such route here.", code="unknown_url")
    if error.status_code == 405:
        return MethodNotAllowed("This route does not take this method.", headers=headers)
    if error.status_code < 500:
        return InvalidRequest(str(error.detail), status=error.status_code, headers=headers)
    return Broken("The gateway failed to answer this request.", status=error.status_code)


def response(error: EdgewiseError, body: dict[str, Any] | None = None) -> Response:
    """The response that tells of `error`; `body` in place of OpenAI's."""
    told = dict(error.headers)
    if error.status == 401:
        told.setdefault("www-authenticate", "Bearer")
    kept = {name: clean(value) for name, value in told.items() if name.lower() not in _NEVER}
    return Response(encoded(error, body), error.status, kept, "application/json")


def encoded(error: EdgewiseError, body: dict[str, Any] | None = None) -> bytes:
    """The error's JSON. A message with a lone surrogate (out of an upstream's text) must not become a second error."""
    body = body or error.body()
    try:
        return orjson.dumps(body)
    except TypeError:
        inner = {
            k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for k, v in body["error"].items()
        }
        return orjson.dumps({**body, "error": inner})
