"""The least that a Python pass-through can be: ASGI and one aiohttp session. No key, no log, no feature."""

from __future__ import annotations

import json
import os
from typing import Any

import aiohttp

UPSTREAM = os.environ["BENCH_UPSTREAM"]
_sessions: list[aiohttp.ClientSession] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await _sessions[0].close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    asked = json.loads(body)
    headers = {"content-type": "application/json", "authorization": "Bearer sk-upstream"}
    async with _sessions[0].post(UPSTREAM + scope["path"], data=body, headers=headers) as answer:
        kind = (b"content-type", answer.headers["content-type"].encode())
        if asked.get("stream"):
            await send({"type": "http.response.start", "status": answer.status, "headers": [kind]})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        told = await answer.read()
        json.loads(told)
        length = (b"content-length", str(len(told)).encode())
        await send({"type": "http.response.start", "status": answer.status, "headers": [kind, length]})
        await send({"type": "http.response.body", "body": told})
