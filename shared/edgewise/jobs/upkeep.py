"""What a schedule does for the async room: nothing stays stuck, whatever was lost on the way.

A message can be lost to the dead-letter queue, a worker can die between two steps. Every few minutes each batch that
has not ended is looked at; one that has not moved since the last look is given its messages again. They are harmless
if the old ones were still there.
"""

from __future__ import annotations

from edgewise.errors import Unavailable, UpstreamError
from edgewise.jobs.batch import Batch
from edgewise.jobs.remote import Remote
from edgewise.jobs.room import Room


async def sweep(room: Room, remote: Remote | None = None) -> int:
    """Look at every active batch once; how many were given a push. `remote` looks after those that are away."""
    pushed = 0
    async for name in room.batches.active():
        batch = await room.batches.get(name)
        if batch is None or (batch.ended and batch.owed_at is None):
            await room.batches.retire(name)
        elif batch.ended:
            # Its end was written down and the word of it has not arrived: its worker died, or nobody took it.
            pushed += await _remind(room, batch)
        elif batch.is_away:
            pushed += await _come_back(room, batch, remote)
        elif await _push(room, batch):
            pushed += 1
    if pushed:
        room.meter.add("batches_pushed", pushed)
    return pushed


async def _remind(room: Room, batch: Batch) -> bool:
    due = batch.owed_at is not None and batch.owed_at <= room.clock.now()
    if due:
        await room.send("finish", batch.id, batch.tenant)
    return due


async def _come_back(room: Room, batch: Batch, remote: Remote | None) -> bool:
    """A batch that is away is left alone until it is back or its time is over."""
    try:
        back = remote is not None and await remote.look(batch)
    except (UpstreamError, Unavailable):
        back = False
        room.meter.add("remote_silent")
    if batch.status != "in_progress" or batch.expires_at <= room.clock.now():
        await room.send("finish", batch.id, batch.tenant)
    return back


async def _push(room: Room, batch: Batch) -> bool:
    now = room.clock.now()
    since = max(batch.created_at, *batch.times.values()) if batch.times else batch.created_at
    if now - since < room.options.stale_s:
        return False
    if batch.status == "validating" and batch.expires_at > now:
        await room.send("validate", batch.id, batch.tenant)
        return True
    if batch.status != "in_progress" or batch.expires_at <= now or batch.chunks_done >= batch.chunks:
        await room.send("finish", batch.id, batch.tenant)
        return True
    progress = f"{batch.chunks_done}:{sum(map(sum, batch.live.values()))}"
    seen, _, at = batch.mark.partition("@")
    moved = seen != progress
    if not moved and now - float(at) < room.options.stale_s:
        return False
    await room.batches.note(batch.id, mark=f"{progress}@{now:.3f}")
    if moved or await room.batches.held_chunks(batch.id):
        return False
    # A chunk whose worker died before the batch was told of it is open here too: its message does the telling.
    still = [number for number in range(batch.chunks) if number not in batch.parts]
    for number in still[: room.options.window_chunks]:
        await room.send("chunk", batch.id, batch.tenant, chunk=number)
    return True
