"""What a small gateway usually is: FastAPI with a pydantic body, and httpx. No key, no log, no feature.

Runs in an environment of its own: the gateway does not depend on httpx.
"""

import os
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

UPSTREAM = os.environ["BENCH_UPSTREAM"] + "/v1/chat/completions"
HEADERS = {"authorization": "Bearer sk-upstream"}
app = FastAPI()
client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=200), timeout=120)


class Message(BaseModel):
    role: str
    content: Any


class Body(BaseModel):
    model: str
    messages: list[Message]
    stream: bool = False


@app.post("/v1/chat/completions")
async def chat(body: Body) -> Any:
    sent = body.model_dump(exclude_none=True)
    if body.stream:

        async def pieces() -> Any:
            async with client.stream("POST", UPSTREAM, json=sent, headers=HEADERS) as answer:
                async for piece in answer.aiter_raw():
                    yield piece

        return StreamingResponse(pieces(), media_type="text/event-stream")
    answer = await client.post(UPSTREAM, json=sent, headers=HEADERS)
    return JSONResponse(answer.json(), status_code=answer.status_code)
