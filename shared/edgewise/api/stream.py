"""Responses as they go out: JSON whole, or events while the model speaks.

A stream's status is decided as late as its client can bear: until the corridor has its first chunk, an error still
has its own HTTP status. When that takes longer than the keep-alive interval, the stream begins with a comment, and
what goes wrong from then on is told in-band. A client that hangs up stops its stream, which lets the corridor settle
what was used and stop paying.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

import orjson
from starlette.types import Receive, Scope, Send

from edgewise.api import problems, sse
from edgewise.api.edge import Edge
from edgewise.api.headers import of_served
from edgewise.chat import Chunk
from edgewise.errors import EdgewiseError
from edgewise.served import Served
from edgewise.words import Hit

_EVENT_HEADERS = [
    (b"content-type", sse.CONTENT_TYPE.encode()),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Json:
    """One JSON body."""

    __slots__ = ("_content", "_headers", "_status")

    def __init__(self, content: Any, headers: Mapping[str, str], status: int = 200) -> None:
        self._content = orjson.dumps(content, default=str)
        self._headers = headers
        self._status = status

    async def __call__(self, send: Send) -> None:
        headers = _raw(self._headers)
        headers += [
            (b"content-length", b"%d" % len(self._content)),
            (b"content-type", b"application/json"),
        ]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._content})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]


class Writer(Protocol):
    """Chunks as bytes of one dialect of events."""

    def begin(self, served: Served, /) -> bytes: ...
    def write(self, chunk: Chunk) -> bytes: ...
    async def end(self, served: Served, /) -> bytes:
        """What follows the last chunk of a whole stream; whatever must be so when the client reads it is done."""
        ...

    def failed(self, error: EdgewiseError) -> bytes: ...


class Events:
    """A stream of events from a request that is on its way through the corridor."""

    def __init__(self, edge: Edge, serving: Coroutine[Any, Any, Served], writer: Writer) -> None:
        self._edge = edge
        self._serving = serving
        self._writer = writer
        self._turn = asyncio.Lock()
        self._started = False
        self._gone = False
        self._ending = False
        self._clock = edge.rooms.clock
        self._sent_at = self._clock.tick()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        me = asyncio.current_task()
        assert me is not None
        loop = asyncio.get_running_loop()
        aside = [loop.create_task(self._pulse(send)), loop.create_task(self._watch(receive, me))]
        try:
            await self._run(scope, send)
        except asyncio.CancelledError:
            if not self._gone:
                raise
            me.uncancel()
        finally:
            for task in aside:
                task.cancel()

    async def _run(self, scope: Scope, send: Send) -> None:
        served: Served | None = None
        try:
            served = await self._serving
            if served.chunks is None:
                await self._whole(served, send)
                return
            writer = self._writer
            first = writer.begin(served)
            if isinstance(served.verdict, Hit):
                # Everything is here already: one write instead of one a chunk.
                pieces = [first, *[writer.write(chunk) async for chunk in served.chunks]]
                await self._start(send, served)
                await self._send(send, b"".join([*pieces, await writer.end(served)]))
            else:
                await self._start(send, served)
                if first:
                    await self._send(send, first)
                async for chunk in served.chunks:
                    if piece := writer.write(chunk):
                        await self._send(send, piece)
                await self._send(send, await writer.end(served))
        except Exception as error:  # after the first byte the edge's catch-all is here, not in the frame
            if not self._started:
                raise
            told = problems.known(error)
            if told is not error:
                self._edge.crashed(error, scope)
            await self._send(send, self._writer.failed(told))
        finally:
            if served is not None and served.chunks is not None:
                await served.chunks.aclose()  # type: ignore[attr-defined]
        await self._finish(send)

    async def _finish(self, send: Send) -> None:
        # A server says that its client has gone as soon as the answer is out, maybe while the last send still waits.
        self._ending = True
        async with self._turn:
            await send({"type": "http.response.body", "body": b""})

    async def _whole(self, served: Served, send: Send) -> None:
        """A dry run has no stream: its answer is JSON, unless a comment has already gone out."""
        from edgewise.api.explained import plan_of

        assert served.choice is not None
        plan = plan_of(served.choice)
        if self._started:
            await self._send(send, sse.event(orjson.dumps(plan, default=str)) + sse.DONE)
            await self._finish(send)
            return
        self._started = self._ending = True
        await Json(plan, of_served(served, self._clock))(send)

    async def _start(self, send: Send, served: Served | None) -> None:
        if self._started:
            return
        self._started = True
        told = of_served(served, self._clock) if served is not None else {}
        await send({"type": "http.response.start", "status": 200, "headers": [*_EVENT_HEADERS, *_raw(told)]})

    async def _send(self, send: Send, piece: bytes) -> None:
        async with self._turn:
            self._sent_at = self._clock.tick()
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _pulse(self, send: Send) -> None:
        """A comment whenever nothing has gone out for as long as the interval."""
        clock, interval = self._clock, self._edge.settings.keepalive_s
        wait = interval
        while True:
            await clock.sleep(wait)
            wait = interval - (clock.tick() - self._sent_at)
            if wait > 0.001:
                continue
            wait = interval
            async with self._turn:
                self._sent_at = clock.tick()
                await self._start(send, None)
                await send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})

    async def _watch(self, receive: Receive, me: asyncio.Task[Any]) -> None:
        """Stop the stream when its client has gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self._ending:
            self._gone = True
            me.cancel()
