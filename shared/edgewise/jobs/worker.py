"""What the SQS-triggered function does with its messages: each by itself, all at once, failures told one by one.

A message whose work must wait is hidden for as long and reported as failed; when SQS would soon take it for dead, a
fresh copy is sent instead. A message that nothing can be made of goes to the dead-letter queue at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from edgewise.clock import Deadline
from edgewise.jobs.finish import Ended, finish
from edgewise.jobs.messages import Direct, Unreadable, Work, read
from edgewise.jobs.remote import Remote
from edgewise.jobs.room import Again, Room
from edgewise.jobs.start import take_direct, validate
from edgewise.jobs.work import ChunkWork, Delivery

Other = Callable[[str, Delivery], Awaitable[None]]
"""Does the work with this id; for the kinds that are not a batch's."""


class Worker:
    """`handle` is the whole of it. `others` maps 'response' and 'task' to what does them."""

    def __init__(
        self,
        room: Room,
        chunks: ChunkWork,
        others: Mapping[str, Other] | None = None,
        ended: Ended | None = None,
        remote: Remote | None = None,
    ) -> None:
        self._room = room
        self._chunks = chunks
        self._others = dict(others or {})
        self._ended = ended
        self._remote = remote
        self._away = remote.take if remote is not None else None

    async def handle(self, event: Mapping[str, Any], left_s: float) -> dict[str, Any]:
        """Lambda's answer to an SQS event, with `ReportBatchItemFailures`; `left_s` is the function's time."""
        left = Deadline.after(self._room.clock, left_s)
        records: list[Mapping[str, Any]] = event.get("Records", [])
        done = await asyncio.gather(*(self._one(record, left) for record in records))
        failed = [record["messageId"] for record, fine in zip(records, done, strict=True) if not fine]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}

    async def _one(self, record: Mapping[str, Any], left: Deadline) -> bool:
        receives = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))
        delivery = Delivery(record.get("receiptHandle", ""), receives, left)
        group = record.get("attributes", {}).get("MessageGroupId", "edgewise")
        try:
            try:
                await self._do(read(record["body"], record["messageId"]), delivery)
            except Again as again:
                return await self._later(record["body"], again.delay_s, delivery, group)
            except Unreadable as error:
                self._room.meter.add("dead_letters")
                letter = {"kind": "unreadable", "error": str(error), "body": record["body"][:100_000]}
                await self._room.queue.bury(letter, group=group)
        except Exception:  # noqa: BLE001 - the worker is an edge: SQS delivers the message again
            self._room.meter.add("message_failures")
            return False
        return True

    async def _do(self, work: Work | Direct, delivery: Delivery) -> None:
        match work:
            case Direct():
                if await take_direct(self._room, work, self._away):
                    await self._chunk(work.batch_id, 0, delivery)
            case Work(kind="validate"):
                if await validate(self._room, work.id, self._away):
                    await self._chunk(work.id, 0, delivery)
            case Work(kind="chunk"):
                await self._chunk(work.id, work.chunk, delivery)
            case Work(kind="finish"):
                if self._remote is not None:
                    await self._remote.stopped(work.id)
                await finish(self._room, work.id, self._ended)
            case Work(kind=kind) if kind in self._others:
                await self._others[kind](work.id, delivery)
            case Work(kind=kind):
                raise Unreadable(f"Nothing here does work of the kind {kind!r}.")

    async def _chunk(self, batch_id: str, number: int, delivery: Delivery) -> None:
        if await self._chunks.work(batch_id, number, delivery):
            await finish(self._room, batch_id, self._ended)

    async def _later(self, body: str, delay_s: float, delivery: Delivery, group: str) -> bool:
        wait_s = max(1, min(900, round(delay_s)))
        if delivery.receives >= self._room.options.copies_after:
            await self._room.queue.send(orjson.loads(body), group=group, delay_s=wait_s)
            return True
        await self._room.queue.hide(delivery.receipt, wait_s)
        return False
