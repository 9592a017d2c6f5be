"""`edgewise cache warm` as it is meant to be used: the command in a terminal, the gateway and its worker assembled over
moto's tables, bucket and queue, and answers that are cached for everybody afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from edgewise.assemble.edge import around
from edgewise.assemble.house import House, build
from edgewise.assemble.jobs import worker_of
from edgewise.cache.popular import day_of
from edgewise.settings import Settings
from tests.assemble.test_gateway import ROOT, Gateway, told
from tests.jobs.stack import pump


@dataclass
class Deployment:
    """A gateway on a port, another process of it that nothing was said to yet, and a worker."""

    other: House
    gateway: Gateway
    """Of that other process."""
    url: str

    async def warm(self, *words: str, typed: bytes = b"", terminal: bool = True) -> tuple[int, str, str]:
        """The command; its exit code, standard output, and what a terminal shows."""
        command = (sys.executable, "-m", "edgewise.cli.main", "cache", "warm", *words, "--poll-s", "0.05")
        environ = {**os.environ, "EDGEWISE_URL": self.url, "EDGEWISE_KEY": ROOT, "COLUMNS": "160", "TERM": "xterm"}
        near, far = pty.openpty()
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stdin=pipe, stdout=pipe, stderr=far if terminal else pipe
        )
        os.close(far)
        shown = asyncio.create_task(asyncio.to_thread(_all_of, near))
        out, err = await asyncio.wait_for(process.communicate(typed), 60)
        seen = await shown
        os.close(near)
        return process.returncode or 0, out.decode(), seen if terminal else (err or b"").decode()


def _all_of(terminal: int) -> str:
    found = b""
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65_536):
            found += piece
    return found.decode()


@asynccontextmanager
async def serving(application: Any) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def deployed(places: dict[str, Any], queues: tuple[str, str], request: Any) -> AsyncIterator[Deployment]:
    settings = Settings(
        root_key=ROOT,
        scripted_model=True,
        request_log=False,
        cache_timeout_s=5,
        cache_keep_requests=getattr(request, "param", False),
        **places,
    )
    house, other, worker = (build(settings) for _ in range(3))
    pumping = asyncio.create_task(pump(worker.aws, queues[0], worker_of(worker).handle))
    gateway = Gateway(around(other))
    async with serving(around(house)) as url, gateway.app.router.lifespan_context(gateway.app):
        yield Deployment(other, gateway, url)
    pumping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pumping
    await worker.close()


async def test_a_list_of_prompts_is_estimated_worked_through_and_cached(deployed: Deployment, tmp_path: Path) -> None:
    """The cost first and a question; then a bar that reaches its end; then hits, in a process that made none of it."""
    body = {"model": "scripted/echo", "messages": [{"role": "user", "content": "two"}], "temperature": 0}
    lines = ["one", json.dumps("quoted"), json.dumps(body), "one"]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    code, out, shown = await deployed.warm(str(tmp_path / "prompts.jsonl"), "--model", "scripted/small", typed=b"y\n")
    assert code == 0, out + shown
    assert out.startswith("3 requests, about $") and "(from a sample of 3)" in out
    assert out.index("Go on?") < out.index("3 answered, 0 failed")
    assert "warming" in shown and "3/3" in shown
    for text, model in (("one", "scripted/small"), ("quoted", "scripted/small")):
        assert told(await deployed.gateway.say(text, ROOT, model), "cache") == "hit"
    assert told(await deployed.gateway.say("two", ROOT, "scripted/echo", temperature=0), "cache") == "hit"
    assert told(await deployed.gateway.say("three", ROOT, "scripted/small"), "cache") == "miss"
    again, out, _ = await deployed.warm(str(tmp_path / "prompts.jsonl"), "--model", "scripted/small", "--yes")
    assert again == 0 and "about $0.0000, at the most $0.0000 (from a sample of 3; 3 of the sample are cached" in out


async def test_who_says_no_spends_nothing(deployed: Deployment, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one\n")
    code, out, _ = await deployed.warm(str(tmp_path / "prompts.txt"), "--model", "scripted/small", typed=b"n\n")
    assert code == 1 and "about $" in out
    assert (await deployed.gateway.call("GET", "/batches", ROOT)).json["data"] == []


@pytest.mark.parametrize("deployed", [True], indirect=True)
async def test_what_was_asked_most_is_warmed_again(deployed: Deployment) -> None:
    """From the tally of a day, after the cache was emptied; as JSON, with everything else on standard error."""
    other, gateway = deployed.other, deployed.gateway
    day = day_of(other.clock.now())
    code, out, shown = await deployed.warm("--from-log", "--day", day, "--json", "--yes", terminal=False)
    assert (code, out) == (0, "") and "nothing was asked on that day" in shown
    for text in ("often", "often", "once"):
        await gateway.say(text, ROOT, "scripted/small")
    assert other.cache.popular is not None
    await other.cache.popular.flush()
    await other.background.drain(within_s=5)
    assert (await gateway.call("DELETE", "/admin/cache", ROOT, query=b"all=true")).json["removed"] == 2
    code, out, shown = await deployed.warm("--from-log", "--day", day, "--most", "1", "--json", "--yes", terminal=False)
    assert code == 0 and json.loads(out) == {"completed": 1, "failed": 0}, shown
    assert "1 requests, about $" in shown
    assert told(await gateway.say("often", ROOT, "scripted/small"), "cache") == "hit"
    assert told(await gateway.say("once", ROOT, "scripted/small"), "cache") == "miss"


async def test_without_kept_requests_the_command_says_which_setting_is_missing(deployed: Deployment) -> None:
    code, out, shown = await deployed.warm("--from-log", "--yes", terminal=False)
    assert code == 1 and out == ""
    assert "EDGEWISE_CACHE_KEEP_REQUESTS=true" in shown
