"""A whole async room around a run that a test scripts, and the pump that carries messages to its worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from edgewise.clock import Clock, FakeClock
from edgewise.jobs import start
from edgewise.jobs.batch import Batch
from edgewise.jobs.files import Files, Wanted
from edgewise.jobs.ports import Ask, Ran
from edgewise.jobs.room import Options, Room
from edgewise.jobs.share import Share
from edgewise.jobs.uploads import Uploads
from edgewise.jobs.work import ChunkWork
from edgewise.jobs.worker import Worker
from tests.jobs.fakes import MemoryBatches, MemoryBlobs, MemoryFiles, MemoryQueue

CHAT = "/v1/chat/completions"


def chat_line(custom_id: str, text: str = "hi", model: str = "m", **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


def answer(ask: Ask) -> dict[str, Any]:
    """An answer that says what was asked, so that a test sees a wrong one."""
    content = f"echo: {ask.body['messages'][-1]['content']}"
    return {
        "id": f"chatcmpl-{ask.request_id}",
        "object": "chat.completion",
        "created": 1,
        "model": ask.body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }


@dataclass(slots=True)
class Upstream:
    """A run that answers everything, unless `script` says otherwise; it remembers what it was asked."""

    script: Callable[[Ask, int], Awaitable[Ran | None]] | None = None
    asked: list[Ask] = field(default_factory=list)
    at_once: int = 0
    most: int = 0

    async def __call__(self, ask: Ask) -> Ran:
        self.asked.append(ask)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if self.script is not None:
                tries = sum(a.request_id == ask.request_id for a in self.asked)
                if (ran := await self.script(ask, tries)) is not None:
                    return ran
            return Ran(200, answer(ask), Decimal("0.001"))
        finally:
            self.at_once -= 1

    def texts(self) -> list[str]:
        return [ask.body["messages"][-1]["content"] for ask in self.asked]


@dataclass(slots=True)
class Counts:
    """A meter."""

    found: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, value: float = 1.0) -> None:
        self.found[name] = self.found.get(name, 0) + value


@dataclass(slots=True)
class Rig:
    room: Room
    run: Upstream
    clock: Any
    queue: MemoryQueue
    uploads: Uploads
    share: Share
    meter: Counts

    def worker(self, run: Any = None) -> Worker:
        return Worker(self.room, ChunkWork(self.room, run or self.run, self.share))

    async def upload(self, content: bytes, tenant: str = "acme") -> str:
        async def once() -> AsyncIterator[bytes]:
            yield content

        return (await self.room.files.store(tenant, Wanted("in.jsonl", "batch"), once())).id

    async def submit(self, content: bytes | list[dict[str, Any]], tenant: str = "acme", **asked: Any) -> Batch:
        file = await self.upload(content if isinstance(content, bytes) else jsonl(content), tenant)
        wanted = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file, **asked}
        return await start.create(self.room, tenant, f"key_{tenant}", wanted)

    async def batch(self, id: str) -> Batch:
        batch = await self.room.batches.get(id)
        assert batch is not None
        return batch

    async def pump(self, worker: Worker | None = None, *, rounds: int = 200, left_s: float = 900.0) -> None:
        """Carry messages until none is left, moving time on while they are hidden."""
        worker = worker or self.worker()
        for _ in range(rounds):
            records = self.queue.receive(10)
            if not records:
                if not self.queue.messages:
                    return
                await self.clock.advance(1)
                continue
            await self.deliver(worker, records, left_s)
        raise AssertionError(f"still {len(self.queue.messages)} messages after {rounds} rounds")

    async def deliver(self, worker: Worker, records: list[dict[str, Any]], left_s: float = 900.0) -> None:
        handling = asyncio.ensure_future(worker.handle({"Records": records}, left_s))
        while not handling.done():
            await self.clock.advance(0.5)
        failed = {entry["itemIdentifier"] for entry in handling.result()["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed:
                self.queue.delete(record["receiptHandle"])

    async def output(self, batch: Batch) -> dict[str, dict[str, Any]]:
        """Lines of both files by custom id; a custom id twice is an error."""
        found: dict[str, dict[str, Any]] = {}
        for name in (batch.output_file_id, batch.error_file_id):
            if name is not None:
                _, pieces = await self.room.files.content(batch.tenant, name)
                whole = b"".join([piece async for piece in pieces])
                for raw in whole.strip().split(b"\n"):
                    line = orjson.loads(raw)
                    assert line["custom_id"] not in found
                    found[line["custom_id"]] = line
        return found


def make_rig(clock: Clock | None = None, options: Options | None = None, most: int = 50, **stores: Any) -> Rig:
    clock = clock or FakeClock()
    index = stores.get("index") or MemoryFiles(clock)
    blobs = stores.get("blobs") or MemoryBlobs()
    queue = stores.get("queue") or MemoryQueue(clock)
    batches = stores.get("batches") or MemoryBatches(clock)
    files, meter = Files(index, blobs, clock), Counts()
    room = Room(files, batches, blobs, queue, clock, meter, options or Options())
    return Rig(room, Upstream(), clock, queue, Uploads(files, index), Share(clock, most), meter)


Script = Mapping[str, Any]
