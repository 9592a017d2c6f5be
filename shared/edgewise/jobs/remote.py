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

Where budgets bind the caller, the most that all lines can cost is held before and settled with what they did cost when
they are fetched; each line is sent with a bound on its answer, for without one there is no most. What can no more be
fetched is charged as much as was held.

    (nothing) ─→ submitting ─→ working ─→ stopping ─→ collected    (refused, or no room: collected at once)

Who may go this way is decided by the function handed in: it knows policy and prices, this module does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import orjson

from edgewise.capped import bounded
from edgewise.chat import ChatRequest
from edgewise.errors import Unavailable, UpstreamError, UpstreamRefused
from edgewise.jobs.batch import Batch, Result, request_id
from edgewise.jobs.journal import Purse
from edgewise.jobs.lines import Chunk, cut, parsed
from edgewise.jobs.offer import Admit, Offer, ProviderBatch, cost_of
from edgewise.jobs.room import Again, Room
from edgewise.jobs.store import Claimed
from edgewise.words import Attempt, Model

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
    purse: Purse | None = None
    """Who settles what was held for a batch; None: nothing is."""

    async def take(self, batch: Batch) -> bool:
        """Submit a checked batch, once. False: it is to be worked line by line."""
        if batch.remote is not None and not batch.is_submitting:
            return batch.is_away
        noted = batch.remote
        offer = Offer.of(noted, self.services) if noted is not None else await self._admitted(batch)
        if offer is None:
            return batch.is_submitting
        async with self._alone(batch) as now:
            if now is None:
                raise Again(60)
            try:
                return await self._take(now, offer)
            except UpstreamError as error:
                raise Again(60) from error

    @asynccontextmanager
    async def _alone(self, batch: Batch) -> AsyncIterator[Batch | None]:
        """Nobody else submits it meanwhile: the batch as whoever had the claim before has left it. None: one does."""
        owner = self.room.clock.token("worker_")
        claimed = await self.room.batches.claim(batch.id, SUBMISSION, owner, SUBMITTING_S)
        if not isinstance(claimed, Claimed):
            yield None
            return
        try:
            yield await self.room.batches.get(batch.id) or batch
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
        found = None
        if batch.is_submitting:
            found = await offer.service.find(batch.id)
        else:
            receipt = await self._held(batch, offer)
            if receipt is None:
                # Noted, or the same message would find room once its lines are being asked here.
                await self._note(batch, "collected")
                return False
            batch = await self._note(batch, "submitting", **offer.noted(), receipt=receipt)
        if found is None:
            found = await self._submitted(batch, offer)
        self.room.meter.add("remote_refused" if found is None else "remote_batches")
        await self._found(batch, found)
        return found is not None

    async def _found(self, batch: Batch, id: str | None) -> None:
        """Note where a batch is that was to be submitted; None: nowhere, and nothing will be paid there."""
        if id is None:
            await self._settle(batch, [])
        await self._note(batch, "collected" if id is None else "working", id or "")

    async def _held(self, batch: Batch, offer: Offer) -> str | None:
        """What settles what is held for all lines together; None where there is no room, or nobody knows the most that
        one may cost."""
        if offer.account is None:
            return ""
        most = Decimal(0)
        async for _, body in self._bodies(batch):
            usd = offer.account.most_usd(body)
            if usd is None:
                return None
            most += usd
        return await offer.account.hold(most)

    async def _settle(self, batch: Batch, attempts: list[Attempt]) -> None:
        """Charge what was held for a batch with what it has cost, once, however often it is tried."""
        receipt = (batch.remote or {}).get("receipt")
        if receipt and self.purse is not None:
            await self.purse.charge(receipt, attempts)

    async def _submitted(self, batch: Batch, offer: Offer) -> str | None:
        """The provider's id; None when it takes too long, or does not take this model or these lines: then they are
        asked one by one."""
        if self._is_late(batch):
            return None
        try:
            return await offer.service.submit(batch.id, batch.endpoint, offer.model, self._lines(batch, offer))
        except UpstreamRefused:
            return None

    def _is_late(self, batch: Batch) -> bool:
        return self.room.clock.now() - batch.created_at > START_S

    async def _note(self, batch: Batch, state: str, id: str = "", **more: Any) -> Batch:
        remote = {**(batch.remote or {}), "id": id, "state": state, **more}
        await self.room.batches.note(batch.id, remote=remote)
        return replace(batch, remote=remote)

    async def _lines(self, batch: Batch, offer: Offer) -> AsyncIterator[bytes]:
        """What the provider is asked."""
        model = replace(offer.model, output_tokens=offer.longest)
        async for name, body in self._bodies(batch):
            sent = body if offer.longest is None else bounded(model, ChatRequest(body)).body
            asked = {"custom_id": name, "method": "POST", "url": batch.endpoint, "body": {**sent, "model": model.id}}
            yield orjson.dumps(asked) + b"\n"

    async def _bodies(self, batch: Batch) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        """What the leading lines say, each named by its chunk and number."""
        for chunk in (await self.room.draft(batch.id)).chunks:
            followers = set(chunk.followers)
            block = await self.room.blobs.read(f"files/{batch.tenant}/{batch.input_file_id}", chunk.start, chunk.end)
            for line in cut(block, chunk.first):
                if line.number not in followers:
                    # The gateway's own wishes are nothing to a provider.
                    kept = parsed(line).body.items()
                    body = {name: value for name, value in kept if name not in ("cache", "routing")}
                    yield f"{chunk.number}-{line.number}", body

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
        except (UpstreamError, Unavailable):
            back = False
        if back:
            return
        if now < batch.times.get("cancelling_at", batch.expires_at) + STOPPING_S:
            raise Again(15)
        # What it answers there will never be known here, and neither will its cost.
        assert batch.remote is not None
        await self._settle(batch, [Attempt(Model(*batch.remote["model"]))])

    async def look(self, batch: Batch) -> bool:
        """Look after a batch that is away; True when it has come back and is worked on here. Raises UpstreamError."""
        if not batch.is_away:
            return False
        assert batch.remote is not None
        offer = Offer.of(batch.remote, self.services)
        if offer is None:
            return False
        if batch.is_submitting:
            return await self._resumed(batch, offer.service)
        id = str(batch.remote["id"])  # noqa: A001
        if await offer.service.poll(id) == "working":
            await self._stop(batch, offer.service, id)
            return False
        await self._settle(batch, await self._collect(batch, offer, id))
        await self._note(batch, "collected", id)
        for number in range(min(self.room.options.window_chunks, batch.chunks)):
            await self.room.send("chunk", batch.id, batch.tenant, chunk=number)
        return True

    async def _resumed(self, batch: Batch, service: ProviderBatch) -> bool:
        """Go on with a submission whose worker may have died; True when there is nothing to go on with."""
        if batch.status == "in_progress" and batch.expires_at > self.room.clock.now():
            await self.room.send("validate", batch.id, batch.tenant)
            return False
        async with self._alone(batch) as now:
            # While it is being submitted, that it is not there does not say that it will not be.
            if now is None or not now.is_submitting:
                return False
            found = await service.find(batch.id)
            await self._found(now, found)
            return found is None

    async def _stop(self, batch: Batch, service: ProviderBatch, id: str) -> None:
        """Have a batch stop, once, whose time is over."""
        assert batch.remote is not None
        over = batch.status != "in_progress" or batch.expires_at - self.room.clock.now() < SPARE_S
        if over and batch.remote["state"] != "stopping":
            await service.cancel(id)
            await self._note(batch, "stopping", id)

    async def _collect(self, batch: Batch, offer: Offer, id: str) -> list[Attempt]:
        """Fetch the answers; what they cost together, and an unknown cost if there is one among them."""
        draft, spent, unknown = await self.room.draft(batch.id), Decimal(0), False
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
            spent, unknown = spent + (result.cost_usd or 0), unknown or result.cost_usd is None
            if await self.room.batches.put_result(batch.id, chunk, result):
                self.tell(batch, result, offer.model)
        paid = [Attempt(offer.model, cost_usd=spent)]
        return [*paid, Attempt(offer.model)] if unknown else paid

    async def _custom_ids(self, batch: Batch, chunk: Chunk) -> dict[int, str]:
        block = await self.room.blobs.read(f"files/{batch.tenant}/{batch.input_file_id}", chunk.start, chunk.end)
        return {line.number: parsed(line).custom_id for line in cut(block, chunk.first)}
