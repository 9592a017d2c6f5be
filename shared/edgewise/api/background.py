"""Answers that outlive their connection: kept responses, and answers made in the background.

A request with `background: true` (for chat: the header `x-edgewise-background: true`) is checked, written down and
queued before the first byte of its reply, so nothing is lost with the connection. Polling reads what is written down;
a stream follows the answer's log (`edgewise.jobs.answers.log`) while a worker writes it, and every event keeps its
number, so that a client may come back with `starting_after`. It does not know who makes the answer, and when.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from edgewise.api import responses, sse
from edgewise.api.desk import Identify, Page, listing
from edgewise.api.reply import reply
from edgewise.api.responses_tell import new as new_response
from edgewise.chat import ChatRequest
from edgewise.clock import Clock
from edgewise.errors import Conflict, InvalidRequest, NotFound
from edgewise.jobs.answers.kept import KEPT_S, Kept, Made, Shelf
from edgewise.jobs.answers.log import Event, Log, Taken, ends, number_of, opening, restarts, unread
from edgewise.jobs.ports import Queue
from edgewise.words import Plan, Principal

RESPONSES = "/v1/responses"
POLL_S = 0.5
LONGEST_STREAM_S = 600.0
UNFINISHED = {
    "type": "error",
    "code": "unfinished",
    "message": "The answer is still being made. Go on with the number of this event as `starting_after`.",
    "param": None,
}
GONE = {"type": "error", "code": "not_found", "message": "The answer was deleted or has expired.", "param": None}
"""How a stream ends that its answer outlives, or that outlives its answer; their number is the last that was sent."""

CheckUrl = Callable[[str], Any]
"""Awaited with a webhook's URL; raises for one that may not be called."""


@dataclass(slots=True)
class Desk:
    """What background work stands on; asked for when a request comes."""

    shelf: Shelf
    queue: Queue
    clock: Clock
    check_url: CheckUrl | None = None
    keepalive_s: float = 10.0


