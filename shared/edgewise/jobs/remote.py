"""A provider's own batch: half the price for patience.

A large file whose caller is bound by nothing but the window may be worked by the provider's batch service instead of
line by line. Submit, look again on each round of upkeep, collect. Collected answers are lines' results like any other
(one conditional write each), and whatever the provider did not answer (refused lines, an expired or failed batch, a
window that runs out) is then worked line by line: the chunks are sent, and find only the missing lines to do.

Submitting twice would be paid twice. The provider's batch carries our batch's id, and before submitting it is looked
for. Who may go this way is decided by the function handed in: it knows policy and prices, this module does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

import orjson

from edgewise.chat import Usage
from edgewise.jobs.batch import Batch, Result, request_id
from edgewise.jobs.lines import Chunk, Draft, cut, parsed
from edgewise.jobs.room import Again, Room
from edgewise.jobs.store import Claimed
from edgewise.words import Price

MIN_LINES = 1000
"""Below this a batch is done line by line before a provider's batch would have begun."""
SPARE_S = 4 * 3600
"""With less of the window left than this, what the provider has not answered is worked line by line."""

SUBMISSION = 99_999
"""The lease under which a batch is submitted, where chunks have theirs; no batch has as many."""
SUBMITTING_S = 900.0

RemoteState = Literal["working", "ended"]


class ProviderBatch(Protocol):
    """A provider's batch service. `name` is the provider's; every call may raise `EdgewiseError`."""

    async def find(self, batch_id: str) -> str | None:
        """The provider's id of a batch that was submitted for ours."""
        ...

    async def submit(self, batch_id: str, endpoint: str, lines: AsyncIterator[bytes]) -> str: ...
    async def poll(self, id: str) -> RemoteState: ...
    def collect(self, id: str) -> AsyncIterator[Mapping[str, Any]]:
        """Lines of its output, in OpenAI's shape; only those that were answered."""
        ...

    async def cancel(self, id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Offer:
    """The provider's batch service for one batch: whose, the model's id there, and its price."""

    service: ProviderBatch
    model: str
    price: Price


Admit = Callable[[Batch], Awaitable[Offer | None]]
"""Whether this batch may go to a provider's batch service, and to which. None: line by line."""


@dataclass(slots=True)
class Remote:
    """What start, upkeep and finish ask of this module."""

    room: Room
    admit: Admit
    min_lines: int = MIN_LINES

    async def take(self, batch: Batch) -> bool:
        """Submit a checked batch, once. False: it is to be worked line by line."""
        if batch.remote is not None:
            return bool(batch.remote["state"] != "collected")
        if batch.total < self.min_lines or batch.expires_at - self.room.clock.now() < 2 * SPARE_S:
            return False
        offer = await self.admit(batch)
        if offer is None:
            return False
        owner = self.room.clock.token("worker_")
        claimed = await self.room.batches.claim(batch.id, SUBMISSION, owner, SUBMITTING_S)
        if not isinstance(claimed, Claimed):
            raise Again(60)
        try:
            await self._submit(batch, offer)
        finally:
            await self.room.batches.release(batch.id, SUBMISSION, owner)
        return True

    async def _submit(self, batch: Batch, offer: Offer) -> None:
        draft = await self.room.draft(batch.id)
        found = await offer.service.find(batch.id)
        if found is None:
            found = await offer.service.submit(batch.id, batch.endpoint, self._lines(batch, draft, offer.model))
        await self.room.batches.note(batch.id, remote={"id": found, "state": "working"})
        self.room.meter.add("remote_batches")

    async def _lines(self, batch: Batch, draft: Draft, model: str) -> AsyncIterator[bytes]:
        """The leading lines, each named by its chunk and number, for the provider's model."""
        for chunk in draft.chunks:
            followers = set(chunk.followers)
            block = await self.room.blobs.read(f"files/{batch.tenant}/{batch.input_file_id}", chunk.start, chunk.end)
            for line in cut(block, chunk.first):
                if line.number not in followers:
                    # The gateway's own wishes are nothing to a provider.
                    kept = parsed(line).body.items()
                    body = {name: value for name, value in kept if name not in ("cache", "routing")}
                    name = f"{chunk.number}-{line.number}"
                    yield (
                        orjson.dumps(
                            {
                                "custom_id": name,
                                "method": "POST",
                                "url": batch.endpoint,
                                "body": {**body, "model": model},
                            }
                        )
                        + b"\n"
                    )

    async def stopped(self, batch_id: str) -> None:
        """A batch is about to end: if it is away and to be stopped, fetch what is done first."""
        batch = await self.room.batches.get(batch_id)
        if batch is None or batch.ended:
            return
        if batch.status != "in_progress" or batch.expires_at <= self.room.clock.now():
            await self.look(batch)

    async def look(self, batch: Batch) -> bool:
        """Look after a batch that is away; True when it has come back and is worked on here."""
        if batch.remote is None or batch.remote["state"] == "collected":
            return False
        offer = await self.admit(batch)
        late = batch.expires_at - self.room.clock.now() < SPARE_S
        if offer is not None:
            service, id = offer.service, str(batch.remote["id"])  # noqa: A001
            if await service.poll(id) == "working" and not late and batch.status == "in_progress":
                return False
            await service.cancel(id)
            await self._collect(batch, offer, id)
        await self.room.batches.note(batch.id, remote={**batch.remote, "state": "collected"})
        for number in range(min(self.room.options.window_chunks, batch.chunks)):
            await self.room.send("chunk", batch.id, batch.tenant, chunk=number)
        return True

    async def _collect(self, batch: Batch, offer: Offer, id: str) -> None:
        draft = await self.room.draft(batch.id)
        names: dict[int, dict[int, str]] = {}
        async for told in offer.service.collect(id):
            response = told.get("response") or {}
            if response.get("status_code") != 200:
                continue
            chunk, line = (int(part) for part in str(told["custom_id"]).split("-"))
            if chunk not in names:
                names = {chunk: await self._custom_ids(batch, draft.chunks[chunk])} | dict(list(names.items())[-50:])
            result = Result(
                line=line,
                custom_id=names[chunk][line],
                request_id=request_id(batch.id, line),
                status=200,
                body=response["body"],
                cost_usd=cost_of(offer.price, response["body"]),
            )
            await self.room.batches.put_result(batch.id, chunk, result)

    async def _custom_ids(self, batch: Batch, chunk: Chunk) -> dict[int, str]:
        block = await self.room.blobs.read(f"files/{batch.tenant}/{batch.input_file_id}", chunk.start, chunk.end)
        return {line.number: parsed(line).custom_id for line in cut(block, chunk.first)}


def _chat_usage(usage: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Usage in chat's words; a response says input and output."""
    if not usage or "input_tokens" not in usage:
        return usage
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage.get("output_tokens", 0),
        "prompt_tokens_details": usage.get("input_tokens_details"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }


def cost_of(price: Price, body: Mapping[str, Any]) -> Decimal | None:
    """What an answer costs at the batch price; None when it does not tell its usage."""
    usage = Usage.of(_chat_usage(body.get("usage")))
    return price.cost(usage, batch=True) if usage is not None else None
