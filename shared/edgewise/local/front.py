"""A function URL on loopback: HTTP in, a payload-2.0 event to the function, its answer out as it is made.

A streamed answer begins with Lambda's prelude (JSON, 8 NUL bytes); the status and headers are taken from it and
every later piece is written at once. A whole answer is the JSON object that handlers return. What a client sees when
things go wrong is what a function URL shows: 413 above the request limit, 429 when every environment is busy, 502
when the function failed, and a connection that breaks off when it failed in mid-stream.

Source: docs.aws.amazon.com/lambda, "Invoking Lambda function URLs" (request and response payload format).
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDict

from edgewise.clock import Clock
from edgewise.local.pool import Pool, Throttled
from edgewise.local.runtime_api import Call, FunctionFailed

MAX_EVENT_BYTES = 6 * 1024 * 1024
MAX_WHOLE_ANSWER_BYTES = 6 * 1024 * 1024
MAX_STREAMED_BYTES = 200 * 1024 * 1024
SEPARATOR = b"\0" * 8
TEXTUAL = (
    "text/",
    "application/json",
    "application/xml",
    "application/javascript",
    "application/x-www-form-urlencoded",
)


def event_of(
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    *,
    address: str,
    request_id: str,
    now: float,
) -> dict[str, Any]:
    """The payload-2.0 event that a function URL makes of a request. `target` is path and query as they came."""
    path, _, query = target.partition("?")
    merged: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in headers:
        key = name.lower()
        if key == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";")]
        else:
            merged[key] = f"{merged[key]},{value}" if key in merged else value
    merged.update({"x-forwarded-for": address, "x-forwarded-proto": "https", "x-forwarded-port": "443"})
    domain = merged.get("host", "localhost")
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    text = _text(body, merged.get("content-type", ""))
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        **({"cookies": cookies} if cookies else {}),
        "headers": merged,
        **({"queryStringParameters": parameters} if parameters else {}),
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "local",
            "domainName": domain,
            "domainPrefix": domain.split(".", 1)[0],
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": address,
                "userAgent": merged.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": int(now * 1000),
        },
        **({"body": text if text is not None else base64.b64encode(body).decode()} if body else {}),
        "isBase64Encoded": bool(body) and text is None,
    }


def _text(body: bytes, content_type: str) -> str | None:
    """The body as text if its type is textual and it is UTF-8; None when it has to travel as base64."""
    if not content_type.lower().startswith(TEXTUAL):
        return None
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None


class Front:
    """The function URL of `pool`'s function. `stream`: the URL's InvokeMode is RESPONSE_STREAM."""

    def __init__(self, pool: Pool, clock: Clock, *, stream: bool = True) -> None:
        self._pool, self._clock, self._stream = pool, clock, stream

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > MAX_EVENT_BYTES:
                return _too_large()
        request_id = self._clock.token("url-")
        event = json.dumps(
            event_of(
                request.method,
                request.raw_path,
                [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers],
                bytes(body),
                address=request.remote or "127.0.0.1",
                request_id=request_id,
                now=self._clock.now(),
            ),
            ensure_ascii=False,
        ).encode("utf-8", "surrogatepass")
        if len(event) > MAX_EVENT_BYTES:
            return _too_large()
        try:
            call = await self._pool.invoke(event)
        except Throttled:
            return _refusal(429, "Rate Exceeded.")
        except FunctionFailed:
            return _refusal(502, "Internal Server Error")
        try:
            if await call.streamed():
                return await self._streamed(request, call)
            return _whole(await call.whole())
        except FunctionFailed:
            return _refusal(502, "Internal Server Error")

    async def _streamed(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        pieces = call.pieces()
        head = b""
        async for piece in pieces:
            head += piece
            if SEPARATOR in head:
                break
        start, found, rest = head.partition(SEPARATOR)
        if not found:
            return _refusal(502, "Internal Server Error")
        prelude = json.loads(start)
        headers = _headers(prelude)
        if not self._stream:
            return web.Response(
                status=prelude["statusCode"], headers=headers, body=rest + b"".join([p async for p in pieces])
            )
        response = web.StreamResponse(status=prelude["statusCode"], headers=headers)
        await response.prepare(request)
        sent = len(rest)
        if rest:
            await response.write(rest)
        try:
            async for piece in pieces:
                sent += len(piece)
                if sent > MAX_STREAMED_BYTES:
                    raise FunctionFailed("Function.ResponseSizeTooLarge")
                await response.write(piece)
        except FunctionFailed:
            # The status is out: all that can be shown is an answer that has no end.
            if request.transport is not None:
                request.transport.abort()
            return response
        except OSError:
            # The client left. The function is not told, and works on.
            return response
        await response.write_eof()
        return response


def _headers(answer: Mapping[str, Any]) -> CIMultiDict[str]:
    headers = CIMultiDict({str(name): str(value) for name, value in (answer.get("headers") or {}).items()})
    for cookie in answer.get("cookies") or ():
        headers.add("Set-Cookie", cookie)
    return headers


def _whole(raw: bytes) -> web.StreamResponse:
    """A handler's returned value as a response. Without a `statusCode` it is itself the JSON body of a 200."""
    if len(raw) > MAX_WHOLE_ANSWER_BYTES:
        return _refusal(502, "Internal Server Error")
    answer = json.loads(raw)
    if not isinstance(answer, dict) or "statusCode" not in answer:
        return web.Response(body=raw, content_type="application/json")
    body = answer.get("body") or ""
    payload = base64.b64decode(body) if answer.get("isBase64Encoded") else str(body).encode()
    headers = _headers(answer)
    headers.popall("content-length", None)
    headers.setdefault("content-type", "application/json")
    return web.Response(status=int(answer["statusCode"]), headers=headers, body=payload)


def _too_large() -> web.Response:
    return _refusal(413, f"Request must be smaller than {MAX_EVENT_BYTES} bytes for the InvokeFunction operation")


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"Message": message}, status=status)


async def listen(front: Front, place: socket.socket | None = None) -> tuple[web.ServerRunner, int]:
    """Serve `front` at a bound socket, or without one at any free port of loopback; the runner to clean up and the
    port that it listens on."""
    # Bodies go into the event as they came, so nothing is decompressed here.
    server = web.Server(front.handle, auto_decompress=False, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0) if place is None else web.SockSite(runner, place)
    await site.start()
    loop_server = site._server
    assert isinstance(loop_server, asyncio.Server)
    return runner, int(loop_server.sockets[0].getsockname()[1])
