"""How many calls do a hundred identical requests cost? One, in one process and across four that share a table.

    edgewise bench stampede [--tables moto|dynalite] [--processes 4] [--requests 100] [--kill] [--json FILE]

Whole gateways are started (uvicorn, one process each) before an OpenAI-compatible upstream on loopback that answers
after `--seconds` and counts its calls. `--kill` ends the process that leads, by SIGKILL, halfway through its call: then
two calls are the most. dynalite comes from npm (`npx --yes dynalite`) and is the stricter table under contention.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from edgewise.aws import Aws
from edgewise.local import template
from edgewise.local.stack import local_options

KEY = "ew_bench_0123456789abcdef"


@dataclass(slots=True)
class Upstream:
    """Counts calls by the gateway that made them; each answer takes `seconds`."""

    seconds: float
    calls: Counter[str] = field(default_factory=Counter)
    first: asyncio.Event = field(default_factory=asyncio.Event)
    leader: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        gateway = request.match_info["gateway"]
        self.calls[gateway] += 1
        self.leader = self.leader or gateway
        self.first.set()
        body = await request.json()
        await asyncio.sleep(self.seconds)
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "one"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
            }
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_open(port: int, within_s: float = 60) -> None:
    """Wait until something listens."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


@contextlib.asynccontextmanager
async def tables(kind: str) -> AsyncIterator[str]:
    """A DynamoDB stand-in with the cache table; its URL."""
    port = free_port()
    if kind == "moto":
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    else:
        words = ["npx", "--yes", "dynalite", "--port", str(port), "--createTableMs", "0"]
    server = subprocess.Popen(  # noqa: ASYNC220
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        await until_open(port)
        url = f"http://127.0.0.1:{port}"
        await _create(url)
        yield url
    finally:
        # npx starts a child of its own: the group is ours.
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


async def _create(url: str) -> None:
    aws = Aws(local_options(url))
    await template.create_table(aws, "CacheTable", "cache")
    aws.close()


@contextlib.asynccontextmanager
async def gateways(count: int, table_url: str, upstream_port: int, lease_s: float) -> AsyncIterator[dict[int, Any]]:
    """Gateways by port, each a process; gateway N reaches the upstream under /N."""
    running: dict[int, subprocess.Popen[bytes]] = {}
    try:
        for number in range(count):
            port = free_port()
            upstream = [{"name": "up", "base_url": f"http://127.0.0.1:{upstream_port}/{number}/v1", "models": ["m"]}]
            environment = {
                **{k: v for k, v in os.environ.items() if not k.startswith(("EDGEWISE_", "AWS_", "OPENAI_"))},
                "EDGEWISE_ROOT_KEY": KEY,
                "EDGEWISE_LOCAL_AWS_URL": table_url,
                "EDGEWISE_CACHE_TABLE": "cache",
                "EDGEWISE_CACHE_TIMEOUT_S": "5",
                "EDGEWISE_CACHE_LEASE_S": str(lease_s),
                "EDGEWISE_UPSTREAMS": json.dumps(upstream),
                "EDGEWISE_REQUEST_LOG": "false",
            }
            words = [sys.executable, "-m", "uvicorn", "--factory", "edgewise.local.asgi:application"]
            running[port] = subprocess.Popen(  # noqa: ASYNC220
                [*words, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"], env=environment
            )
        for port in running:
            await until_open(port)
        yield running
    finally:
        for process in running.values():
            process.kill()
            process.wait()


async def ask(session: aiohttp.ClientSession, port: int, prompt: str) -> str:
    """One request; what the cache said, or the error's name."""
    body = {"model": "up/m", "messages": [{"role": "user", "content": prompt}]}
    try:
        async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body) as answer:
            found = await answer.json()
            if answer.status != 200:
                return f"{answer.status} {found['error']['code']}"
            assert found["choices"][0]["message"]["content"] == "one"
            return answer.headers.get("x-edgewise-cache", "?")
    except aiohttp.ClientError as error:
        return type(error).__name__


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start everything, send the requests, count."""
    upstream = Upstream(options.seconds)
    app = web.Application()
    app.router.add_post("/{gateway}/v1/chat/completions", upstream.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    found: dict[str, Any] = {"tables": options.tables, "processes": options.processes, "requests": options.requests}
    try:
        async with (
            tables(options.tables) as url,
            gateways(options.processes, url, port, options.lease) as running,
            aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {KEY}"}, connector=aiohttp.TCPConnector(limit=0)
            ) as session,
        ):
            ports = list(running)
            for each in ports:
                # Warm connections and imports, so that the hundred really come at once.
                await ask(session, each, f"warm {each}")
            upstream.calls.clear()
            upstream.first.clear()
            upstream.leader = ""
            started = time.monotonic()
            asking = [
                asyncio.ensure_future(ask(session, ports[n % len(ports)], "how many?")) for n in range(options.requests)
            ]
            if options.kill:
                await upstream.first.wait()
                await asyncio.sleep(options.seconds / 2)
                os.kill(running[ports[int(upstream.leader)]].pid, signal.SIGKILL)
            outcomes = Counter(await asyncio.gather(*asking))
            found["seconds"] = round(time.monotonic() - started, 2)
            found["upstream_calls"] = upstream.calls.total()
            found["outcomes"] = dict(outcomes)
    finally:
        await runner.cleanup()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", choices=["moto", "dynalite"], default="moto")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long the upstream takes")
    parser.add_argument("--lease", type=float, default=3.0, help="seconds that a silent leader is believed in")
    parser.add_argument("--kill", action="store_true", help="SIGKILL the leader halfway through its call")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = asyncio.run(measure(options))
    allowed = 2 if options.kill else 1
    verdict = "as it should be" if found["upstream_calls"] <= allowed else f"MORE THAN {allowed}"
    print(
        f"{found['requests']} identical requests, {found['processes']} processes, {found['tables']}"
        f"{', leader killed' if options.kill else ''}: {found['upstream_calls']} upstream calls ({verdict}) "
        f"in {found['seconds']} s; {found['outcomes']}"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    raise SystemExit(found["upstream_calls"] > allowed)


if __name__ == "__main__":
    main()
