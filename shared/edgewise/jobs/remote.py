"""A provider's own batch: half the price for patience.

A large file whose caller is bound by nothing but the window may be worked by the provider's batch service instead of
line by line. Submit, look again on each round of upkeep, collect. Collected answers are lines' results like any other
(one conditional write each), and whatever the provider did not answer (refused lines, an expired or failed batch, a
window that runs out) is then worked line by line: the chunks are sent, and find only the missing lines to do. A
provider that refuses the batch as a whole leaves all of it to that.

Submitting twice would be paid twice, and so would lines that are asked here while a batch runs there. So it is written
down before submitting that it is about to be, with the model and its prices, and the provider's batch carries our
batch's id, by which it is looked for when a worker may have died. From then on nothing that changes here (a key, an
override, a setting) brings its lines back: only that the provider never had it, or that it has ended there. One that is
stopped is waited for: what it has answered by then is paid for, and told when it has stopped. One whose provider cannot
be asked any more stays away until its time is over, and its lines end with it.

    (nothing) ─→ submitting ─→ working ─→ stopping ─→ collected               (refused: collected, nothing was there)

Who may go this way is decided by the function handed in: it knows policy and prices, this module does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, Protocol

import orjson

from edgewise.chat import Usage
from edgewise.errors import UpstreamError, UpstreamRefused
from edgewise.jobs.batch import Batch, Result, request_id
from edgewise.jobs.lines import Chunk, Draft, cut, parsed
from edgewise.jobs.room import Again, Room
from edgewise.jobs.store import Claimed
from edgewise.price import Price, price_of
from edgewise.words import Model

MIN_LINES = 1000
"""With fewer lines to ask, a batch is done line by line before a provider's batch would have begun."""
START_S = 3600
"""What has not been submitted within this time of its creation is worked line by line."""
STOPPING_S = 600
"""How long a batch that is to end waits for the provider's to stop."""
SPARE_S = 4 * 3600
"""With less of the window left than this, what the provider has not answered is worked line by line."""

SUBMISSION = 99_999
"""The lease under which a batch is submitted, where chunks have theirs; no batch has as many."""
SUBMITTING_S = 900.0

RemoteState = Literal["working", "ended"]


class ProviderBatch(Protocol):
    """A provider's batch service. Every call may raise `UpstreamRefused` or `UpstreamUnavailable`.

    endpoints  the routes whose lines it takes
    share      what it costs of the usual price, for a model whose batch price is not listed; None: nobody knows
    """

    @property
    def endpoints(self) -> frozenset[str]: ...
    @property
    def share(self) -> Decimal | None: ...

    async def find(self, batch_id: str) -> str | None:
        """The provider's id of a batch that was submitted for ours."""
        ...

    async def submit(self, batch_id: str, endpoint: str, model: Model, lines: AsyncIterator[bytes]) -> str:
        """Lines of a batch file whose model is `model.id`; the provider's id of its batch."""
        ...

    async def poll(self, id: str) -> RemoteState: ...
    def collect(self, id: str, model: Model) -> AsyncIterator[Mapping[str, Any]]:
        """Lines of its output, in OpenAI's shape; only those that were answered."""
        ...

    async def cancel(self, id: str) -> None:
        """Have it stop; it has when `poll` says so."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """The provider's batch service for one batch, the model there, and its price in a batch."""

    service: ProviderBatch
    model: Model
    price: Price

    def noted(self) -> dict[str, Any]:
        """What is to be known of it for as long as the batch is away."""
        return {"model": [self.model.provider, self.model.id], "price": self.price.row()}


Admit = Callable[[Batch], Awaitable[Offer | None]]
"""Whether this batch may go to a provider's batch service, and to which. None: line by line."""


Tell = Callable[[Batch, Result, Model], None]
"""Hears of each answer that was collected, once, unless its worker dies just then."""


def _untold(_batch: Batch, _result: Result, _model: Model) -> None:
    return None


