"""Lambda's execution environments on loopback: runtime processes that hold one request each.

What it imitates, because code depends on it: an environment is started when none is idle (a cold start, counted) and
never beyond `concurrency` (then the caller is throttled); the one used last is used first; between invocations the
process is frozen with SIGSTOP, from the moment that it asks for the next event; one that overruns its time is killed
with everything in it; with `snap_start` a process is held where its snapshot would be taken until it is needed.

What it does not: memory limits, file systems, credentials. One process is not isolated from another.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from edgewise.clock import Clock
from edgewise.local.runtime_api import Call, FunctionFailed, RuntimeApi

TIMED_OUT = "Sandbox.Timedout"


class Throttled(Exception):
    """Every environment is busy, and there may be no more."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function as the template describes it. `command` is what the platform starts; it finds its code in `folder`.

    timeout_s is counted from the invocation; a start may take `start_timeout_s` before that.
    """

    name: str
    folder: Path
    handler: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 120.0
    start_timeout_s: float = 30.0
    concurrency: int = 4
    snap_start: bool = False
    layers: tuple[Path, ...] = ()
    """Folders that go before everything else on the runtime's import path."""


@dataclass(slots=True)
class Counts:
    """What has happened in a pool since it was made."""

    invocations: int = 0
    cold_starts: int = 0
    restores: int = 0
    freezes: int = 0
    throttled: int = 0
    killed: int = 0
    start_s: list[float] = field(default_factory=list)
    """Seconds from starting each process until it asked for work."""


class Environment:
    """One runtime process and its Runtime API."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self.api = RuntimeApi()
        self.process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self.frozen = False

    async def start(self) -> None:
        """Start the process. It shares this one's session, so frozen ones don't outlive it: the kernel hangs up on
        stopped process groups that lose their parent."""
        function = self._function
        await self.api.start()
        paths = [*map(str, function.layers), os.environ.get("PYTHONPATH", "")]
        environ = {
            **os.environ,
            **function.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start" if function.snap_start else "on-demand",
            "LAMBDA_TASK_ROOT": str(function.folder),
            "_HANDLER": function.handler,
        }
        self.process = await asyncio.create_subprocess_exec(
            *function.command, env=environ, cwd=function.folder, process_group=0
        )
        self._watch = asyncio.create_task(self._watched())

    async def _watched(self) -> None:
        assert self.process is not None
        await self.process.wait()
        self.api.fail(FunctionFailed("Runtime.ExitError"))

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.frozen = False

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._watch is not None:
            await self._watch
        self.api.stop()

    def _signal(self, number: signal.Signals) -> None:
        if self.alive and self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


class Pool:
    """A function's environments. `invoke` is the only door; `close` ends every process."""

    def __init__(self, function: Function, clock: Clock, *, log: Callable[[str], None] = lambda _: None) -> None:
        self.function = function
        self.counts = Counts()
        self._clock, self._log = clock, log
        self._idle: list[Environment] = []
        self._all: set[Environment] = set()
        self._starting = 0
        self._overseers: set[asyncio.Task[None]] = set()

    @property
    def environments(self) -> tuple[Environment, ...]:
        return tuple(self._all)

    async def invoke(self, event: bytes) -> Call:
        """Start an invocation; its answer comes through the returned call. Raises Throttled and FunctionFailed."""
        environment = await self._take()
        environment.thaw()
        self.counts.invocations += 1
        deadline_s = self._clock.now() + self.function.timeout_s
        call = Call(
            request_id=self._clock.token("req-"),
            event=event,
            deadline_ms=int(deadline_s * 1000),
            trace_id=f"Root=1-{int(self._clock.now()):08x}-{self._clock.token('')};Sampled=0",
            function_arn=f"arn:aws:lambda:us-east-1:000000000000:function:{self.function.name}",
        )
        environment.api.invoke(call)
        task = asyncio.create_task(self._oversee(environment))
        self._overseers.add(task)
        task.add_done_callback(self._overseers.discard)
        return call

    async def settle(self) -> None:
        """Wait until no invocation is under way and every environment is frozen or gone."""
        while self._overseers:
            await asyncio.wait(set(self._overseers))

    async def prepare(self) -> None:
        """Start one environment ahead of need, as publishing a version under SnapStart does."""
        self._keep(await self._start())

    async def close(self) -> None:
        for task in list(self._overseers):
            task.cancel()
        await asyncio.gather(*(environment.kill() for environment in self._all))
        self._all.clear()
        self._idle.clear()

    async def _take(self) -> Environment:
        while self._idle:
            environment = self._idle.pop()
            if environment.alive:
                return await self._restored(environment)
            self._all.discard(environment)
        if len(self._all) + self._starting >= self.function.concurrency:
            self.counts.throttled += 1
            raise Throttled(self.function.name)
        return await self._restored(await self._start())

    async def _start(self) -> Environment:
        self._starting += 1
        self.counts.cold_starts += 1
        environment = Environment(self.function)
        began = self._clock.tick()
        try:
            await environment.start()
            ready = environment.api.snapshot() if self.function.snap_start else environment.api.idle()
            await within(self._clock, self.function.start_timeout_s, ready)
        except TimeoutError as error:
            await environment.kill()
            raise FunctionFailed(TIMED_OUT, {"errorMessage": "The function did not start in time."}) from error
        except BaseException:
            # Cancelled, too: the process would outlive everybody who knows of it.
            await environment.kill()
            raise
        finally:
            self._starting -= 1
        self.counts.start_s.append(self._clock.tick() - began)
        self._log(f"{self.function.name}: cold start, {self.counts.start_s[-1]:.2f} s")
        self._all.add(environment)
        return environment

    async def _restored(self, environment: Environment) -> Environment:
        """Pass a snapshotted environment through its restore; others are ready."""
        if self.function.snap_start and not environment.api.restored:
            self.counts.restores += 1
            environment.thaw()
            environment.api.restore()
            try:
                await environment.api.idle()
            except FunctionFailed:
                self._all.discard(environment)
                await environment.kill()
                raise
        return environment

    async def _oversee(self, environment: Environment) -> None:
        """See an invocation to its end: freeze when the process asks for more, kill when it overruns."""
        try:
            await within(self._clock, self.function.timeout_s, environment.api.idle())
        except TimeoutError:
            self.counts.killed += 1
            self._log(f"{self.function.name}: killed after {self.function.timeout_s:g} s")
            environment.api.fail(FunctionFailed(TIMED_OUT))
            self._all.discard(environment)
            await environment.kill()
        except FunctionFailed:
            self._all.discard(environment)
            await environment.kill()
        else:
            self._keep(environment)

    def _keep(self, environment: Environment) -> None:
        environment.freeze()
        self.counts.freezes += 1
        self._idle.append(environment)


async def within(clock: Clock, seconds: float, work: Coroutine[None, None, None]) -> None:
    """Await `work` for at most `seconds` of `clock`. Raises TimeoutError."""
    working, waiting = asyncio.create_task(work), asyncio.create_task(clock.sleep(seconds))
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise TimeoutError
        working.result()
    finally:
        working.cancel()
        waiting.cancel()


@asynccontextmanager
async def pooled(
    function: Function, clock: Clock, *, log: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Pool]:
    """A pool that ends its processes on the way out."""
    pool = Pool(function, clock, log=log)
    try:
        yield pool
    finally:
        await pool.close()
