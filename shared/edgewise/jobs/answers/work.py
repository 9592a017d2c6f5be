"""Makes a background answer, once, however often its message comes.

The same arrangement as for a chunk of lines (see `edgewise.jobs.work`), for one request: a lease that its worker
renews, paid calls kept before anything else, an end that is one conditional write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from edgewise.clock import Clock
from edgewise.jobs.answers.kept import UNSTORED_S, Kept, Made, Shelf
from edgewise.jobs.answers.log import Log, Taken
from edgewise.jobs.paid import PaidCall, PaidCalls
from edgewise.jobs.ports import Calls, Meter, Queue
from edgewise.jobs.room import Again, Options
from edgewise.jobs.share import Share
from edgewise.jobs.store import Claimed, Done, Held
from edgewise.jobs.webhook import Webhooks
from edgewise.jobs.work import Delivery

Make = Callable[[Kept, Calls, float, Log], Awaitable[Made]]
"""Makes the answer within so many seconds, and may tell of it meanwhile. A refusal comes back as a failed answer; an
exception is a defect, but for `Taken`."""
Refuse = Callable[[Kept, str], Made]
"""The answer that says why there is none: 'timeout', 'worker_died', 'internal_error', 'cancelled'."""


class AnswerWork:
    """`work` is the worker's handler for messages of `kind`."""

    def __init__(
        self,
        shelf: Shelf,
        queue: Queue,
        clock: Clock,
        share: Share,
        meter: Meter,
        *,
        make: Make,
        refuse: Refuse,
        webhooks: Webhooks | None = None,
        options: Options | None = None,
        kind: str = "response",
    ) -> None:
        self._shelf, self._queue, self._clock, self._share, self._meter = shelf, queue, clock, share, meter
        self._make, self._refuse, self._webhooks = make, refuse, webhooks
        self._options = options or Options()
        self._kind = kind

    async def work(self, id: str, delivery: Delivery) -> None:
        """Raises Again when somebody else is at it or the time is too short."""
        kept = await self._shelf.get(id)
        if kept is None or kept.ended:
            return
        if delivery.left.left_s() < self._options.reserve_s:
            raise Again(1)
        owner = self._clock.token("worker_")
        claimed = await self._shelf.claim(id, owner, self._options.lease_s)
        if isinstance(claimed, Held):
            raise Again(claimed.until - self._clock.now() + 1)
        if isinstance(claimed, Done):
            return
        if delivery.receives >= self._options.copies_after:
            # SQS would soon take the message for dead, and nothing else would look after the answer.
            again_s = int(self._options.lease_s) + 1
            await self._queue.send({"kind": self._kind, "id": id}, group=kept.tenant, delay_s=again_s)
        try:
            if await self._make_and_end(kept, owner, claimed, delivery):
                return
        except Taken as error:
            raise Again(1) from error
        current = await self._shelf.get(id)
        if current is None:
            # Deleted meanwhile, maybe before the last that we told of it.
            await self._shelf.delete(id)
        elif not current.ended:
            # Somebody else took over and may die in turn: the message has to stay.
            raise Again(self._options.lease_s)

    async def _make_and_end(self, kept: Kept, owner: str, claimed: Claimed, delivery: Delivery) -> bool:
        """False: it was cancelled or taken over meanwhile. Raises Taken."""
        log, known = Log(self._shelf, kept), dict[str, PaidCall]()
        if not claimed.fresh:
            await log.read()
            known = await self._shelf.calls(kept.id)
        made: Made | None
        if claimed.claims > self._options.max_strikes:
            await self._queue.bury({"kind": self._kind, "id": kept.id, "error": "worker_died"}, group=kept.tenant)
            self._meter.add("dead_letters")
            made = self._refuse(kept, "worker_died")
        else:
            calls = PaidCalls(known, partial(self._shelf.put_call, kept.id))
            made = await self._under_lease(kept, owner, calls, delivery, log)
        if made is not None:
            await self._end(kept, made, log)
        return made is not None

    async def _end(self, kept: Kept, made: Made, log: Log) -> None:
        """The log first: whoever has written an end there has ended the answer."""
        if made.events and log.end is None:
            await log.write(made.events)
        expires = None if kept.stored else int(self._clock.now()) + UNSTORED_S
        if await self._shelf.end(kept.id, made, expires):
            self._meter.add(f"answers_{made.state}")
            if kept.webhook and self._webhooks is not None:
                await self._webhooks.tell(kept.webhook, f"{self._kind}.{made.state}", kept.id)

    async def _under_lease(self, kept: Kept, owner: str, calls: Calls, delivery: Delivery, log: Log) -> Made | None:
        """The answer, or None when it was cancelled or taken over meanwhile."""
        options = self._options
        timeout_s = min(options.line_timeout_s, delivery.left.left_s() - options.margin_s)
        making = asyncio.ensure_future(self._making(kept, calls, timeout_s, log))
        pulse = asyncio.ensure_future(self._pulse(kept.id, owner, delivery.receipt, making))
        try:
            await asyncio.wait({making})
        finally:
            pulse.cancel()
            making.cancel()
            outcome = await asyncio.gather(making, pulse, return_exceptions=True)
        if making.cancelled():
            return None
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return making.result()

    async def _making(self, kept: Kept, calls: Calls, timeout_s: float, log: Log) -> Made:
        async with self._share.slot(kept.tenant):
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._make(kept, calls, timeout_s, log)
            except TimeoutError:
                return self._refuse(kept, "timeout")
            except Taken:
                raise
            except Exception:  # noqa: BLE001 - the worker is an edge: a defect ends the answer, and is counted
                self._meter.add("line_defects")
                return self._refuse(kept, "internal_error")

    async def _pulse(self, id: str, owner: str, receipt: str, making: asyncio.Future[Made]) -> None:
        """Renews the lease every third of it. In between it only looks, so that a cancelled answer's call is given up
        soon: a look costs a twentieth of a write, which is charged for all that the item holds of the request."""
        lease_s, since_s = self._options.lease_s, 0.0
        beat_s = min(lease_s / 3, 2.0)
        await self._queue.hide(receipt, int(lease_s) + 1)
        while True:
            await self._clock.sleep(beat_s)
            since_s += beat_s
            if since_s + beat_s <= lease_s / 3:
                holds = await self._shelf.holds(id, owner)
            else:
                since_s, holds = 0.0, await self._shelf.renew(id, owner, lease_s)
                if holds:
                    await self._queue.hide(receipt, int(lease_s) + 1)
            if not holds:
                making.cancel()
                return
