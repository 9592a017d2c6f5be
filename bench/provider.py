"""What a call through the provider room costs in CPU, beside the bare HTTP client in the same run.

    edgewise bench provider [--requests 3000] [--streams 200] [--chunks 50] [--rounds 5] [--json FILE]

The upstream is another process that answers in microseconds, so this process's CPU is all ours: user and system time
of the client side, for one pass-through answer and for one streamed chunk. The baseline posts the same bytes with a
plain aiohttp session and reads the answer without looking at it. Rounds alternate; medians and their range are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from edgewise.chat import ChatRequest, Folding
from edgewise.clock import Deadline, SystemClock
from edgewise.provider.caller import Caller
from edgewise.provider.http import Http
from edgewise.provider.openai_http import OpenAIHttp
from edgewise.words import Model

HEAD = {"id": "chatcmpl-1", "created": 1, "model": "m", "system_fingerprint": "fp", "service_tier": "default"}
BODY = {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France? " * 5}]}


def answer() -> bytes:
    message = {"role": "assistant", "content": "The capital is Paris. " * 20, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 40, "completion_tokens": 90, "total_tokens": 130}
    return orjson.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": usage})


def events(chunks: int) -> list[bytes]:
    def event(choices: list[Any], **more: Any) -> bytes:
        return (
            b"data: " + orjson.dumps({**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}) + b"\n\n"
        )

    def choice(delta: Any, finish: str | None = None) -> list[Any]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    return [
        event(choice({"role": "assistant", "content": ""})),
        *(event(choice({"content": f" word{number}"}), usage=None) for number in range(chunks)),
        event(choice({}, "stop")),
        event([], usage={"prompt_tokens": 40, "completion_tokens": chunks, "total_tokens": 40 + chunks}),
        b"data: [DONE]\n\n",
    ]


async def serve(chunks: int) -> None:
    """The upstream: each event of a stream is written by itself, so that it arrives by itself."""
    body = answer()
    whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    framed = [b"%x\r\n%s\r\n" % (len(event), event) for event in events(chunks)]

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                length = int(asked.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                if b'"stream":true' not in await reader.readexactly(length):
                    writer.write(whole)
                    continue
                writer.write(head)
                for event in framed:
                    writer.write(event)
                    await asyncio.sleep(0.001)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def at_once(work: Callable[[], Awaitable[None]], times: int, concurrency: int) -> float:
    """CPU in µs for one of `times` runs of `work`, `concurrency` at a time."""
    left = iter(range(times))

    async def worker() -> None:
        for _ in left:
            await work()

    begun = cpu_s()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return (cpu_s() - begun) / times * 1e6


class Contest:
    """The room and the bare client against one upstream."""

    def __init__(self, port: int) -> None:
        self.clock, self.model = SystemClock(), Model("up", "m")
        self.http = Http(self.clock)
        self.caller = Caller({"up": OpenAIHttp("up", self.http, f"http://127.0.0.1:{port}/v1", "k")}, self.clock)
        self.url = f"http://127.0.0.1:{port}/v1/chat/completions"
        self.session: Any = None

    async def whole(self) -> None:
        await self.caller.complete(self.model, ChatRequest(BODY), Deadline.after(self.clock, 60), [])

    async def stream(self) -> None:
        folding = Folding()
        request = ChatRequest(BODY, stream=True)
        async for piece in await self.caller.stream(self.model, request, Deadline.after(self.clock, 60), []):
            folding.add(piece)
            orjson.dumps(piece)
        assert folding.finished

    async def bare(self, *, stream: bool = False) -> None:
        body = {**BODY, "stream": True} if stream else BODY
        async with self.session.post(self.url, data=orjson.dumps(body)) as response:
            if stream:
                while await response.content.readany():
                    pass
            else:
                await response.read()


async def contest(port: int, options: argparse.Namespace) -> dict[str, Any]:
    import aiohttp

    rivals = Contest(port)
    rivals.session = aiohttp.ClientSession()
    taken: dict[str, list[float]] = {}
    await at_once(rivals.whole, 200, 10)
    for _ in range(options.rounds):
        for concurrency in (1, 50):
            for name, work in (("bare client", rivals.bare), ("edgewise", rivals.whole)):
                cost = await at_once(work, options.requests, concurrency)
                taken.setdefault(f"answer, {concurrency} at once | {name}", []).append(cost)
        for name, work in (("bare client", lambda: rivals.bare(stream=True)), ("edgewise", rivals.stream)):
            cost = await at_once(work, options.streams, 10) / (options.chunks + 4)
            taken.setdefault(f"chunk, 10 streams at once | {name}", []).append(cost)
    await rivals.session.close()
    await rivals.http.close()
    return {key: {"median_us": statistics.median(costs), "costs_us": costs} for key, costs in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="edgewise bench provider", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    for name, default in (("requests", 3000), ("streams", 200), ("chunks", 50), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.chunks))
        return
    command = [sys.executable, "-m", "bench.provider", "--serve", "--chunks", str(options.chunks)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as upstream:
        assert upstream.stdout is not None
        try:
            found = asyncio.run(contest(int(upstream.stdout.readline()), options))
        finally:
            upstream.terminate()
    for key, told in found.items():
        case, _, name = key.partition(" | ")
        base = found[f"{case} | bare client"]["median_us"]
        costs = told["costs_us"]
        print(
            f"{case:<28} {name:<12} {told['median_us']:8.1f} µs CPU  ({min(costs):.1f}–{max(costs):.1f})"
            f"  {told['median_us'] / base:5.2f} × bare client"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
