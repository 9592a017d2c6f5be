"""A provider on loopback that misbehaves on demand: OpenAI's, Anthropic's and Bedrock's wire, byte by byte.

    async with Upstream() as upstream:                # or the `upstream` fixture; `threaded()` for blocking tests
        upstream.behave(Manner(status=429, headers={"retry-after": "1"}), Manner(cut="mid-chunk"))
        ... call upstream.base_url (OpenAI, with /v1) or upstream.root (Anthropic) ...
        assert upstream.calls == 2

Each request takes the next `Manner` of the queue, then `upstream.default`. Without any it echoes the last user turn
with exact usage: one prompt token a word of the messages, one completion token a piece of the answer. `/models` and
`/embeddings` answer too. It is raw asyncio, because an HTTP library would repair what must arrive broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from tests import upstream_converse as converse
from tests import upstream_wire as wire

Cut = Literal["before-headers", "after-headers", "mid-chunk", "after-content", "before-finish", "before-usage"]
CUTS: tuple[Cut, ...] = (
    "before-headers",
    "after-headers",
    "mid-chunk",
    "after-content",
    "before-finish",
    "before-usage",
)


@dataclass(frozen=True, slots=True)
class Manner:
    """How one request is answered. Times in seconds of the real clock: prefer `gate` to waiting."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent as it is instead of an answer (bad JSON, an error object of another shape)."""
    text: str | None = None
    """None: the last user turn."""
    tool: tuple[str, str] | None = None
    """Name and JSON arguments of a tool call to answer with."""
    finish: str | None = None
    """OpenAI's finish reason, or Anthropic's stop reason; None: the natural one."""
    usage: Mapping[str, Any] | None = None
    """Laid over the counted usage."""
    tier: str | None = None
    """The service tier that OpenAI's answers say they were served in."""
    cut: Cut | None = None
    """Where the answer breaks off. Of a whole JSON answer: before headers, after them, or half-way."""
    drop: Literal["end", "close", "reset"] = "close"
    """How: a proper end of a stream's HTTP body (the silent truncation), a closed socket, or a TCP reset."""
    delay_s: float = 0.0
    between_s: float = 0.0
    gate: asyncio.Event | None = None
    """Waited for at `gate_at`: before the headers, or before the second piece of content."""
    gate_at: Literal["headers", "content"] = "headers"
    write_bytes: int | None = None
    """Each event is written in pieces of this many bytes, which splits UTF-8."""
    newline: bytes = b"\n"
    comments: bool = False
    filler_bytes: int = 0
    """The first content event carries this many bytes of padding in one line."""
    with_usage: bool = True
    with_done: bool = True
    in_band_error: Mapping[str, Any] | None = None
    """Sent as an event after the first piece of content; then the stream ends properly."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None


class Upstream:
    """The server. `requests` is everything that came, in order; `hangups` counts clients that left early."""

    def __init__(self, default: Manner | None = None) -> None:
        self.default = default or Manner()
        self.requests: list[Seen] = []
        self.hangups = 0
        self.connections = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.left = asyncio.Event()
        """Set at the first hang-up."""
        self.came = asyncio.Event()
        """Set when a request has come; a test that waits for another one clears it first."""
        self._queue: deque[Manner] = deque()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def calls(self) -> int:
        return len(self.requests)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        return self.root + "/v1"

    def behave(self, *manners: Manner) -> None:
        """The next requests are answered like this, one each."""
        self._queue.extend(manners)

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 26)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                early: bytes | None = b""
                while early is not None:
                    early = await self._one(reader, writer, early)
        finally:
            self._open.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, early: bytes) -> bytes | None:
        """Answer one request, of which `early` has been read. The next one's, or None when the connection is spent."""
        head = (early + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines) if k}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(seen := Seen(method, target.partition("?")[0], headers, raw))
        self.came.set()
        manner = self._queue.popleft() if self._queue else self.default
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        answering = asyncio.create_task(_Reply(seen, manner, writer).send())
        watching = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not watching.result():
                self.hangups += 1
                self.left.set()
                return None
            goes_on = await answering
            watching.cancel()
            await asyncio.wait({watching})
            early = b"" if watching.cancelled() else watching.result()
            return early if goes_on else None
        finally:
            answering.cancel()
            watching.cancel()
            self.in_flight -= 1