@dataclass(slots=True)
class Remote:
    """What start, upkeep and finish ask of this module. `services` are the providers' by name, of all that can be
    asked: what is away comes back also when nothing more may go."""

    room: Room
    admit: Admit
    services: Mapping[str, ProviderBatch]
    min_lines: int = MIN_LINES
    tell: Tell = _untold

    async def take(self, batch: Batch) -> bool:
        """Submit a checked batch, once. False: it is to be worked line by line."""
        if batch.remote is not None and not batch.is_submitting:
            return batch.is_away
        offer = self._noted(batch) if batch.is_submitting else await self._admitted(batch)
        if offer is None:
            return batch.is_submitting
        owner = self.room.clock.token("worker_")
        claimed = await self.room.batches.claim(batch.id, SUBMISSION, owner, SUBMITTING_S)
        if not isinstance(claimed, Claimed):
            raise Again(60)
        try:
            # Whoever had the claim before may have done it all meanwhile.
            return await self._take(await self.room.batches.get(batch.id) or batch, offer)
        except UpstreamError as error:
            raise Again(60) from error
        finally:
            await self.room.batches.release(batch.id, SUBMISSION, owner)

    async def _admitted(self, batch: Batch) -> Offer | None:
        if self._is_late(batch) or batch.total < self.min_lines:
            return None
        offer, draft = await self.admit(batch), await self.room.draft(batch.id)
        return offer if draft.total - len(draft.leaders) >= self.min_lines else None

    async def _take(self, batch: Batch, offer: Offer) -> bool:
        if batch.remote is not None and not batch.is_submitting:
            return batch.is_away
        found = await offer.service.find(batch.id) if batch.is_submitting else None
        if found is None:
            batch = await self._note(batch, "submitting", **offer.noted())
            found = await self._submitted(batch, offer)
        await self._note(batch, "collected" if found is None else "working", found or "")
        self.room.meter.add("remote_refused" if found is None else "remote_batches")
        return found is not None

    async def _submitted(self, batch: Batch, offer: Offer) -> str | None:
        """The provider's id; None when it takes too long, or does not take this model or these lines: then they are
        asked one by one."""
        if self._is_late(batch):
            return None
        lines = self._lines(batch, await self.room.draft(batch.id), offer.model.id)
        try:
            return await offer.service.submit(batch.id, batch.endpoint, offer.model, lines)
        except UpstreamRefused:
            return None

    def _is_late(self, batch: Batch) -> bool:
        return self.room.clock.now() - batch.created_at > START_S

    def _noted(self, batch: Batch) -> Offer | None:
        """What a batch went away on, whatever has changed here since; None when its provider cannot be asked."""
        assert batch.remote is not None
        provider, id = batch.remote["model"]  # noqa: A001
        service = self.services.get(provider)
        return Offer(service, Model(provider, id), price_of(batch.remote["price"])) if service is not None else None

    async def _note(self, batch: Batch, state: str, id: str = "", **more: Any) -> Batch:
        remote = {**(batch.remote or {}), "id": id, "state": state, **more}
        await self.room.batches.note(batch.id, remote=remote)
        return replace(batch, remote=remote)

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
        """A batch is about to end: if it is away and to be stopped, fetch what is done first. Raises Again while that
        takes its time."""
        batch = await self.room.batches.get(batch_id)
        now = self.room.clock.now()
        if batch is None or batch.ended or not batch.is_away:
            return
        if batch.status == "in_progress" and batch.expires_at > now:
            return
        try:
            back = await self.look(batch)
        except UpstreamError:
            back = False
        if not back and now < batch.times.get("cancelling_at", batch.expires_at) + STOPPING_S:
            raise Again(15)

    async def look(self, batch: Batch) -> bool:
        """Look after a batch that is away; True when it has come back and is worked on here. Raises UpstreamError."""
        if not batch.is_away:
            return False
        assert batch.remote is not None
        offer = self._noted(batch)
        if offer is None:
            return False
        if batch.is_submitting:
            return await self._resumed(batch, offer.service)
        id = str(batch.remote["id"])  # noqa: A001
        if await offer.service.poll(id) == "working":
            await self._stop(batch, offer.service, id)
            return False
        await self._collect(batch, offer, id)
        await self._note(batch, "collected", id)
        for number in range(min(self.room.options.window_chunks, batch.chunks)):
            await self.room.send("chunk", batch.id, batch.tenant, chunk=number)
        return True

    async def _resumed(self, batch: Batch, service: ProviderBatch) -> bool:
        """Go on with a submission whose worker may have died; True when there is nothing to go on with."""
        if batch.status == "in_progress" and batch.expires_at > self.room.clock.now():
            await self.room.send("validate", batch.id, batch.tenant)
            return False
        found = await service.find(batch.id)
        await self._note(batch, "collected" if found is None else "working", found or "")
        return found is None

    async def _stop(self, batch: Batch, service: ProviderBatch, id: str) -> None:
        """Have a batch stop, once, whose time is over."""
        assert batch.remote is not None
        over = batch.status != "in_progress" or batch.expires_at - self.room.clock.now() < SPARE_S
        if over and batch.remote["state"] != "stopping":
            await service.cancel(id)
            await self._note(batch, "stopping", id)

    async def _collect(self, batch: Batch, offer: Offer, id: str) -> None:
        draft = await self.room.draft(batch.id)
        names: dict[int, dict[int, str]] = {}
        async for told in offer.service.collect(id, offer.model):
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
            if await self.room.batches.put_result(batch.id, chunk, result):
                self.tell(batch, result, offer.model)

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
    return price.cost(usage) if usage is not None else None
