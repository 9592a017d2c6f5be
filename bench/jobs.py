"""The async room: lines per second beside the ideal, CPU and memory, and what a large tenant costs a small one.

    edgewise bench jobs [--only throughput|memory|fairness] [--lines N] [--store memory|moto]

throughput  N lines at 50 at once against an HTTP upstream in a process of its own that takes 1 s for each. The ideal
            is lines × latency / concurrency; what is missing to it is ours. CPU is this process's: worker, corridor
            with scripted rooms, HTTP client and the store's client. `memory` stores wait 5 ms a call, as a table in
            the region would; `moto` is a real DynamoDB, S3 and SQS client against a stand-in on this machine, whose
            own CPU (about 4 ms a call) is taken from the same cores.
memory      a file of 50,000 lines is checked, planned, worked and written out, in a process of its own, over stores
            on disk; the figure is that process's highest resident size.
fairness    10 lines of a small tenant alone, and while 10,000 lines of a large one are worked, on as many workers as
            the template has, which take messages in the order in which they came (SQS's own fair delivery only helps).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import pickle
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from tests import fakes
from tests.jobs.fakes import MemoryBatches, MemoryBlobs, MemoryQueue
from tests.jobs.rig import Rig, answer, chat_line, make_rig
from tests.jobs.stack import Places, impersonate, pump, room_at

from edgewise.api.lines import Lines
from edgewise.clock import SystemClock
from edgewise.jobs.batch import Result
from edgewise.jobs.ports import Ask, Ran
from edgewise.jobs.room import Room
from edgewise.jobs.share import Share
from edgewise.jobs.store import Worked
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from edgewise.local.serve import job_source

AT_ONCE = 50
LATENCY_S = 1.0
STORE_S = 0.005
RUNS = 5


def _upstream(pipe: Any) -> None:
    """A process that answers every request after a second."""
    from aiohttp import web

    async def serve() -> None:
        async def reply(request: web.Request) -> web.Response:
            text = (await request.json())["text"]
            await asyncio.sleep(LATENCY_S)
            return web.json_response({"text": text})

        application = web.Application()
        application.router.add_post("/", reply)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        pipe.send(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        await asyncio.Event().wait()

    asyncio.run(serve())


def _moto(pipe: Any) -> None:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    pipe.send(f"http://{host}:{port}")
    time.sleep(3600)


def started(target: Any) -> tuple[Any, str]:
    """A process that says where it listens."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=target, args=(theirs,), daemon=True)
    process.start()
    return process, mine.recv()


class Distant:
    """A store that takes a while for each call, as one at the other end of a network does."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def later(*arguments: Any, **named: Any) -> Any:
            await asyncio.sleep(STORE_S)
            return await found(*arguments, **named)

        return later


async def memory_pump(queue: MemoryQueue, worker: Worker, most: int) -> None:
    while True:
        records = queue.receive(most)
        if not records:
            await asyncio.sleep(0.01)
            continue
        told = await worker.handle({"Records": records}, 900.0)
        failed = {entry["itemIdentifier"] for entry in told["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed:
                queue.delete(record["receiptHandle"])


async def ended(room: Room, id: str) -> Any:
    while not (batch := await room.batches.get(id)) or not batch.ended:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return batch


@dataclass(frozen=True, slots=True)
class Speed:
    seconds: float
    cpu_s: float


async def throughput(lines: int, store: str, upstream: str) -> Speed:
    from tests.jobs.mortal import HttpCaller

    clock = SystemClock()
    moto = None
    if store == "moto":
        from edgewise.aws import Aws, AwsOptions
        from edgewise.dynamo import Keys, Source
        from edgewise.local import template

        moto, url = started(_moto)
        keys = Keys("local", "local")
        aws = Aws(AwsOptions("us-east-1", url, keys.access, keys.secret, read_timeout_s=30, lean=Source(keys)))
        await template.create_table(aws, "StateTable", "state")
        await template.create_bucket(aws, "bucket-of-jobs")
        places = Places("state", "bucket-of-jobs", *await template.create_queues(aws, "jobs"))
        room, _ = room_at(aws, places, clock)
        rig = make_rig(clock)
        rig.room = room
    else:
        stores: dict[str, Any] = {"batches": Distant(MemoryBatches(clock)), "blobs": Distant(MemoryBlobs())}
        rig = make_rig(clock, **stores)
        room = rig.room
    caller = HttpCaller(upstream)
    rooms = fakes.rooms(clock=clock, caller=caller)
    worker = Worker(room, ChunkWork(room, Lines(lambda: rooms, impersonate), Share(clock, AT_ONCE)))
    pumping = pump(aws, places.queue, worker.handle) if moto else memory_pump(rig.queue, worker, 10)
    batch = await rig.submit([chat_line(f"c{n}", f"question {n}") for n in range(lines)])
    began, cpu = time.perf_counter(), time.process_time()
    task = asyncio.create_task(pumping)
    done = await ended(room, batch.id)
    speed = Speed(time.perf_counter() - began, time.process_time() - cpu)
    assert done.wire()["request_counts"] == {"total": lines, "completed": lines, "failed": 0}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert caller._session is not None
    await caller._session.close()
    if moto is not None:
        moto.kill()
    return speed


class DiskBlobs(MemoryBlobs):
    """Objects as files."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def _path(self, key: str) -> Path:
        return self.folder / key.replace("/", "_")

    def sink(self, key: str) -> Any:
        return DiskSink(self._path(key))

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        with self._path(key).open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece

    async def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        with self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)


