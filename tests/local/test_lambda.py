"""The loopback Lambda, end to end: a function URL, real runtime processes, and a small app in them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edgewise.clock import Clock, FakeClock, SystemClock
from edgewise.local.front import MAX_EVENT_BYTES, Front, listen
from edgewise.local.pool import Counts, Function, Pool, Throttled, pooled
from edgewise.local.runtime_api import FunctionFailed
from tests.local.gate import Gate

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STREAMING = Function(
    name="standin",
    folder=HERE / "standin",
    handler="app.app",
    command=(str(ROOT / "functions/gateway/run"), sys.executable, "-m", "awslambdaric"),
    concurrency=2,
    timeout_s=60,
)


class Url:
    """A function URL under test."""

    def __init__(self, pool: Pool, base: str, session: aiohttp.ClientSession) -> None:
        self.pool, self.base, self.session = pool, base, session

    @property
    def counts(self) -> Counts:
        return self.pool.counts

    async def json(self, path: str, **arguments: Any) -> Any:
        async with self.session.post(self.base + path, **arguments) as response:
            assert response.status == 200
            return json.loads(await response.text())

    async def status(self, path: str, **arguments: Any) -> int:
        async with self.session.post(self.base + path, **arguments) as response:
            await response.read()
            return response.status


@asynccontextmanager
async def url(function: Function = STREAMING, *, clock: Clock | None = None, stream: bool = True) -> AsyncIterator[Url]:
    clock = clock or SystemClock()
    async with pooled(function, clock) as pool, aiohttp.ClientSession() as session:
        runner, port = await listen(Front(pool, clock, stream=stream))
        try:
            yield Url(pool, f"http://127.0.0.1:{port}", session)
        finally:
            await runner.cleanup()


def state_of(pid: int) -> str:
    """The kernel's letter for a process: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


async def test_a_stream_flows_through_every_part_while_it_is_made() -> None:
    async with (
        url() as lam,
        Gate() as gate,
        lam.session.post(f"{lam.base}/chat?gate={gate.port}", json={}) as response,
    ):
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        first = await response.content.readuntil(b"\n\n")
        await gate.reached()
        # The function is held at the gate: what the client has, it has before the answer is whole.
        assert first == b'data: {"i":0}\n\n'
        gate.open()
        assert await response.content.read() == b'data: {"i":1}\n\ndata: [DONE]\n\n'


async def test_one_environment_serves_request_after_request_and_is_frozen_between_them() -> None:
    async with url() as lam:
        for _ in range(3):
            told = await lam.json("/echo?x=1", data=b"\xff", headers={"x-a": "b"}, cookies={"c": "d"})
            assert told["body"] == "\xff" and told["cookie"] == "c=d" and told["query"] == "x=1"
            await lam.pool.settle()
            (environment,) = lam.pool.environments
            assert environment.process is not None and environment.frozen
            while state_of(environment.process.pid) != "T":  # noqa: ASYNC110 - the kernel has no event for it
                await asyncio.sleep(0)
        assert (lam.counts.cold_starts, lam.counts.invocations, lam.counts.freezes) == (1, 3, 3)


async def test_each_request_has_an_environment_of_its_own_and_above_that_it_is_429() -> None:
    async with url() as lam, Gate() as gate:
        held = [asyncio.create_task(lam.status(f"/wait?gate={gate.port}")) for _ in range(2)]
        await gate.reached()
        await gate.reached()
        assert await lam.status("/echo") == 429
        gate.open()
        assert await asyncio.gather(*held) == [200, 200]
        await lam.pool.settle()
        assert await lam.status("/echo") == 200
        assert (lam.counts.cold_starts, lam.counts.throttled) == (2, 1)


async def test_a_function_that_overruns_its_time_is_killed_and_the_next_start_is_cold() -> None:
    clock = FakeClock()
    async with url(clock=clock) as lam:
        assert await lam.status("/echo") == 200
        await lam.pool.settle()
        asked = asyncio.create_task(lam.status("/hang"))
        while lam.counts.invocations < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await clock.advance(STREAMING.timeout_s)
        assert await asked == 502
        await lam.pool.settle()
        assert lam.counts.killed == 1 and lam.pool.environments == ()
        assert await lam.status("/echo") == 200
        assert lam.counts.cold_starts == 2


