"""The client side of Lambda's Runtime API: ask for the next invocation, answer it while the answer is made.

The API is plain HTTP on loopback. `GET …/invocation/next` blocks until there is an event. A streamed answer is one
`POST …/response` with `Lambda-Runtime-Function-Response-Mode: streaming` and a chunked body:

    JSON prelude {"statusCode", "headers", "cookies"} · 8 NUL bytes · the payload

sent on a connection that is closed afterwards. A failure before that POST goes to `…/error`; a failure after it can
only be told in the trailers, and Lambda counts such an invocation as a success.

Standard library only and no `http.client`: this is imported by every cold start, and asyncio is there already.
It knows nothing of ASGI (`edgewise.runtime` does). Source: docs.aws.amazon.com/lambda, "Building a custom runtime"
and "Response streaming for custom runtimes".
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROOT = "/2018-06-01/runtime"
PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"
SEPARATOR = b"\0" * 8
END = b"0\r\n"


class RuntimeApiError(Exception):
    """The Runtime API refused a call or went away; the environment can't go on."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event to answer. `deadline_ms` is when the platform kills it, milliseconds since the epoch."""

    request_id: str
    event: bytes
    deadline_ms: int
    trace_id: str | None = None
    function_arn: str = ""


@dataclass(frozen=True, slots=True)
class _Answered:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Invocations:
    """The Runtime API at `address` (host:port). Every call opens a connection of its own, so several may wait."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host or address, int(port) if host else 80
        self._address = address

    async def next(self) -> Invocation:
        """The next invocation, however long it takes to come. Raises RuntimeApiError."""
        got = await self._call("GET", "/invocation/next")
        if got.status != 200:
            raise RuntimeApiError(f"next answered {got.status}")
        return Invocation(
            request_id=got.headers["lambda-runtime-aws-request-id"],
            event=got.body,
            deadline_ms=int(got.headers["lambda-runtime-deadline-ms"]),
            trace_id=got.headers.get("lambda-runtime-trace-id"),
            function_arn=got.headers.get("lambda-runtime-invoked-function-arn", ""),
        )

    async def reply(self, request_id: str, prelude: Mapping[str, Any], payload: bytes, *, last: bool) -> Reply:
        """Begin a streamed answer whose first bytes are `payload`; with `last` they are all. Raises RuntimeApiError."""
        reader, writer = await self._connect()
        reply = Reply(reader, writer)
        head = (
            f"POST {ROOT}/invocation/{request_id}/response HTTP/1.1\r\nHost: {self._address}\r\n"
            f"Content-Type: {PRELUDE_TYPE}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"
            "Transfer-Encoding: chunked\r\n"
            "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n"
            "Connection: close\r\n\r\n"
        )
        start = json.dumps(prelude, separators=(",", ":")).encode() + SEPARATOR + payload
        if last:
            await reply.close(head.encode("latin-1") + chunk(start) + END)
        else:
            await reply.push(head.encode("latin-1") + chunk(start))
        return reply

    async def fail(self, request_id: str, error: BaseException) -> None:
        """Report that an invocation failed before any of its answer was sent."""
        await self._report(f"/invocation/{request_id}/error", error)

    async def fail_init(self, error: BaseException) -> None:
        """Report that the function could not be loaded."""
        await self._report("/init/error", error)

    async def restored(self) -> None:
        """Tell the platform that this environment is ready for its snapshot; returns in a restored copy of it."""
        got = await self._call("GET", "/restore/next")
        if got.status != 200:
            raise RuntimeApiError(f"restore/next answered {got.status}")

    async def fail_restore(self, error: BaseException) -> None:
        """Report that a hook failed after the restore."""
        await self._report("/restore/error", error)

    async def _report(self, path: str, error: BaseException) -> None:
        headers = {"Content-Type": "application/json", "Lambda-Runtime-Function-Error-Type": kind_of(error)}
        await self._call("POST", path, headers, json.dumps(error_body(error)).encode())

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            raise RuntimeApiError(f"no Runtime API at {self._address}") from error

    async def _call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> _Answered:
        reader, writer = await self._connect()
        try:
            fields = {
                "Host": self._address,
                "Connection": "close",
                **({"Content-Length": str(len(body))} if method == "POST" else {}),
                **(headers or {}),
            }
            lines = [f"{method} {ROOT}{path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
            writer.write("\r\n".join(lines).encode("latin-1") + body)
            await writer.drain()
            return await _read_answer(reader)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            raise RuntimeApiError(f"{method} {path} broke off") from error
        finally:
            writer.close()


class Reply:
    """A streamed answer under way. The platform forwards each `write` as soon as it arrives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def push(self, data: bytes) -> None:
        """Send bytes that are framed already."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise RuntimeApiError("the answer's connection broke off") from error

    async def write(self, payload: bytes, *, last: bool = False) -> None:
        """Send a piece of the payload; with `last` also the end, in the same packet."""
        data = chunk(payload) if payload else b""
        if last:
            await self.close(data + END)
        elif data:
            await self.push(data)

    async def abort(self, error: BaseException) -> None:
        """End with an error in the trailers: the payload so far is not the whole answer."""
        body = base64.b64encode(json.dumps(error_body(error)).encode()).decode()
        trailers = (
            f"Lambda-Runtime-Function-Error-Type: {kind_of(error)}\r\nLambda-Runtime-Function-Error-Body: {body}\r\n"
        )
        await self.close(END + trailers.encode("latin-1"))

    async def close(self, data: bytes) -> None:
        """Send the last framed bytes, trailers included, and wait until the platform has taken the whole."""
        await self.push(data + b"\r\n")
        try:
            answered = await _read_answer(self._reader)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            raise RuntimeApiError("the answer was not taken") from error
        finally:
            self._writer.close()
        if answered.status != 202:
            raise RuntimeApiError(f"the answer was refused with {answered.status}")


def chunk(payload: bytes) -> bytes:
    """`payload` as one chunk of HTTP's chunked coding; never empty, for an empty chunk is the end."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def kind_of(error: BaseException) -> str:
    """What Lambda calls an error's type."""
    return f"Runtime.{type(error).__name__}"


def error_body(error: BaseException) -> dict[str, Any]:
    """Lambda's error object."""
    import traceback

    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


async def _read_answer(reader: asyncio.StreamReader) -> _Answered:
    """One HTTP/1.1 response, its body by length, in chunks, or to the end of the connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _Answered(status, headers, await _read_chunks(reader))
    if "content-length" in headers:
        return _Answered(status, headers, await reader.readexactly(int(headers["content-length"])))
    return _Answered(status, headers, await reader.read())


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int((await reader.readline()).split(b";", 1)[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    return b"".join(pieces)
