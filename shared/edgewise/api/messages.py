"""`/v1/messages`: Anthropic's dialect over the same corridor, for clients that speak it, and its counting of tokens.

The request is translated to chat, goes the way of every request (policy, cache, router, record), and the answer is
told back as a message, whole or as events. Errors have Anthropic's shape here, whoever raises them. Which model
answers has nothing to do with the dialect that it is asked in.
"""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgewise import flow
from edgewise.api import chat, messages_ask
from edgewise.api.door import REQUEST_ID, Knock, knock
from edgewise.api.edge import Edge
from edgewise.api.headers import of_served
from edgewise.api.messages_tell import Event, Telling, error_of, whole
from edgewise.api.problems import DIALECT, Dialect
from edgewise.api.reply import reply
from edgewise.api.stream import Events, Json
from edgewise.chat import ChatRequest, Chunk
from edgewise.errors import EdgewiseError
from edgewise.served import Served

MESSAGES = Dialect(error_of, b"request-id")


def routes(edge: Edge) -> list[Route]:
    """The create route and the counting one."""

    async def count(request: Request) -> Response:
        """How many tokens a request's prompt has, by the router's own estimate; nobody is asked."""
        from edgewise.routing.tokens import prompt_tokens

        request.scope[DIALECT] = MESSAGES
        shown = knock(request.scope)
        await edge.rooms.policy.identify(shown.credentials)
        body = await edge.read(request.scope, request.receive)
        messages_ask.check(body, ("model", "messages"))
        return reply({"input_tokens": prompt_tokens(ChatRequest(messages_ask.chat_body(body)))})

    return [
        Route("/messages", Create(edge), methods=["POST"]),
        Route("/messages/count_tokens", count, methods=["POST"]),
    ]


def chat_request(body: dict[str, object], shown: Knock) -> ChatRequest:
    """What a create request asks of chat. Raises `InvalidRequest`."""
    messages_ask.check(body)
    return chat.taken(messages_ask.chat_body(body), shown)


class Create:
    """The endpoint, as an ASGI app."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[DIALECT] = MESSAGES
        edge = self._edge
        shown = knock(scope)
        try:
            request = chat_request(await edge.read(scope, receive), shown)
        except EdgewiseError as error:
            raise await edge.turned_away(scope, shown, error) from error
        deadline = edge.deadline(scope, shown, stream=request.stream)
        serving = flow.serve(edge.rooms, shown.credentials, request, deadline, scope[REQUEST_ID])
        message_id = edge.rooms.clock.token("msg_")
        if request.stream:
            await Events(edge, serving, Writer(request.model, message_id, scope[REQUEST_ID]))(scope, receive, send)
            return
        served = await serving
        told = chat.told(served) if served.answer is None else whole(served.answer, message_id)
        await Json(told, of_served(served, edge.rooms.clock))(send)


class Writer:
    """Chunks as the events of a message."""

    def __init__(self, model: str, id: str, request_id: str) -> None:
        self._telling = Telling(id, model)
        self._request_id = request_id

    def begin(self, _: Served) -> bytes:
        return b""

    def write(self, chunk: Chunk) -> bytes:
        return encoded(self._telling.add(chunk))

    async def end(self, _: Served) -> bytes:
        return encoded(self._telling.end())

    def failed(self, error: EdgewiseError) -> bytes:
        return encoded([error_of(error, self._request_id)])


def encoded(events: list[Event]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events)
