"""Stores of the async room in memory, which behave as the real ones do under one contract (see test_contracts.py)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from edgewise.clock import Clock
from edgewise.errors import NotFound
from edgewise.jobs.answers.log import Event, number_of
from edgewise.jobs.batch import Batch, Result, Status, Tally, sources
from edgewise.jobs.files import File
from edgewise.jobs.paid import PaidCall
from edgewise.jobs.ports import Signed
from edgewise.jobs.store import Claimed, Done, Held, Worked
from edgewise.jobs.uploads import Upload


class MemorySink:
    def __init__(self, blobs: MemoryBlobs, key: str) -> None:
        self._blobs, self._key, self._held = blobs, key, bytearray()

    async def write(self, piece: bytes) -> None:
        self._held += piece

    async def close(self) -> int:
        self._blobs.objects[self._key] = bytes(self._held)
        return len(self._held)

    async def abort(self) -> None:
        self._held.clear()


class MemoryBlobs:
    def __init__(self, piece_bytes: int = 65_536) -> None:
        self.objects: dict[str, bytes] = {}
        self.piece_bytes = piece_bytes

    def sink(self, key: str) -> MemorySink:
        return MemorySink(self, key)

    def _found(self, key: str) -> bytes:
        if key not in self.objects:
            raise NotFound("The object is not there.")
        return self.objects[key]

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        whole = self._found(key)
        for start in range(0, len(whole), self.piece_bytes):
            yield whole[start : start + self.piece_bytes]

    async def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self._found(key)[start:end]

    async def size(self, key: str) -> int | None:
        return len(self.objects[key]) if key in self.objects else None

    async def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    async def presign(self, key: str, size: int, within_s: int) -> Signed:
        return Signed(f"http://127.0.0.1/{key}", "PUT", {"content-length": str(size)})


@dataclass(slots=True)
class Message:
    id: str
    body: str
    group: str
    at: float
    receives: int = 0
    receipt: str = ""


@dataclass(slots=True)
class MemoryQueue:
    """SQS as far as a worker sees it: hidden messages come back, and after `tries` receives they are dead."""

    clock: Clock
    visibility_s: float = 30.0
    tries: int = 5
    messages: dict[str, Message] = field(default_factory=dict)
    dead: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    _count: Any = field(default_factory=itertools.count)

    async def send(self, message: Mapping[str, Any], *, group: str, delay_s: int = 0) -> None:
        self.sent.append(dict(message))
        self.post(orjson.dumps(message).decode(), group, delay_s)

    def post(self, body: str, group: str = "g", delay_s: float = 0) -> None:
        id = f"m{next(self._count)}"  # noqa: A001
        self.messages[id] = Message(id, body, group, self.clock.now() + delay_s)

    async def bury(self, message: Mapping[str, Any], *, group: str) -> None:
        self.dead.append(dict(message))

    async def hide(self, receipt: str, for_s: int) -> None:
        for message in self.messages.values():
            if message.receipt == receipt:
                message.at = self.clock.now() + for_s

    async def redrive(self, limit: int) -> int:
        moved, self.dead = self.dead[:limit], self.dead[limit:]
        for message in moved:
            await self.send(message, group="redriven")
        return len(moved)

    def receive(self, most: int) -> list[dict[str, Any]]:
        """Records as Lambda's event has them."""
        now = self.clock.now()
        records: list[dict[str, Any]] = []
        for message in list(self.messages.values()):
            if message.at > now or len(records) >= most:
                continue
            if message.receives >= self.tries:
                self.dead.append(orjson.loads(message.body))
                del self.messages[message.id]
                continue
            message.receives += 1
            message.at = now + self.visibility_s
            message.receipt = f"{message.id}:{message.receives}"
            records.append(record(message))
        return records

    def delete(self, receipt: str) -> None:
        for message in list(self.messages.values()):
            if message.receipt == receipt:
                del self.messages[message.id]


def record(message: Message) -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": str(message.receives), "MessageGroupId": message.group}
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt,
        "body": message.body,
        "attributes": attributes,
        "eventSource": "aws:sqs",
    }