class DiskSink:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    async def write(self, piece: bytes) -> None:
        self._file.write(piece)

    async def close(self) -> int:
        size = self._file.tell()
        self._file.close()
        return size

    async def abort(self) -> None:
        self._file.close()


class DiskBatches(MemoryBatches):
    """Results in a file, the rest in memory."""

    def __init__(self, clock: Any, folder: Path) -> None:
        super().__init__(clock)
        self._rows = sqlite3.connect(folder / "rows", isolation_level=None)
        self._rows.execute("PRAGMA synchronous = OFF")
        self._rows.execute("CREATE TABLE rows (chunk INT, line INT PRIMARY KEY, result BLOB)")

    async def put_result(self, id: str, chunk: int, result: Result) -> bool:
        row = (chunk, result.line, pickle.dumps(result))
        return self._rows.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", row).rowcount == 1

    async def worked(self, id: str, chunk: int, *, calls: bool) -> Worked:
        rows = self._rows.execute("SELECT line, result FROM rows WHERE chunk = ?", (chunk,))
        return Worked({line: pickle.loads(result) for line, result in rows})


def _memory(pipe: Any) -> None:
    """Work a file of 50,000 lines of about 1.2 kB and say how large this process became, before and after, in MB."""

    async def run(folder: Path) -> None:
        clock = SystemClock()
        rig = make_rig(clock, batches=DiskBatches(clock, folder), blobs=DiskBlobs(folder))

        async def instantly(ask: Ask) -> Ran:
            return Ran(200, answer(ask))

        async def lines() -> AsyncIterator[bytes]:
            for n in range(50_000):
                yield orjson.dumps(chat_line(f"custom-id-{n}", f"question {n} " + "word " * 220)) + b"\n"

        from edgewise.jobs import start
        from edgewise.jobs.files import Wanted

        file = await rig.room.files.store("acme", Wanted("in.jsonl", "batch"), lines())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        worker = Worker(rig.room, ChunkWork(rig.room, instantly, Share(clock, AT_ONCE)))
        wanted = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": file.id}
        batch = await start.create(rig.room, "acme", "k", wanted)
        task = asyncio.create_task(memory_pump(rig.queue, worker, 10))
        done = await ended(rig.room, batch.id)
        task.cancel()
        assert done.tally.completed == 50_000
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        pipe.send((file.size / 1e6, before, peak, time.process_time() * 1000 / 50_000))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def small_beside_large(large: int, latency_s: float = 0.25) -> float:
    """Seconds that 10 lines take, from submission to the end, while `large` lines of another tenant are worked."""
    clock = SystemClock()
    rig: Rig = make_rig(clock, batches=Distant(MemoryBatches(clock)), blobs=Distant(MemoryBlobs()))

    async def run(ask: Ask) -> Ran:
        await asyncio.sleep(latency_s)
        return Ran(200, answer(ask))

    batch_size, most = job_source()
    workers = [Worker(rig.room, ChunkWork(rig.room, run, Share(clock, AT_ONCE))) for _ in range(most)]
    tasks = [asyncio.create_task(memory_pump(rig.queue, worker, batch_size)) for worker in workers]
    if large:
        await rig.submit([chat_line(f"c{n}", f"large {n}") for n in range(large)], tenant="large")
        await asyncio.sleep(3)
    began = time.perf_counter()
    batch = await rig.submit([chat_line(f"c{n}", f"small {n}") for n in range(10)], tenant="small")
    await ended(rig.room, batch.id)
    seconds = time.perf_counter() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seconds


def show_throughput(lines: int, store: str) -> None:
    process, url = started(_upstream)
    ideal = lines * LATENCY_S / AT_ONCE
    speed = asyncio.run(throughput(lines, store, url))
    process.kill()
    print(f"throughput  {lines} lines, {AT_ONCE} at once, upstream {LATENCY_S:.0f} s, {store} stores")
    print(f"            ideal {ideal:.1f} s = {lines / ideal:.1f} lines/s")
    print(f"            ours  {speed.seconds:.1f} s = {lines / speed.seconds:.1f} lines/s: {ideal / speed.seconds:.1%}")
    print(f"            worker CPU {speed.cpu_s / lines * 1000:.2f} ms a line")


def show_memory() -> None:
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_memory, args=(theirs,))
    process.start()
    size, before, peak, cpu_ms = mine.recv()
    process.join()
    print(f"memory      50,000 lines, {size:.0f} MB: {peak:.0f} MB at most ({before:.0f} MB before), bound 300 MB")
    print(f"            {cpu_ms:.2f} ms of CPU a line, answers costing nothing, stores on disk")


def show_fairness() -> None:
    alone = statistics.median(asyncio.run(small_beside_large(0)) for _ in range(RUNS))
    times = sorted(asyncio.run(small_beside_large(10_000)) / alone for _ in range(RUNS))
    print(f"fairness    10 lines alone {alone:.2f} s, beside 10,000 of another tenant {times[RUNS // 2] * alone:.2f} s")
    print(f"            {times[RUNS // 2]:.2f} times ({times[0]:.2f} to {times[-1]:.2f} in {RUNS} runs), bound 2")


def main() -> None:
    parser = argparse.ArgumentParser(prog="edgewise bench jobs", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("throughput", "memory", "fairness"))
    parser.add_argument("--lines", type=int, default=1500)
    parser.add_argument("--store", choices=("memory", "moto"), default="memory")
    asked = parser.parse_args()
    if asked.only in (None, "throughput"):
        show_throughput(asked.lines, asked.store)
    if asked.only in (None, "memory"):
        show_memory()
    if asked.only in (None, "fairness"):
        show_fairness()


if __name__ == "__main__":
    main()
