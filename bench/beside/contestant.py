"""A server under measurement: started on a core of its own, asked until it answers, watched through /proc, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.beside.load import Ask, load

CORE, OTHER = 1, 0
ALIVE_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pinned(command: list[str], core: int, environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `command` on one core; what it prints is dropped, as a log collector would take it."""
    return subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@dataclass(slots=True)
class Contestant:
    """`command` holds PORT where the port goes. `model` turns a model's name into this server's spelling of it."""

    name: str
    command: list[str]
    headers: tuple[str, ...] = ()
    model: str = "{}"
    environ: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def ask(self, model: str, content: str, **rest: object) -> Ask:
        import orjson

        body = {"model": self.model.format(model), "messages": [{"role": "user", "content": content}], **rest}
        return Ask(self.port, orjson.dumps(body).decode(), self.headers)

    async def start(self) -> float:
        """Seconds from the start of the process to its first answer of 200."""
        self.port = free_port()
        began = time.perf_counter()
        self.process = pinned([word.replace("PORT", str(self.port)) for word in self.command], CORE, self.environ)
        while time.perf_counter() - began < ALIVE_S:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with status {self.process.returncode}")
            with contextlib.suppress(OSError):
                if (await load(self.ask("m", "first"), 1, 0)).answered:
                    return time.perf_counter() - began
            await asyncio.sleep(0.005)
        raise RuntimeError(f"{self.name} answered nothing with 200 in {ALIVE_S:.0f} s")

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def cpu_s(self) -> float:
        """CPU seconds of the process, its threads and its children so far (user and system)."""
        return sum(_scheduled_s(pid) for pid in self._tree())

    def rss_mb(self) -> float:
        return sum(_rss_mb(pid) for pid in self._tree())

    def _tree(self) -> list[int]:
        assert self.process is not None
        found, left = [], [self.process.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    left += [int(child) for child in children.read_text().split()]
        return found


def _scheduled_s(pid: int) -> float:
    """From the scheduler, in nanoseconds: the clock ticks of /proc/PID/stat are too coarse for short windows."""
    nanoseconds = 0
    with contextlib.suppress(OSError):
        for told in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            nanoseconds += int(told.read_text().split()[0])
    return nanoseconds / 1e9


def _rss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0