class MemoryFiles:
    """Files and uploads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.files: dict[str, File] = {}
        self.uploads: dict[str, Upload] = {}

    async def put_file(self, file: File) -> None:
        self.files[file.id] = file

    async def file(self, id: str) -> File | None:
        return self.files.get(id)

    async def list_files(
        self, tenant: str, *, purpose: str | None, after: File | None, forward: bool, limit: int
    ) -> list[File]:
        now = self._clock.now()
        found = sorted(
            (f for f in self.files.values() if f.tenant == tenant and (f.expires_at is None or f.expires_at > now)),
            key=lambda f: (f.created_at, f.id),
            reverse=not forward,
        )
        if after is not None:
            mark = (after.created_at, after.id)
            found = [f for f in found if ((f.created_at, f.id) > mark) == forward and f.id != after.id]
        return [f for f in found if purpose in (None, f.purpose)][:limit]

    async def delete_file(self, id: str) -> None:
        self.files.pop(id, None)

    async def put_upload(self, upload: Upload) -> None:
        self.uploads[upload.id] = upload

    async def upload(self, id: str) -> Upload | None:
        return self.uploads.get(id)

    async def add_part(self, id: str, part: str, size: int) -> bool:
        upload = self.uploads[id]
        if upload.status != "pending":
            return False
        self.uploads[id] = replace(upload, parts={**upload.parts, part: size})
        return True

    async def end_upload(self, id: str, status: str, file_id: str | None = None) -> bool:
        upload = self.uploads[id]
        if upload.status != "pending":
            return False
        self.uploads[id] = replace(upload, status=status, file_id=file_id)
        return True


@dataclass(slots=True)
class _Chunk:
    holder: str = ""
    lease_until: float = 0.0
    claims: int = 0
    tries: int = 0
    done: Tally | None = None
    suspects: list[int] = field(default_factory=list)
    strikes: dict[int, int] = field(default_factory=dict)


class MemoryBatches:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.batches: dict[str, Batch] = {}
        self.chunks: dict[tuple[str, int], _Chunk] = {}
        self.lines: dict[tuple[str, int, int], Result] = {}
        self.calls: dict[tuple[str, int, int, str], PaidCall] = {}
        self._active: set[str] = set()

    async def create(self, batch: Batch) -> bool:
        self._active.add(batch.id)
        if batch.id in self.batches:
            return False
        self.batches[batch.id] = batch
        return True

    async def get(self, id: str) -> Batch | None:
        return self.batches.get(id)

    async def page(self, tenant: str, after: Batch | None, limit: int) -> list[Batch]:
        own = [b for b in self.batches.values() if b.tenant == tenant]
        own.sort(key=lambda b: (b.created_at, b.id), reverse=True)
        if after is not None:
            own = [b for b in own if (b.created_at, b.id) < (after.created_at, after.id)]
        return own[:limit]

    async def active(self) -> AsyncIterator[str]:
        for id in sorted(self._active):  # noqa: A001
            yield id

    async def retire(self, id: str) -> None:
        self._active.discard(id)

    async def move(self, id: str, to: Status, **changes: Any) -> Batch | None:
        batch = self.batches[id]
        if batch.status not in sources(to):
            return None
        if "errors" in changes:
            changes["errors"] = tuple(changes["errors"])
        times = {**batch.times, f"{to}_at": int(self._clock.now())}
        self.batches[id] = replace(batch, status=to, times=times, **changes)
        return self.batches[id]

    async def note(self, id: str, **changes: Any) -> None:
        self.batches[id] = replace(self.batches[id], **changes)

    def _chunk(self, id: str, chunk: int) -> _Chunk:
        return self.chunks.setdefault((id, chunk), _Chunk())

    async def claim(self, id: str, chunk: int, owner: str, lease_s: float) -> Claimed | Held | Done:
        now, it = self._clock.now(), self._chunk(id, chunk)
        if it.done is not None:
            return Done(it.done)
        if it.lease_until >= now and it.holder not in ("", owner):
            return Held(it.lease_until)
        it.holder, it.lease_until = owner, now + lease_s
        it.claims, it.tries = it.claims + 1, it.tries + 1
        strikes = dict(it.strikes)
        for line in it.suspects:
            strikes[line] = strikes.get(line, 0) + 1
        return Claimed(it.claims, it.tries == 1, strikes)

    async def suspect(self, id: str, chunk: int, lines: list[int], strikes: Mapping[int, int]) -> None:
        it = self._chunk(id, chunk)
        it.suspects, it.strikes = list(lines), dict(strikes)

    async def renew(self, id: str, chunk: int, owner: str, lease_s: float, done: tuple[int, int]) -> bool:
        it, batch = self._chunk(id, chunk), self.batches[id]
        if it.holder != owner or it.done is not None or batch.status != "in_progress":
            return False
        it.lease_until = self._clock.now() + lease_s
        self.batches[id] = replace(batch, live={**batch.live, chunk: done})
        return True

    async def release(self, id: str, chunk: int, owner: str) -> None:
        it = self._chunk(id, chunk)
        if it.holder == owner and it.done is None:
            it.lease_until, it.claims, it.suspects = 0.0, 0, []

    async def worked(self, id: str, chunk: int, *, calls: bool) -> Worked:
        worked = Worked()
        worked.results = {line: r for (b, c, line), r in self.lines.items() if (b, c) == (id, chunk)}
        if calls:
            worked.calls = {(line, k): call for (b, c, line, k), call in self.calls.items() if (b, c) == (id, chunk)}
        return worked

    async def results(self, id: str, lines: list[tuple[int, int]]) -> list[Result]:
        return [self.lines[(id, c, line)] for c, line in lines if (id, c, line) in self.lines]

    async def put_result(self, id: str, chunk: int, result: Result) -> bool:
        return self.lines.setdefault((id, chunk, result.line), result) is result

    async def put_call(self, id: str, chunk: int, line: int, key: str, call: PaidCall) -> None:
        self.calls[(id, chunk, line, key)] = call

    async def finish_chunk(self, id: str, chunk: int, tally: Tally) -> None:
        it = self._chunk(id, chunk)
        it.done, it.lease_until = it.done or tally, 0.0

    async def count(self, id: str, chunk: int, tally: Tally) -> Batch | None:
        batch = self.batches.get(id)
        if batch is None:
            return None
        live = {number: part for number, part in batch.live.items() if number != chunk}
        self.batches[id] = replace(batch, parts={**batch.parts, chunk: tally}, live=live)
        return self.batches[id]

    async def held_chunks(self, id: str) -> int:
        now = self._clock.now()
        return sum(c.done is None and c.lease_until > now for (b, _), c in self.chunks.items() if b == id)


class MemoryStretches:
    """One answer's events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.written: list[Sequence[Event]] = []

    async def tell(self, id: str, events: Sequence[Event], expires_at: int) -> bool:
        if number_of(events[0]) != len(self.events):
            return False
        self.written.append(events)
        self.events += events
        return True

    @property
    def writes(self) -> int:
        return len(self.written)

    async def told(self, id: str, after: int = -1) -> list[Event]:
        return self.events[after + 1 :]
