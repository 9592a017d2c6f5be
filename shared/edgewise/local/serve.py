"""The deployment's functions on loopback, as template.yaml describes them.

Handlers, timeouts and batch sizes are read from the template, so what runs here is what is deployed. Everything else
(the stand-in for AWS, the key, the providers) is in the environment already, and the functions inherit it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from edgewise.aws import Aws
from edgewise.clock import Clock, SystemClock
from edgewise.local.esm import QueueSource
from edgewise.local.front import Front, listen
from edgewise.local.pool import Function, Pool, pooled
from edgewise.local.runtime_api import FunctionFailed
from edgewise.local.stack import local_options
from edgewise.local.template import CHECKOUT, load

UPKEEP_EVERY_S = 300.0
# Which way the template's conditions fall on a laptop.
CONDITIONS = {"Streams": True}


@dataclass(frozen=True, slots=True)
class Running:
    """What is up: the URL's port and each function's pool."""

    port: int
    gateway: Pool
    worker: Pool | None
    upkeep: Pool | None


def declared(logical: str, environ: Mapping[str, str], *, concurrency: int, snap_start: bool = False) -> Function:
    """The function `logical` of template.yaml. Raises KeyError when there is none."""
    template = load(CHECKOUT / "template.yaml")
    properties = template["Resources"][logical]["Properties"]
    variables = {
        **template["Globals"]["Function"]["Environment"]["Variables"],
        **properties.get("Environment", {}).get("Variables", {}),
    }
    wrapper = _resolved(variables.get("AWS_LAMBDA_EXEC_WRAPPER"))
    handler = _resolved(properties["Handler"])
    folder = CHECKOUT / properties["CodeUri"]
    managed = (sys.executable, "-m", "awslambdaric", handler)
    # The wrapper is started with the managed client as its arguments, as Lambda does.
    command = (str(folder / wrapper.removeprefix("/var/task/")), *managed) if wrapper else managed
    return Function(
        name=logical,
        folder=folder,
        handler=handler,
        command=command,
        # What the template says outright; what it refers to is in `environ` already.
        environ={**{name: value for name, value in variables.items() if isinstance(value, str)}, **environ},
        timeout_s=float(properties["Timeout"]),
        concurrency=concurrency,
        snap_start=snap_start,
    )


def _resolved(value: Any) -> Any:
    """A template's value with its conditions decided; None for no value."""
    if isinstance(value, dict) and "Fn::If" in value:
        name, yes, no = value["Fn::If"]
        return _resolved(yes if CONDITIONS.get(name, False) else no)
    return None if isinstance(value, dict) else value


@asynccontextmanager
async def lambdas(
    environ: Mapping[str, str],
    clock: Clock,
    *,
    place: socket.socket | None = None,
    concurrency: int = 4,
    snap_start: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Running]:
    """The gateway behind its URL; with a queue in `environ` also the worker and, every few minutes, the upkeep."""
    async with AsyncExitStack() as stack:
        gateway = declared("GatewayFunction", environ, concurrency=concurrency, snap_start=snap_start)
        pool = await stack.enter_async_context(pooled(gateway, clock, log=log))
        worker = upkeep = None
        tasks: list[asyncio.Task[None]] = []
        queue = environ.get("EDGEWISE_JOBS_QUEUE_URL")
        if queue:
            aws = Aws(local_options(environ["EDGEWISE_LOCAL_AWS_URL"]))
            stack.callback(aws.close)
            batch_size, workers = job_source()
            worker = await stack.enter_async_context(
                pooled(declared("WorkerFunction", environ, concurrency=workers), clock, log=log)
            )
            upkeep = await stack.enter_async_context(
                pooled(declared("UpkeepFunction", environ, concurrency=1), clock, log=log)
            )
            source = QueueSource(aws, queue, worker, clock, batch_size=batch_size)
            tasks = [asyncio.create_task(source.run()), asyncio.create_task(_regularly(upkeep, clock, log))]
        runner, bound = await listen(Front(pool, clock), place)
        try:
            yield Running(bound, pool, worker, upkeep)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()


def job_source() -> tuple[int, int]:
    """Messages that a worker is given at once, and workers at most, as the template has them by default."""
    template = load(CHECKOUT / "template.yaml")
    source = template["Resources"]["WorkerFunction"]["Properties"]["Events"]["Jobs"]["Properties"]
    most = template["Parameters"][source["ScalingConfig"]["MaximumConcurrency"]["Ref"]]
    return int(source["BatchSize"]), int(most["Default"])


async def _regularly(upkeep: Pool, clock: Clock, log: Callable[[str], None]) -> None:
    while True:
        await clock.sleep(UPKEEP_EVERY_S)
        try:
            await (await upkeep.invoke(b"{}")).whole()
        except FunctionFailed as error:
            log(f"upkeep: {error}")


async def serve_lambda(place: socket.socket, concurrency: int) -> None:
    """Run the functions with this process's environment until cancelled (Ctrl-C)."""

    def log(line: str) -> None:
        print(f"lambda: {line}", file=sys.stderr, flush=True)

    async with lambdas(os.environ, SystemClock(), place=place, concurrency=concurrency, log=log):
        await asyncio.Event().wait()