class Background:
    """Takes requests over, keeps responses, and answers for both. `desk` is asked when a request comes."""

    def __init__(self, desk: Callable[[], Desk], identify: Identify) -> None:
        self._desk = desk
        self._identify = identify

    def routes(self) -> list[Route]:
        """For mounting with and without `/v1`."""
        one, chat = "/responses/{answer_id}", "/chat/completions/{answer_id}"
        return [
            Route(one, self.get, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/input_items", self.input_items, methods=["GET"]),
            Route(chat, self.get, methods=["GET"]),
            Route(chat, self.delete, methods=["DELETE"]),
            Route(f"{chat}/cancel", self.cancel, methods=["POST"]),
        ]

    async def take_response(self, request: Request, body: dict[str, Any], asked: ChatRequest) -> Response:
        """`responses.TakeOver`."""
        desk = self._desk()
        wire = {**new_response(body, desk.clock, status="queued"), "background": True}
        given = body["input"]
        items = given if isinstance(given, list) else [{"type": "message", "role": "user", "content": given}]
        kept = await self._take(request, wire, body, asked, RESPONSES, items)
        if asked.stream:
            return self._stream(kept, -1)
        return reply(wire)

    async def take_chat(self, request: Request, asked: ChatRequest) -> Response:
        """The same for a chat request; the reply is a completion without choices, whose id is to be fetched."""
        desk = self._desk()
        if asked.stream:
            raise InvalidRequest("A background chat answer is polled for; it cannot be streamed.", param="stream")
        wire = {
            "id": desk.clock.token("chatcmpl-"),
            "object": "chat.completion",
            "created": int(desk.clock.now()),
            "model": asked.model,
            "choices": [],
            "status": "queued",
        }
        await self._take(request, wire, {}, asked, "/v1/chat/completions", [])
        return reply(wire, status=202)

    async def _take(
        self,
        request: Request,
        wire: dict[str, Any],
        body: Mapping[str, Any],
        asked: ChatRequest,
        url: str,
        items: list[dict[str, Any]],
    ) -> Kept:
        """Written down, then queued, then answered: in this order, so that no client waits for what nobody does."""
        desk = self._desk()
        caller: Principal = await self._identify(request)
        webhook = request.headers.get("x-edgewise-webhook")
        if webhook is not None:
            if desk.check_url is None:
                raise InvalidRequest("No webhooks are sent from here.", param="x-edgewise-webhook")
            await desk.check_url(webhook)
        now = int(desk.clock.now())
        kept = Kept(
            id=wire["id"],
            tenant=caller.tenant,
            key_id=caller.key_id,
            url=url,
            created_at=now,
            expires_at=now + KEPT_S,
            state="queued",
            background=True,
            stored=body.get("store") is not False,
            webhook=webhook,
            wire=wire,
            ask={"body": dict(body), "chat": chat_wire(asked), "stream": asked.stream},
            input=tuple({"id": f"item_{n}", **item} for n, item in enumerate(items)),
        )
        await desk.shelf.put(kept)
        await desk.queue.send({"kind": "response", "id": kept.id}, group=caller.tenant)
        return kept

    async def _own(self, request: Request) -> Kept:
        tenant = (await self._identify(request)).tenant
        return await self._find(tenant, request.path_params["answer_id"])

    async def _find(self, tenant: str, id: str) -> Kept:
        kept = await self._desk().shelf.get(id)
        if kept is None or kept.tenant != tenant:
            raise NotFound(f"No answer has the id '{id[:80]}'.", param="response_id")
        return kept

    async def get(self, request: Request) -> Response:
        kept = await self._own(request)
        if request.query_params.get("stream", "").lower() != "true":
            return reply(dict(kept.wire) | _state(kept))
        if not kept.background or kept.url != RESPONSES:
            raise InvalidRequest("Only a background response can be streamed again.", param="stream")
        after = request.query_params.get("starting_after", "-1")
        if not after.isascii() or not after.removeprefix("-").isdigit() or len(after) > 12:
            raise InvalidRequest("`starting_after` must be an integer.", param="starting_after")
        return self._stream(kept, int(after))

    async def delete(self, request: Request) -> Response:
        kept = await self._own(request)
        if not kept.ended:
            await self._stop(kept)
        await self._desk().shelf.delete(kept.id)
        return reply({"id": kept.id, "object": f"{kept.wire['object']}.deleted", "deleted": True})

    async def cancel(self, request: Request) -> Response:
        """Idempotent: what has ended stays as it ended, and is told again."""
        kept = await self._own(request)
        if not kept.background:
            raise Conflict("Only a background answer can be cancelled.")
        return reply(dict(kept.wire) if kept.ended else await self._stop(kept))

    async def _stop(self, kept: Kept) -> dict[str, Any]:
        """End an answer that is being made; what it ended as, whoever was first."""
        shelf, wire = self._desk().shelf, dict(kept.wire) | {"status": "cancelled"}
        if kept.url == RESPONSES:
            ended = await _closed(Log(shelf, kept), wire)
            if ended["status"] != "cancelled":
                # It is whole. Its worker is about to say so on the shelf, with all that belongs to it.
                return ended
        if await shelf.end(kept.id, Made("cancelled", wire)):
            return wire
        return dict((await self._find(kept.tenant, kept.id)).wire)

    async def input_items(self, request: Request) -> Response:
        kept = await self._own(request)
        page = Page.of(request.query_params, most=100, usual=20)
        items = [dict(item) for item in (kept.input if page.forward else reversed(kept.input))]
        start = next((n + 1 for n, item in enumerate(items) if item["id"] == page.after), 0)
        found = items[start : start + page.limit]
        return reply(listing(found, start + page.limit < len(items)))

    def _stream(self, kept: Kept, after: int) -> Response:
        return StreamingResponse(self._events(kept, after), media_type=sse.CONTENT_TYPE)

    async def _events(self, kept: Kept, sent: int) -> AsyncIterator[bytes]:
        """The log beyond event `sent` up to its end, or for as long as a stream may last. One that ends before that
        says so: a stream that is silently cut looks whole to its client."""
        desk = self._desk()
        begun = spoke_at = desk.clock.tick()
        read, log = -1, list[Event]()
        while desk.clock.tick() - begun < LONGEST_STREAM_S:
            log += await desk.shelf.told(kept.id, read)
            if log:
                read = number_of(log[-1])
            elif read < 0 and kept.ended:
                return
            whole = bool(log) and ends(log[-1])
            # Who reads that it is whole may go on with it at once: it has to be on the shelf by then.
            held = log[-1:] if whole and not await self._is_settled(kept.id) else []
            known = log[: len(log) - len(held)] if read >= 0 else opening(kept)[:1]
            for event in unread(known, sent):
                sent, spoke_at = number_of(event), desk.clock.tick()
                yield _encoded(event)
                if restarts(event):
                    return
            if whole and not held:
                return
            log = held
            await desk.clock.sleep(POLL_S)
            if desk.clock.tick() - spoke_at >= desk.keepalive_s:
                if await desk.shelf.get(kept.id) is None:
                    yield _encoded({**GONE, "sequence_number": sent})
                    return
                spoke_at = desk.clock.tick()
                yield b": keepalive\n\n"
        yield _encoded({**UNFINISHED, "sequence_number": sent})

    async def _is_settled(self, id: str) -> bool:
        kept = await self._desk().shelf.get(id)
        return kept is None or kept.ended

    async def keep(self, plan: Plan, kept: responses.Kept) -> None:
        """`responses.Store`: keep a response that was made with its client waiting."""
        desk = self._desk()
        now = int(desk.clock.now())
        await desk.shelf.put(
            Kept(
                id=kept.response["id"],
                tenant=plan.tenant,
                key_id=plan.principal.key_id,
                url=RESPONSES,
                created_at=now,
                expires_at=now + KEPT_S,
                wire=kept.response,
                input=tuple({"id": f"item_{n}", **item} for n, item in enumerate(kept.input)),
                messages=tuple(kept.messages),
            )
        )

    async def find(self, tenant: str, id: str) -> responses.Kept | None:
        """`responses.Store`: what a later request goes on with; only a whole answer can be gone on with."""
        kept = await self._desk().shelf.get(id)
        if kept is None or kept.tenant != tenant or not kept.messages:
            return None
        return responses.Kept(
            dict(kept.wire), [dict(item) for item in kept.input], [dict(message) for message in kept.messages]
        )


def _encoded(event: Event) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), orjson.dumps(event))


def chat_wire(asked: ChatRequest) -> dict[str, Any]:
    """A chat request as it is written down."""
    return {"body": dict(asked.body), "cache": asdict(asked.cache), "routing": dict(asked.routing)}


def _state(kept: Kept) -> dict[str, str]:
    return {} if kept.ended and not kept.background else {"status": kept.state}


async def _closed(log: Log, wire: Mapping[str, Any]) -> dict[str, Any]:
    """End the log with `wire`, unless it has ended; the response that it ends with."""
    while True:
        await log.read()
        if log.end is not None:
            return dict(log.end["response"])
        try:
            await log.write([{"type": "response.incomplete", "response": wire}])
        except Taken:
            continue
        return dict(wire)
