"""The platform's side of Lambda's Runtime API, for one runtime process on loopback.

A runtime asks for `next` and is held until there is an invocation; what it posts is handed on piece by piece, so a
streamed answer flows while it is made. Both kinds of answer are understood: one whole body with a length, and a
chunked one whose trailers may tell of an error.

The rules are Lambda's: one invocation at a time; asking for `next` again ends the one before; an error can be
reported only before an answer has begun. It knows nothing of processes (`pool`) nor of function URLs (`front`).
It is written by hand over asyncio streams because the trailers, which HTTP libraries drop, are part of the protocol.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ROOT = "/2018-06-01/runtime"
ACCEPTED = b'{"status":"OK"}'
PIECE_BYTES = 65_536


class FunctionFailed(Exception):
    """The function did not answer: it reported an error, died or was killed. `kind` is Lambda's error type."""

    def __init__(self, kind: str, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = dict(detail or {})


@dataclass(slots=True)
class Call:
    """One invocation and its answer as far as it has come."""

    request_id: str
    event: bytes
    deadline_ms: int
    trace_id: str = ""
    function_arn: str = ""
    _begun: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _pieces: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    _failure: FunctionFailed | None = None
    _ended: bool = False

    async def streamed(self) -> bool:
        """Wait for the answer to begin: True when it comes as a stream. Raises FunctionFailed."""
        return await asyncio.shield(self._begun)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The answer's bytes as they arrive. Raises FunctionFailed where the function did."""
        while (piece := await self._pieces.get()) is not None:
            yield piece
        if self._failure is not None:
            raise self._failure

    async def whole(self) -> bytes:
        """All of the answer's bytes. Raises FunctionFailed."""
        await self.streamed()
        return b"".join([piece async for piece in self.pieces()])

    def begin(self, *, streamed: bool) -> None:
        if not self._begun.done():
            self._begun.set_result(streamed)

    def add(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)

    def end(self, failure: FunctionFailed | None = None) -> None:
        """No more comes; only the first end counts."""
        if self._ended:
            return
        self._ended = True
        if not self._begun.done():
            self._begun.set_exception(failure or FunctionFailed("Runtime.NoAnswer"))
            # Somebody may have stopped waiting.
            self._begun.exception()
        self._failure = failure
        self._pieces.put_nowait(None)


@dataclass(slots=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]


class RuntimeApi:
    """One process's Runtime API. Use `start`, then `ready`, then `invoke` as often as wanted, then `stop`."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._current: Call | None = None
        self._waiting: asyncio.Future[Call] | None = None
        self._idle = asyncio.Event()
        self._snapshot = asyncio.Event()
        self._restore = asyncio.Event()
        self._broken: FunctionFailed | None = None
        self._changed = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self.address = ""

    async def start(self) -> None:
        """Listen on a free loopback port; `address` is what the runtime finds in AWS_LAMBDA_RUNTIME_API."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"

    def stop(self) -> None:
        self.fail(FunctionFailed("Runtime.ExitError"))
        for connection in self._connections:
            connection.cancel()
        if self._server is not None:
            self._server.close()

    async def idle(self) -> None:
        """Wait until the runtime asks for work. Raises FunctionFailed when it will not (a failed start, an end)."""
        await self._until(self._idle)

    async def snapshot(self) -> None:
        """Wait until the runtime says that its snapshot may be taken. Raises FunctionFailed."""
        await self._until(self._snapshot)

    @property
    def restored(self) -> bool:
        return self._restore.is_set()

    def restore(self) -> None:
        """Let a runtime go on that waits for its restore."""
        self._restore.set()

    def invoke(self, call: Call) -> None:
        """Hand a call to the idle runtime."""
        assert self._waiting is not None and self._idle.is_set()
        self._idle.clear()
        self._current = call
        self._waiting.set_result(call)

    def fail(self, failure: FunctionFailed) -> None:
        """The runtime is gone: whatever waits on it is told."""
        self._broken = self._broken or failure
        self._changed.set()
        if self._current is not None:
            self._current.end(failure)
            self._current = None

    async def _until(self, event: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._changed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._broken is not None:
            raise self._broken

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connected(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_request(reader)) is not None:
                await self._route(request, reader, writer)
                if request.headers.get("connection", "").lower() == "close":
                    break
        except (OSError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _route(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match request.method, request.path.removeprefix(ROOT).strip("/").split("/"):
            case "GET", ["invocation", "next"]:
                await self._next(writer)
            case "POST", ["invocation", request_id, "response"]:
                await self._response(request, request_id, reader, writer)
            case "POST", ["invocation", request_id, "error"]:
                await self._error(request, request_id, reader, writer)
            case "POST", ["init" | "restore", "error"]:
                self.fail(_failure(request, await _read_body(request, reader)))
                _answer(writer, 202, ACCEPTED)
            case "GET", ["restore", "next"]:
                self._snapshot.set()
                await self._restore.wait()
                _answer(writer, 200, b"")
            case _:
                _answer(writer, 404, b"{}")
        await writer.drain()

    async def _next(self, writer: asyncio.StreamWriter) -> None:
        if self._current is not None:
            self._current.end(FunctionFailed("Runtime.NoAnswer"))
            self._current = None
        self._waiting = asyncio.get_running_loop().create_future()
        self._idle.set()
        call = await self._waiting
        _answer(
            writer,
            200,
            call.event,
            {
                "Lambda-Runtime-Aws-Request-Id": call.request_id,
                "Lambda-Runtime-Deadline-Ms": str(call.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": call.function_arn,
                "Lambda-Runtime-Trace-Id": call.trace_id,
            },
        )

    async def _response(
        self, request: _Request, request_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        call = self._current
        if call is None or call.request_id != request_id:
            await _read_body(request, reader)
            _answer(writer, 400, b'{"errorType":"InvalidRequestID"}')
            return
        call.begin(streamed=request.headers.get("lambda-runtime-function-response-mode") == "streaming")
        trailers: dict[str, str] = {}
        try:
            async for piece in _body(request, reader, trailers):
                call.add(piece)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            call.end(FunctionFailed("Runtime.TruncatedResponse"))
            raise
        call.end(_trailed(trailers))
        _answer(writer, 202, ACCEPTED)

    async def _error(
        self, request: _Request, request_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        body = await _read_body(request, reader)
        call = self._current
        if call is None or call.request_id != request_id or call._begun.done():
            _answer(writer, 400, b'{"errorType":"InvalidStateTransition"}')
            return
        call.end(_failure(request, body))
        _answer(writer, 202, ACCEPTED)


def _answer(writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    writer.write("\r\n".join(lines).encode("latin-1") + body)


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    """The next request's head; None when the connection ends between two."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = lines[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    return _Request(method, path, headers)


async def _read_body(request: _Request, reader: asyncio.StreamReader) -> bytes:
    return b"".join([piece async for piece in _body(request, reader, {})])


async def _body(request: _Request, reader: asyncio.StreamReader, trailers: dict[str, str]) -> AsyncIterator[bytes]:
    """The body's pieces as they arrive; `trailers` is filled when the last has."""
    if request.headers.get("transfer-encoding", "").lower() != "chunked":
        left = int(request.headers.get("content-length", "0"))
        while left > 0:
            piece = await reader.read(min(left, PIECE_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece
        return
    while size := int((await reader.readuntil(b"\r\n")).split(b";", 1)[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    while (line := (await reader.readuntil(b"\r\n")).decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        trailers[name.lower()] = value.strip()


def _failure(request: _Request, body: bytes) -> FunctionFailed:
    try:
        detail = json.loads(body)
    except ValueError:
        detail = {}
    kind = request.headers.get("lambda-runtime-function-error-type", "Unhandled")
    return FunctionFailed(kind, detail if isinstance(detail, dict) else {})


def _trailed(trailers: Mapping[str, str]) -> FunctionFailed | None:
    kind = trailers.get("lambda-runtime-function-error-type")
    if kind is None:
        return None
    try:
        detail = json.loads(base64.b64decode(trailers.get("lambda-runtime-function-error-body", "")))
    except (ValueError, binascii.Error):
        detail = {}
    return FunctionFailed(kind, detail)
