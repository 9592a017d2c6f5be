"""A small app with every manner of answer that the runtime must carry; it runs in the runtime's own process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edgewise.background import Background

notes: list[str] = []


async def gate(request: Request) -> None:
    """Wait until whoever listens at the port in `?gate=` hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(request.query_params["gate"]))
    await reader.read()
    writer.close()


async def chat(request: Request) -> StreamingResponse:
    await request.body()

    async def events() -> AsyncIterator[bytes]:
        yield b'data: {"i":0}\n\n'
        await gate(request)
        yield b'data: {"i":1}\n\n'
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def die(request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[bytes]:
        yield b'data: {"i":0}\n\n'
        raise ValueError("the provider is gone")

    return StreamingResponse(events(), media_type="text/event-stream")


async def echo(request: Request) -> Response:
    body = await request.body()
    response = JSONResponse(
        {
            "method": request.method,
            "path": request.scope["path"],
            "query": request.scope["query_string"].decode(),
            "body": body.decode("latin-1"),
            "cookie": request.headers.get("cookie"),
            "left_s": request.scope["aws.context"].get_remaining_time_in_millis() / 1000,
            "state": getattr(request.state, "greeting", None),
            "notes": notes,
        }
    )
    response.headers.append("x-twice", "one")
    response.headers.append("x-twice", "two")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def fail(request: Request) -> Response:
    raise LookupError("not a word of this may reach the client")


async def hang(request: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


async def empty(request: Request) -> Response:
    return Response(status_code=204)


async def wait(request: Request) -> Response:
    await gate(request)
    return Response(b"waited")


async def late(request: Request) -> Response:
    """Leave work behind: a task of the app's, one of the response's."""

    async def work() -> None:
        await asyncio.sleep(0)
        notes.append("background")

    app.state.background.spawn(work())
    return Response(b"soon", background=BackgroundTask(notes.append, "task"))


async def chance(request: Request) -> Response:
    return JSONResponse({"number": random.random(), "notes": notes})


async def big(request: Request) -> Response:
    return Response(b"x" * int(request.query_params["bytes"]))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"greeting": "hello"}


def build() -> Starlette:
    handlers = (chat, die, echo, fail, hang, empty, wait, late, chance, big)
    made = Starlette(
        routes=[Route(f"/{handler.__name__}", handler, methods=["GET", "POST"]) for handler in handlers],
        lifespan=lifespan,
    )
    made.state.background = Background()
    made.state.renew = lambda: notes.append("renewed")
    return made


app = build()
random.seed(7)
