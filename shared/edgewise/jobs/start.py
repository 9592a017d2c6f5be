"""A batch's beginning: taken in, its file checked from end to end, planned, and the first chunks sent.

Nothing is run before the whole file has been found good. Every chunk that ends sends the one `window_chunks` after
it, so the queue holds little of a large batch at any moment, and a cancelled one leaves almost nothing behind. A
batch of one chunk is worked by whoever has checked it: a small batch waits in the queue once, not three times.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from edgewise.errors import InvalidRequest, NotFound
from edgewise.jobs.batch import ENDPOINTS, KEPT_S, MAX_BYTES, WINDOW_S, Batch, LineError
from edgewise.jobs.files import File, Wanted, expiry_s
from edgewise.jobs.lines import Check, split
from edgewise.jobs.messages import Direct
from edgewise.jobs.room import Room

Away = Callable[[Batch], Awaitable[bool]]
"""Gives a checked batch to somebody else to work; True when it was taken. See `remote.py`."""


async def create(room: Room, tenant: str, key_id: str, asked: Mapping[str, Any]) -> Batch:
    """Take in a batch; it is checked in the background. Raises InvalidRequest or NotFound for what is plainly wrong."""
    if asked.get("endpoint") not in ENDPOINTS:
        raise InvalidRequest(f"`endpoint` must be one of {', '.join(ENDPOINTS)}.", param="endpoint")
    if asked.get("completion_window") != "24h":
        raise InvalidRequest("`completion_window` must be '24h'.", param="completion_window")
    if not isinstance(asked.get("input_file_id"), str):
        raise InvalidRequest("`input_file_id` must be a file's id.", param="input_file_id")
    file = await room.files.get(tenant, asked["input_file_id"])
    if file.purpose != "batch":
        raise InvalidRequest("The input file's purpose must be 'batch'.", param="input_file_id")
    if file.pending:
        raise InvalidRequest("The input file's bytes have not arrived yet.", param="input_file_id")
    batch = draft_batch(room, room.clock.token("batch_"), tenant, key_id, asked["endpoint"], file)
    kept = expiry_s(asked, "output_expires_after")
    batch = replace(batch, metadata=_metadata(asked.get("metadata")), output_expires_s=kept or KEPT_S)
    if batch.webhook_url is not None:
        await _check_webhook(room, batch.webhook_url)
    await room.batches.create(batch)
    await room.send("validate", batch.id, tenant)
    return batch


def draft_batch(room: Room, id: str, tenant: str, key_id: str, endpoint: str, file: File) -> Batch:
    now = int(room.clock.now())
    return Batch(
        id=id,
        tenant=tenant,
        key_id=key_id,
        endpoint=endpoint,
        input_file_id=file.id,
        created_at=now,
        expires_at=now + WINDOW_S,
    )


def _metadata(found: Any) -> dict[str, str] | None:
    if found is None:
        return None
    if not isinstance(found, dict) or len(found) > 16:
        raise InvalidRequest("`metadata` must be an object of at most 16 pairs.", param="metadata")
    for key, value in found.items():
        if len(key) > 64 or not isinstance(value, str) or len(value) > 512:
            raise InvalidRequest(
                "A key of `metadata` has at most 64 characters, its value is a string of at most 512.",
                param=f"metadata.{key[:64]}",
            )
    return found


async def _check_webhook(room: Room, url: str) -> None:
    where = "metadata.webhook_url"
    if room.check_url is None:
        raise InvalidRequest("No webhooks are sent from here.", param=where)
    try:
        await room.check_url(url)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param=where, code=error.code) from error


async def take_direct(room: Room, direct: Direct, away: Away | None = None) -> bool:
    """Make a batch of requests that came by the queue, and check it. The same message twice makes one."""
    if await room.batches.get(direct.batch_id) is None:
        wanted = Wanted(f"{direct.batch_id}.jsonl", "batch")
        file = room.files.draft(direct.tenant, wanted, id=f"file-{direct.batch_id.removeprefix('batch_')}")
        size = await room.files.pour(file.key, _once(direct.lines), MAX_BYTES)
        await room.files.index.put_file(replace(file, size=size))
        batch = draft_batch(room, direct.batch_id, direct.tenant, direct.key_id, direct.endpoint, file)
        await room.batches.create(replace(batch, metadata=direct.metadata))
    return await validate(room, direct.batch_id, away)


async def _once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


async def validate(room: Room, batch_id: str, away: Away | None = None) -> bool:
    """Check the file and send the first chunks; done again, it finds the same and sends the same. True: there is one
    chunk, and it was not sent, for the caller is to work it."""
    batch = await room.batches.get(batch_id)
    if batch is not None and batch.status == "validating":
        batch = await _checked(room, batch)
    if batch is None or batch.status != "in_progress":
        return batch is not None and batch.small
    # What is away is not worked here as well, also where nobody can look after it any more.
    if await away(batch) if away is not None else batch.is_away:
        return False
    if not batch.small:
        for number in range(min(room.options.window_chunks, batch.chunks)):
            await room.send("chunk", batch.id, batch.tenant, chunk=number)
    return batch.small


async def _checked(room: Room, batch: Batch) -> Batch | None:
    check = Check(batch.endpoint, room.options.chunk_lines)
    if batch.endpoint not in ENDPOINTS:
        check.errors.append(LineError("invalid_url", f"`url` must be one of {', '.join(ENDPOINTS)}.", 1, "url"))
    else:
        try:
            file = await room.files.get(batch.tenant, batch.input_file_id)
            async for line in split(room.blobs.stream(file.key)):
                if not check.take(line):
                    break
            check.end()
        except NotFound:
            check.errors.append(LineError("file_not_found", "The input file is gone."))
        except InvalidRequest as error:
            check.errors.append(LineError(error.code or "invalid_file", error.message))
    if check.errors:
        told = {"errors": check.errors, "model": check.draft.model, **batch.debt(room.clock.now())}
        if await room.batches.move(batch.id, "failed", **told) is not None:
            room.meter.add("batches_refused")
            await room.send("finish", batch.id, batch.tenant)
        return None
    await room.keep_draft(batch.id, check.draft)
    moved = await room.batches.move(
        batch.id,
        "in_progress",
        total=check.draft.total,
        chunks=len(check.draft.chunks),
        model=check.draft.model,
    )
    return moved or await room.batches.get(batch.id)


async def cancel(room: Room, batch: Batch) -> Batch:
    """Stop a batch; what is done is handed out. Cancelling one that has ended, or ends already, changes nothing."""
    moved = await room.batches.move(batch.id, "cancelling")
    if moved is not None:
        await room.send("finish", batch.id, batch.tenant)
        return moved
    return await room.batches.get(batch.id) or batch


async def redrive(room: Room, batch: Batch) -> Batch:
    """A new batch of the lines that failed in `batch`, with their old custom ids."""
    if not batch.ended or batch.error_file_id is None:
        raise InvalidRequest("Only a batch that has ended with failed lines can be redriven.")
    failed: set[str] = set()
    errors = await room.files.get(batch.tenant, batch.error_file_id)
    async for line in split(room.blobs.stream(errors.key)):
        failed.add(orjson.loads(line.raw)["custom_id"])
    source = await room.files.get(batch.tenant, batch.input_file_id)

    async def again() -> AsyncIterator[bytes]:
        async for line in split(room.blobs.stream(source.key)):
            if line.raw.strip() and orjson.loads(line.raw)["custom_id"] in failed:
                yield line.raw + b"\n"

    wanted = Wanted(f"{batch.id}-redrive.jsonl", "batch")
    file = await room.files.store(batch.tenant, wanted, again())
    asked = {
        "endpoint": batch.endpoint,
        "completion_window": batch.completion_window,
        "input_file_id": file.id,
        "metadata": {**dict(list((batch.metadata or {}).items())[:15]), "redrive_of": batch.id},
    }
    return await create(room, batch.tenant, batch.key_id, asked)
