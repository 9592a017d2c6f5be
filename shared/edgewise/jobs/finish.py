"""A batch's end: its output and error files, its final counts, its last state.

The files are written from the lines' results, chunk by chunk, under ids that follow from the batch's, so that a
finish that died and starts again writes the same files. The counts are taken anew from what was written: they and
the files cannot disagree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

import orjson

from edgewise.errors import NotFound
from edgewise.jobs.batch import Batch, Result, Status, Tally, request_id
from edgewise.jobs.files import File, Wanted
from edgewise.jobs.lines import Chunk, Draft, cut, parsed
from edgewise.jobs.ports import Sink
from edgewise.jobs.room import Again, Room

AT_ONCE = 8
STOPPING_S = 600
"""How long a batch that is being stopped waits for lines under way."""

TELLING_S = 86_400
"""How long it is tried to tell a webhook."""

Ended = Callable[[Batch], Awaitable[bool]]
"""Tells whoever is owed a word that the batch has ended; False: it did not arrive. Told twice, it has one id."""


@dataclass(slots=True)
class _Output:
    """One of the two files, made when its first line comes."""

    room: Room
    file: File
    sink: Sink | None = None

    async def add(self, result: Result) -> None:
        if self.sink is None:
            self.sink = self.room.blobs.sink(self.file.key)
        await self.sink.write(orjson.dumps(result.wire()) + b"\n")

    async def close(self) -> str | None:
        """The file's id, or None when there was nothing to write."""
        if self.sink is None:
            return None
        size = await self.sink.close()
        await self.room.files.index.put_file(replace(self.file, size=size))
        return self.file.id


@dataclass(slots=True)
class _Files:
    good: _Output
    bad: _Output
    tally: Tally = field(default_factory=Tally)


async def finish(room: Room, batch_id: str, ended: Ended | None = None) -> None:
    """Bring a batch to its end if it has come to it, and tell of it. Raises Again while lines of a stopped one are
    under way."""
    batch = await room.batches.get(batch_id)
    if batch is None:
        await room.batches.retire(batch_id)
        return
    if batch.ended:
        await _tell(room, batch, ended)
        return
    overdue = batch.expires_at <= room.clock.now()
    if batch.status == "validating" and overdue:
        await _end(room, batch, "expired", ended)
        return
    if batch.status in ("in_progress", "cancelling"):
        complete = batch.chunks_done >= batch.chunks
        if batch.status == "in_progress" and not complete and not overdue:
            return
        since = batch.times.get("cancelling_at", batch.expires_at)
        if not complete and room.clock.now() < since + STOPPING_S and await room.batches.held_chunks(batch.id):
            raise Again(2)
    if batch.status == "in_progress":
        batch = await room.batches.move(batch.id, "finalizing")
    if batch is None or batch.status not in ("finalizing", "cancelling"):
        return
    to: Status = "cancelled" if batch.status == "cancelling" else "completed"
    if to == "completed" and batch.chunks_done < batch.chunks:
        to = "expired"
    await _end(room, batch, to, ended)


async def _end(room: Room, batch: Batch, to: Status, ended: Ended | None) -> None:
    files = _Files(_output(room, batch, "output"), _output(room, batch, "error"))
    if batch.chunks:
        await _write(room, batch, to, files)
    moved = await room.batches.move(
        batch.id,
        to,
        final=files.tally,
        output_file_id=await files.good.close(),
        error_file_id=await files.bad.close(),
        **batch.debt(room.clock.now()),
    )
    if moved is not None:
        room.meter.add(f"batches_{to}")
        await _tell(room, moved, ended)


async def _tell(room: Room, batch: Batch, ended: Ended | None) -> None:
    """Send the word that is owed of an ended batch, and put the batch away when it has arrived. Until then upkeep
    comes back here; the waits double."""
    now = room.clock.now()
    if batch.owed_at is not None and ended is not None:
        if now < batch.owed_at:
            return
        since_s = now - batch.times[f"{batch.status}_at"]
        if not await ended(batch) and since_s < TELLING_S:
            await room.batches.note(batch.id, owed_at=int(now + max(60.0, since_s)))
            return
        await room.batches.note(batch.id, owed_at=None)
    await room.batches.retire(batch.id)


def _output(room: Room, batch: Batch, kind: str) -> _Output:
    wanted = Wanted(f"{batch.id}_{kind}.jsonl", "batch_output", batch.output_expires_s)
    return _Output(room, room.files.draft(batch.tenant, wanted, id=f"file-{batch.id.removeprefix('batch_')}-{kind}"))


async def _write(room: Room, batch: Batch, to: Status, files: _Files) -> None:
    draft = await room.draft(batch.id)
    for start in range(0, len(draft.chunks), AT_ONCE):
        some = draft.chunks[start : start + AT_ONCE]
        for results in await asyncio.gather(*(_results(room, batch, draft, chunk, to) for chunk in some)):
            for result in results:
                files.tally += result.tally()
                await (files.good if result.ok else files.bad).add(result)


async def _results(room: Room, batch: Batch, draft: Draft, chunk: Chunk, to: Status) -> list[Result]:
    """A result for every line of the chunk, in order: its own, its leader's, or why there is none."""
    try:
        block = await room.blobs.read(f"files/{batch.tenant}/{batch.input_file_id}", chunk.start, chunk.end)
    except NotFound:
        return list((await room.batches.worked(batch.id, chunk.number, calls=False)).results.values())
    own = (await room.batches.worked(batch.id, chunk.number, calls=False)).results
    asked = {draft.leaders[line] for line in chunk.followers}
    led = {r.line: r for r in await room.batches.results(batch.id, [(where, line) for line, where in asked])}
    results = []
    for line in cut(block, chunk.first):
        request = parsed(line)
        leader = draft.leaders.get(line.number)
        result = own.get(line.number) if leader is None else led.get(leader[0])
        if result is None:
            code = "batch_expired" if to == "expired" else "batch_cancelled"
            error = {"code": code, "message": "The batch ended before this line was run."}
            result = Result(line.number, request.custom_id, request_id(batch.id, line.number), None, error=error)
        elif leader is not None:
            result = replace(
                result,
                line=line.number,
                custom_id=request.custom_id,
                request_id=request_id(batch.id, line.number),
                cost_usd=Decimal(0),
                cached=result.ok,
            )
        results.append(result)
    return results
