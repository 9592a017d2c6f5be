"""CPU per request of the edge: a pass-through, an exact hit, a streamed chunk, beside a bare app in the same run.

    edgewise bench edge [--requests N] [--rounds R] [--real | --http] [--json FILE]

The ASGI app is called in this process, so that what is measured is the gateway and not a socket: CPU time of the
process over N requests, the best of R rounds (the machine is shared; the best round is the least disturbed) and the
spread of the rounds. The rooms are fakes; with `--real` they are the assembled house with its memory cache and
scripted provider; with `--http` that house is served by uvicorn in a process of its own, whose CPU time counts (Linux
only), over eight connections. The baseline is FastAPI with a pydantic body and a JSON answer of the same size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.fakes import FakeCaller, FakeRecord, rooms, saying

from edgewise.api.app import app
from edgewise.clock import SystemClock
from edgewise.settings import Settings

TEXT = "The capital of France is Paris, a city on the Seine. " * 4
KEY = "ew_test"
Ask = Callable[[int], Awaitable[None]]


class NoRecord(FakeRecord):
    def note(self, note: Any) -> None:
        del note


def asker(application: Any, *, stream: bool = False, fresh: bool = False, model: str = "scripted/echo") -> Ask:
    """One chat request a call; `fresh`: every time another question."""
    headers = [
        (b"host", b"localhost"),
        (b"authorization", f"Bearer {KEY}".encode()),
        (b"content-type", b"application/json"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"user-agent", b"OpenAI/Python 3.54.0"),
        (b"x-stainless-lang", b"python"),
        (b"x-stainless-retry-count", b"0"),
        (b"x-stainless-read-timeout", b"600"),
    ]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions", "query_string": b"", "root_path": "",
        "headers": headers, "client": ("127.0.0.1", 5000), "server": ("127.0.0.1", 8787),
    }  # fmt: skip

    async def ask(number: int) -> None:
        body = {
            "model": model,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": f"What is the capital of France? {number if fresh else ''}"},
            ],
            "temperature": 0.2,
            "max_tokens": 100,
            **({"stream": True, "stream_options": {"include_usage": True}} if stream else {}),
        }
        raw = json.dumps(body).encode()
        sent = False
        status = 0

        async def receive() -> Any:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()
            sent = True
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        await application(dict(scope), receive, send)
        assert status == 200, status

    return ask


async def cost_us(ask: Ask, requests: int, rounds: int) -> tuple[float, float]:
    """(best, spread) of CPU microseconds a request."""
    for number in range(min(100, requests)):
        await ask(-1 - number)
    found = []
    for round_number in range(rounds):
        began = time.process_time()
        for number in range(requests):
            await ask(round_number * requests + number)
        found.append((time.process_time() - began) / requests * 1e6)
    return min(found), statistics.pstdev(found)


def baseline() -> Any:
    """What most gateways are built as: FastAPI, a pydantic body, a JSON answer."""
    from fastapi import FastAPI
    from pydantic import BaseModel, ConfigDict

    class Message(BaseModel):
        role: str
        content: str

    class Body(BaseModel):
        model_config = ConfigDict(extra="allow")
        model: str
        messages: list[Message]

    bare = FastAPI()
    answer = dict(saying(TEXT).completion)

    async def chat(body: Body) -> dict[str, Any]:
        assert body.model
        return answer

    # The annotation is local to this function, so it is given by hand.
    chat.__annotations__["body"] = Body
    bare.post("/v1/chat/completions")(chat)
    return bare


async def with_fakes(requests: int, rounds: int) -> dict[str, tuple[float, float]]:
    clock = SystemClock()
    tokens = 50

    def house(piece_chars: int = 5) -> Any:
        caller = FakeCaller(clock, lambda _: saying(TEXT), piece_chars=piece_chars)
        caller.calls = _Forgetful()
        return app(rooms(clock=clock, caller=caller, record=NoRecord()), Settings())

    piece = max(1, len(TEXT) // tokens)
    chunks = -(-len(TEXT) // piece)
    found = {
        "fastapi + pydantic, no gateway": await cost_us(asker(baseline()), requests, rounds),
        "pass-through": await cost_us(asker(house(), fresh=True), requests, rounds),
        "exact hit": await cost_us(asker(house()), requests, rounds),
        "exact hit, streamed": await cost_us(asker(house(), stream=True), requests, rounds),
    }
    few = max(20, requests // 10)
    long = await cost_us(asker(house(piece), stream=True, fresh=True), few, rounds)
    short = await cost_us(asker(house(10**6), stream=True, fresh=True), few, rounds)
    found["streamed pass-through, 1 chunk"] = short
    found["each further chunk"] = ((long[0] - short[0]) / (chunks - 1), (long[1] + short[1]) / (chunks - 1))
    return found | parts(rounds)


def parts(rounds: int) -> dict[str, tuple[float, float]]:
    """The pieces that are this project's own, beside what they replace: pydantic over the openai package's types."""
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from pydantic import TypeAdapter

    from edgewise.api import fields
    from edgewise.chat import ChatRequest
    from edgewise.query.asker import ExactAsker
    from edgewise.words import Model, Plan, Principal, Target

    body = {
        "model": "m",
        "messages": [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": TEXT}],
        "temperature": 0.2,
        "max_tokens": 100,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    }
    plan, target = Plan(Principal("t", "k"), ChatRequest(body)), Target("a/m", (Model("a", "m"),))
    adapter: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
    maker = ExactAsker()

    def by_pydantic() -> None:
        read: Any = adapter.validate_python(body)
        # The package says `Iterable`, which pydantic checks only as it is read.
        assert len(list(read["messages"])) == 2 and len(list(read["tools"])) == 1

    def timed(work: Callable[[], Any]) -> tuple[float, float]:
        found = []
        for _ in range(rounds):
            began = time.process_time()
            for _ in range(5000):
                work()
            found.append((time.process_time() - began) / 5000 * 1e6)
        return min(found), statistics.pstdev(found)

    return {
        "  check a body": timed(lambda: fields.check(body, fields.CHAT, ("model", "messages"))),
        "  the same by pydantic": timed(by_pydantic),
        "  canonical key": timed(lambda: maker.query(plan, target)),
    }


class _Forgetful(list[Any]):
    def append(self, item: Any) -> None:
        del item


async def with_house(requests: int, rounds: int) -> dict[str, tuple[float, float]]:
    from edgewise.assemble import gateway

    application = gateway(Settings(root_key=KEY, scripted_model=True, request_log=False))
    async with application.router.lifespan_context(application):
        return {
            "fastapi + pydantic, no gateway": await cost_us(asker(baseline()), requests, rounds),
            "pass-through, whole house": await cost_us(asker(application, fresh=True), requests, rounds),
            "exact hit, whole house": await cost_us(asker(application), requests, rounds),
            "exact hit streamed, whole house": await cost_us(asker(application, stream=True), requests, rounds),
        }


def _serve(port: int, bare: bool) -> None:
    import uvicorn

    from edgewise.assemble import gateway

    house = Settings(root_key=KEY, scripted_model=True, request_log=False)
    uvicorn.run(baseline() if bare else gateway(house), port=port, log_level="error", access_log=False)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _over_http(bare: bool, requests: int, rounds: int, **rest: Any) -> tuple[float, float]:
    """CPU microseconds a request of a server in another process."""
    import aiohttp

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bench.edge", "--serve", str(port), *(["--bare"] if bare else [])]
    child = await asyncio.create_subprocess_exec(*command)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    messages = [{"role": "user", "content": TEXT}]
    try:
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session:

            async def ask(number: int) -> None:
                told = [*messages, {"role": "user", "content": str(number if rest.get("fresh") else 0)}]
                body = {"model": "scripted/echo", "messages": told, "stream": bool(rest.get("stream"))}
                async with session.post(url, json=body) as answer:
                    await answer.read()
                    assert answer.status == 200

            for _ in range(200):
                try:
                    await ask(-1)
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.1)
            found = []
            for round_number in range(rounds):
                numbers = iter(range(round_number * requests, (round_number + 1) * requests))

                async def work(numbers: Any = numbers) -> None:
                    for number in numbers:
                        await ask(number)

                began = _cpu_s(child.pid)
                await asyncio.gather(*(work() for _ in range(8)))
                found.append((_cpu_s(child.pid) - began) / requests * 1e6)
            return min(found), statistics.pstdev(found)
    finally:
        child.terminate()
        await child.wait()


async def with_http(requests: int, rounds: int) -> dict[str, tuple[float, float]]:
    return {
        "fastapi + pydantic, no gateway": await _over_http(True, requests, rounds),
        "pass-through, uvicorn": await _over_http(False, requests, rounds, fresh=True),
        "exact hit, uvicorn": await _over_http(False, requests, rounds),
        "exact hit streamed, uvicorn": await _over_http(False, requests, rounds, stream=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser("edgewise bench edge", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--real", action="store_true", help="the assembled house instead of fakes")
    which.add_argument("--http", action="store_true", help="the assembled house behind uvicorn")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve(options.serve, options.bare)
        return
    run = with_http if options.http else with_house if options.real else with_fakes
    found = asyncio.run(run(options.requests, options.rounds))
    base = found["fastapi + pydantic, no gateway"][0]
    print(f"{'':34} {'µs CPU':>8} {'±':>6} {'ratio':>6}")
    for name, (best, spread) in found.items():
        print(f"{name:34} {best:8.1f} {spread:6.1f} {best / base:6.2f}")
    if options.json:
        options.json.write_text(json.dumps({name: {"us": b, "spread": s} for name, (b, s) in found.items()}, indent=1))


if __name__ == "__main__":
    main()
