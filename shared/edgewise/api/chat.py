"""`/v1/chat/completions`: a body becomes a `ChatRequest`, and what the corridor brings becomes JSON or events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edgewise import flow
from edgewise.api import fields
from edgewise.api.controls import cache_ask, routing_ask
from edgewise.api.door import REQUEST_ID, Knock, knock
from edgewise.api.edge import Edge
from edgewise.api.headers import of_served
from edgewise.api.sse import Grammar, padding
from edgewise.api.stream import Events, Json
from edgewise.chat import Answer, ChatRequest, Chunk
from edgewise.errors import EdgewiseError, InvalidRequest
from edgewise.served import Served

_REQUIRED = ("model", "messages")


def parse(body: dict[str, Any], shown: Knock) -> ChatRequest:
    """The request in `body`, which is used up: the fields that say how to deliver, or what to ask of the gateway,
    are taken out, and the rest is forwarded. Raises `InvalidRequest` with `param` as a JSON path."""
    fields.check(body, fields.CHAT, _REQUIRED)
    return taken(body, shown)


def taken(body: dict[str, Any], shown: Knock) -> ChatRequest:
    """The request in a body that is checked; see `parse`."""
    stream = body.pop("stream", None) is True
    options = body.pop("stream_options", None) or {}
    # Null says what leaving the field out says: several clients write out every option that was not set.
    for name in [name for name, value in body.items() if value is None and name in fields.CHAT]:
        del body[name]
    return ChatRequest(
        body,
        stream=stream,
        include_usage=stream and options.get("include_usage") is True,
        obfuscate=stream and options.get("include_obfuscation") is True,
        cache=cache_ask(body.pop("cache", None), shown.directives, shown.ours),
        routing=routing_ask(body.pop("routing", None), shown.ours),
    )


TakeOver = Callable[[Request, ChatRequest], Awaitable[Response]]
"""Takes a request over that asked for the background by `x-edgewise-background: true`."""


class Chat:
    """The endpoint, as an ASGI app.

    A stream ends when its client hangs up. A whole answer is made to its end even so: it is paid for by then, and the
    same client asks again, which the cache can answer.
    """

    def __init__(self, edge: Edge, background: TakeOver | None = None) -> None:
        self._edge = edge
        self._background = background

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        edge = self._edge
        shown = knock(scope)
        try:
            request = parse(await edge.read(scope, receive), shown)
            behind = shown.ours.get("background") == "true"
            if behind and self._background is None:
                raise InvalidRequest("Background answers are not available here.", param="x-edgewise-background")
        except EdgewiseError as error:
            raise await edge.turned_away(scope, shown, error) from error
        if behind and self._background is not None:
            await (await self._background(Request(scope, receive), request))(scope, receive, send)
            return
        deadline = edge.deadline(scope, shown, stream=request.stream)
        serving = flow.serve(edge.rooms, shown.credentials, request, deadline, scope[REQUEST_ID])
        if request.stream:
            await Events(edge, serving, ChatWriter(edge, request))(scope, receive, send)
        else:
            served = await serving
            await Json(told(served), of_served(served, edge.rooms.clock))(send)


class ChatWriter:
    """Chunks as the events of a chat stream."""

    def __init__(self, edge: Edge, request: ChatRequest) -> None:
        self._grammar = Grammar(
            include_usage=request.include_usage,
            obfuscate=padding(edge.rooms.clock.uniform) if request.obfuscate else None,
        )

    def begin(self, _: Served) -> bytes:
        return b""

    def write(self, chunk: Chunk) -> bytes:
        return self._grammar.events(chunk)

    async def end(self, _: Served) -> bytes:
        return self._grammar.end()

    def failed(self, error: EdgewiseError) -> bytes:
        return self._grammar.failed(error)


def told(served: Served) -> dict[str, Any]:
    """The JSON of one served request: a `chat.completion`, or for a dry run the choice that would be made."""
    if served.answer is not None:
        return whole(served.answer)
    from edgewise.api.explained import plan_of

    assert served.choice is not None
    return plan_of(served.choice)


def whole(answer: Answer) -> dict[str, Any]:
    """The answer with every key that the specification requires; the answer itself, shared with the cache, stays."""
    completion = answer.completion
    return {
        **completion,
        "object": "chat.completion",
        "choices": [
            choice
            if "logprobs" in choice and "refusal" in choice["message"] and "content" in choice["message"]
            else {
                "logprobs": None,
                **choice,
                "message": {"role": "assistant", "content": None, "refusal": None, **choice["message"]},
            }
            for choice in completion.get("choices", ())
        ],
    }
