"""`/v1/responses`: the newer dialect over the same corridor.

The request is translated to chat, goes the way of every request (policy, cache, router, record), and the answer is
told back as a `response`, whole or as events. What a conversation needs later is kept through the store that was
handed in; without one, `previous_response_id` finds nothing. Background work is somebody else's: a function that
was handed in takes such a request over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgewise import flow
from edgewise.api import chat, responses_ask
from edgewise.api.door import REQUEST_ID, Knock, knock
from edgewise.api.edge import Edge
from edgewise.api.headers import of_served
from edgewise.api.responses_ask import Message, chat_body, messages_of
from edgewise.api.responses_tell import Event, Telling
from edgewise.api.responses_tell import whole as whole_response
from edgewise.api.sse import padding
from edgewise.api.stream import Events, Json
from edgewise.chat import ChatRequest, Chunk
from edgewise.errors import EdgewiseError, InvalidRequest, NotFound
from edgewise.served import Served
from edgewise.words import Plan


@dataclass(frozen=True, slots=True)
class Kept:
    """One response as it is kept: the object, the input that led to it, and the conversation up to its end."""

    response: dict[str, Any]
    input: list[dict[str, Any]]
    messages: list[Message]


class Store(Protocol):
    """Where responses are kept, each under its tenant."""

    async def keep(self, plan: Plan, kept: Kept) -> None: ...
    async def find(self, tenant: str, id: str) -> Kept | None:
        """None: there is none of this tenant, or it has expired."""
        ...


TakeOver = Callable[[Request, dict[str, Any], ChatRequest], Awaitable[Response]]
"""Takes a checked create request with `background: true` over: the HTTP request, its body, and what it asks of chat."""


def routes(edge: Edge, *, store: Store | None = None, background: TakeOver | None = None) -> list[Route]:
    """The create route; the routes of kept responses come with what keeps them."""
    return [Route("/responses", Create(edge, store, background), methods=["POST"])]


def chat_request(body: dict[str, Any], shown: Knock, before: list[Message]) -> ChatRequest:
    """What a checked create request asks of chat."""
    return chat.parse(chat_body(body, before), shown)


class Create:
    """The endpoint, as an ASGI app."""

    def __init__(self, edge: Edge, store: Store | None, background: TakeOver | None) -> None:
        self._edge = edge
        self._store = store
        self._background = background

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        edge = self._edge
        shown = knock(scope)
        try:
            body = await edge.read(scope, receive)
            responses_ask.check(body)
            before = await self._before(body.get("previous_response_id"), shown)
            request = chat_request(body, shown, before)
            if body.get("background") is True and self._background is None:
                raise InvalidRequest("Background responses are not available here.", param="background")
        except EdgewiseError as error:
            raise await edge.turned_away(scope, shown, error) from error
        if body.get("background") is True and self._background is not None:
            answer = await self._background(Request(scope, receive), body, request)
            await answer(scope, receive, send)
            return
        serving = flow.serve(
            edge.rooms,
            shown.credentials,
            request,
            edge.deadline(scope, shown, stream=request.stream),
            scope[REQUEST_ID],
        )
        if request.stream:
            await Events(edge, serving, Writer(self, body, request))(scope, receive, send)
            return
        served = await serving
        if served.answer is None:
            await Json(chat.told(served), of_served(served, edge.rooms.clock))(send)
            return
        response = whole_response(body, served.answer, edge.rooms.clock)
        await self.keep(served, body, request, response)
        await Json(response, of_served(served, edge.rooms.clock))(send)

    async def _before(self, previous: str | None, shown: Knock) -> list[Message]:
        """The conversation that a request goes on with."""
        if previous is None:
            return []
        principal = await self._edge.rooms.policy.identify(shown.credentials)
        kept = await self._store.find(principal.tenant, previous) if self._store is not None else None
        if kept is None:
            raise NotFound(f"No response has the id '{previous[:80]}'.", param="previous_response_id")
        # The instructions of an earlier response are not carried over: the description says so.
        return kept.messages

    async def keep(self, served: Served, body: dict[str, Any], request: ChatRequest, response: dict[str, Any]) -> None:
        """Keep the response unless its client said not to. A client may go on with it as soon as it has the id, so
        this comes before the end is told."""
        if self._store is None or body.get("store") is False or served.plan is None:
            return
        await self._store.keep(served.plan, kept_of(body, request, response))

    @property
    def edge(self) -> Edge:
        return self._edge


def kept_of(body: dict[str, Any], request: ChatRequest, response: dict[str, Any]) -> Kept:
    """What is kept of a finished response."""
    given = body["input"]
    listed = given if isinstance(given, list) else [{"type": "message", "role": "user", "content": given}]
    conversation = list(request.messages)
    if body.get("instructions"):
        conversation = conversation[1:]
    return Kept(response, listed, [*conversation, *(messages_of(response["output"]) if response["output"] else [])])


class Writer:
    """Chunks as the events of a response."""

    def __init__(self, create: Create, body: dict[str, Any], request: ChatRequest) -> None:
        self._create = create
        self._body = body
        self._request = request
        clock = create.edge.rooms.clock
        self._telling = Telling(body, clock)
        self._obfuscate = padding(clock.uniform) if request.obfuscate else None

    def begin(self, _: Served) -> bytes:
        return self._encoded(self._telling.begin())

    def write(self, chunk: Chunk) -> bytes:
        return self._encoded(self._telling.add(chunk))

    async def end(self, served: Served) -> bytes:
        events = self._telling.end()
        await self._create.keep(served, self._body, self._request, self._telling.response)
        return self._encoded(events)

    def failed(self, error: EdgewiseError) -> bytes:
        return self._encoded(self._telling.failed(error))

    def _encoded(self, events: list[Event]) -> bytes:
        if self._obfuscate is not None:
            events = [
                {**event, "obfuscation": self._obfuscate()} if event["type"].endswith(".delta") else event
                for event in events
            ]
        return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events)
