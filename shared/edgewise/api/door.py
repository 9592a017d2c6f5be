"""What the edge reads of a request besides its body: who it says it is, how long it may take, what it wants of us.

The route is the template of the route that matched, set when the routes were made. `request.url` is built from the
Host header, which a client writes as it likes (CVE-2026-48710), so nothing here looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from edgewise.api.controls import OURS, WISHES, directives_of
from edgewise.clock import Clock, Deadline
from edgewise.settings import Settings
from edgewise.words import Credentials

REQUEST_ID = "edgewise.request_id"
ROUTE = "edgewise.route"
"""Keys of the ASGI scope that the edge sets: this request's id, and the template of its route."""
STARTED = "edgewise.started"
"""When the request came in, on `clock.tick()`."""

_PATIENCE = (b"x-stainless-timeout", b"x-stainless-read-timeout")
_NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True)
class Knock:
    """The headers that matter, read in one pass."""

    credentials: Credentials
    directives: Mapping[str, str | None] = field(default_factory=dict)
    ours: Mapping[str, str] = field(default_factory=dict)
    patience_s: float | None = None
    """How long the client said it would wait: OpenAI's clients do, in Node and in Python."""


def knock(scope: Scope) -> Knock:
    """Read the headers of a request."""
    token: str | None = None
    api_key: str | None = None
    patience: float | None = None
    directives: Mapping[str, str | None] = _NOTHING
    ours: dict[str, str] = {}
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        word = value.decode("latin-1")
        headers[name.decode("latin-1")] = word
        if name == b"authorization":
            scheme, _, rest = word.partition(" ")
            if scheme.lower() == "bearer":
                token = rest.strip() or None
        elif name == b"x-api-key":
            api_key = word.strip() or None
        elif name in WISHES:
            directives = {**directives_of(word), **directives}
        elif name.startswith(OURS):
            ours[name[len(OURS) :].decode("latin-1")] = word
        elif name in _PATIENCE:
            patience = _positive(word)
    client = scope.get("client")
    credentials = Credentials(
        token if token is not None else api_key, scope.get(ROUTE, ""), client[0] if client else "", headers
    )
    return Knock(credentials, directives, ours, patience)


def credentials_of(request: Request) -> Credentials:
    """What `request` shows at the door."""
    return knock(request.scope).credentials


def request_id_of(request: Request) -> str:
    """This request's id, the one in its `x-request-id`."""
    return str(request.scope.get(REQUEST_ID, ""))


def deadline_of(scope: Scope, clock: Clock, settings: Settings, patience_s: float | None = None) -> Deadline:
    """When the answer must be out: the setting, or sooner if the function (`aws.context`) or the client has less."""
    seconds = settings.deadline_s
    context = scope.get("aws.context")
    remaining: Callable[[], float] | None = getattr(context, "get_remaining_time_in_millis", None)
    if remaining is not None:
        seconds = min(seconds, remaining() / 1000 - settings.deadline_margin_s)
    if patience_s is not None:
        seconds = min(seconds, patience_s)
    return Deadline.after(clock, seconds)


def _positive(word: str) -> float | None:
    try:
        seconds = float(word)
    except ValueError:
        return None
    return seconds if 0 < seconds < 86_400 else None