class _Reply:
    """One answer on its way out."""

    def __init__(self, seen: Seen, manner: Manner, writer: asyncio.StreamWriter) -> None:
        self.seen, self.manner, self.writer = seen, manner, writer

    async def send(self) -> bool:
        manner, seen = self.manner, self.seen
        if manner.delay_s:
            await asyncio.sleep(manner.delay_s)
        if manner.gate is not None and manner.gate_at == "headers":
            await manner.gate.wait()
        if manner.cut == "before-headers":
            return self._break()
        if manner.body is not None or manner.status != 200:
            body, headers = wire.error(seen.path, manner.status)
            return await self._whole(manner.body if manner.body is not None else body, headers)
        if seen.path.endswith(("/chat/completions", "/messages", "/converse", "/converse-stream")):
            answer = wire.Spoken.of(seen.path, seen.body, manner)
            if answer.streams or seen.path.endswith("-stream"):
                return await self._events(answer)
            return await self._whole(json.dumps(answer.whole(), ensure_ascii=False).encode())
        return await self._whole(json.dumps(wire.other(seen.path, seen.body)).encode())

    async def _whole(self, body: bytes, more: Mapping[str, str] | None = None) -> bool:
        manner = self.manner
        headers = {"content-type": "application/json", "x-request-id": "req_upstream", **(more or {})}
        self._head(manner.status, {**headers, **manner.headers, "content-length": str(len(body))})
        if manner.cut == "after-headers":
            return self._break()
        if manner.cut is not None:
            self.writer.write(body[: len(body) // 2])
            return self._break()
        self.writer.write(body)
        await self.writer.drain()
        return True

    async def _events(self, answer: wire.Spoken) -> bool:
        manner = self.manner
        kind = converse.CONTENT_TYPE if answer.wire == "converse" else "text/event-stream; charset=utf-8"
        self._head(200, {"content-type": kind, "transfer-encoding": "chunked", **manner.headers})
        await self.writer.drain()
        if manner.cut == "after-headers":
            return self._break(streamed=True)
        contents = 0
        for label, event in answer.events():
            contents += label == "content"
            second = (label == "content" and contents == 2) or (label == "before-finish" and contents < 2)
            if manner.cut is not None and manner.cut == ("after-content" if second else label):
                return self._break(streamed=True)
            if second and manner.gate is not None and manner.gate_at == "content":
                await manner.gate.wait()
            if second and manner.cut == "mid-chunk":
                self._chunk(event[: len(event) // 2])
                return self._break(streamed=True)
            step = manner.write_bytes or len(event)
            for start in range(0, len(event), step):
                self._chunk(event[start : start + step])
                if manner.write_bytes:
                    await self.writer.drain()
                    await asyncio.sleep(0)
            await self.writer.drain()
            if manner.between_s:
                await asyncio.sleep(manner.between_s)
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()
        return True

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        self.writer.write("\r\n".join(lines).encode("latin-1"))

    def _chunk(self, piece: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def _break(self, *, streamed: bool = False) -> bool:
        if self.manner.drop == "end" and streamed:
            self.writer.write(b"0\r\n\r\n")
            return True
        if self.manner.drop == "reset":
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        return False


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A chaos upstream in the test's own loop."""
    async with Upstream() as server:
        yield server


@contextlib.contextmanager
def threaded(default: Manner | None = None) -> Iterator[Upstream]:
    """The same server in a thread of its own, for tests that block or start processes."""
    ready: threading.Event = threading.Event()
    made: list[Upstream] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        async with Upstream(default) as server:
            made.append(server)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