async def test_what_fails_in_mid_stream_breaks_the_connection_and_the_environment_lives() -> None:
    async with url() as lam:
        async with lam.session.post(f"{lam.base}/die") as response:
            assert await response.content.readuntil(b"\n\n") == b'data: {"i":0}\n\n'
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read()
        await lam.pool.settle()
        assert await lam.status("/fail") == 500
        assert (lam.counts.cold_starts, lam.counts.killed) == (1, 0)


async def test_the_limits_of_a_function_url() -> None:
    async with url() as lam:

        async def send(size: int, kind: str) -> int:
            return await lam.status("/echo", data=io.BytesIO(b"x" * size), headers={"content-type": kind})

        assert await send(MAX_EVENT_BYTES + 1, "text/plain") == 413
        assert await send(MAX_EVENT_BYTES - 4096, "text/plain") == 200
        # As base64, which a body of an unknown type becomes, the same bytes are a third more.
        assert await send(MAX_EVENT_BYTES - 4096, "x/y") == 413


async def test_a_url_without_streaming_sends_the_same_bytes_at_once() -> None:
    async with url(stream=False) as lam, Gate() as gate:
        gate.open()
        async with lam.session.post(f"{lam.base}/chat?gate={gate.port}") as response:
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
            assert int(response.headers["content-length"]) == len(await response.read())


async def test_under_snapstart_a_prepared_environment_is_restored_and_renewed() -> None:
    function = Function(**{**_fields(STREAMING), "snap_start": True})
    async with url(function) as lam:
        await lam.pool.prepare()
        assert (lam.counts.cold_starts, lam.counts.restores) == (1, 0)
        told = await lam.json("/chance")
        assert told["notes"] == ["renewed"]
        await lam.pool.settle()
        assert (await lam.json("/chance"))["notes"] == ["renewed"]
        assert (lam.counts.cold_starts, lam.counts.restores) == (1, 1)


async def test_a_function_that_cannot_be_loaded_is_a_502_with_the_reason_for_the_log() -> None:
    function = Function(**{**_fields(STREAMING), "handler": "absent.app"})
    async with pooled(function, SystemClock()) as pool:
        with pytest.raises(FunctionFailed) as caught:
            await pool.invoke(b"{}")
        assert caught.value.detail["errorType"] == "ModuleNotFoundError"
        assert pool.environments == ()


async def test_a_handler_under_the_managed_client_answers_whole() -> None:
    """The platform's side also speaks with Amazon's own runtime client, so it isn't only consistent with ours."""
    function = Function(
        **{
            **_fields(STREAMING),
            "handler": "buffered.handler",
            "command": (sys.executable, "-m", "awslambdaric", "buffered.handler"),
        }
    )
    async with url(function) as lam, Gate() as gate:
        gate.open()
        told = await lam.json("/echo", data=b"hi", headers={"content-type": "text/plain"})
        assert told["body"] == "hi" and 0 < told["left_s"] <= 60
        async with lam.session.post(f"{lam.base}/chat?gate={gate.port}") as response:
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        await lam.pool.settle()
        assert await lam.status("/late") == 200
        await lam.pool.settle()
        assert "background" in (await lam.json("/echo"))["notes"]
        assert await lam.status("/big?bytes=7000000") == 502


async def test_a_pool_of_none_throttles() -> None:
    async with pooled(Function(**{**_fields(STREAMING), "concurrency": 0}), SystemClock()) as pool:
        with pytest.raises(Throttled):
            await pool.invoke(b"{}")


def _fields(function: Function) -> dict[str, Any]:
    return {name: getattr(function, name) for name in Function.__slots__}


async def test_a_start_that_nobody_waits_for_any_more_leaves_no_process(tmp_path: Path) -> None:
    """A caller that is cancelled while its environment starts takes it along: no pool knows of it yet."""
    alive = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    function = Function("slow", tmp_path, "x.x", (sys.executable, "-c", alive))
    async with pooled(function, SystemClock()) as pool:
        invoking = asyncio.create_task(pool.invoke(b"{}"))
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        invoking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await invoking
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
        assert pool.environments == ()
