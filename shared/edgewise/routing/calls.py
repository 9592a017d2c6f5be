"""One call to one model, or one and a hedge, and what it says of the model's health.

A call has said something when it has ended: a whole answer is well, a death is ill however much of a stream had come,
and a call that was given up from outside (a client that left, a hedge that lost) says nothing. Failures before the
first byte are told by whoever asked, who also decides what comes next; that is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed

from edgewise.chat import Answer, ChatRequest, Chunk, Chunks, begun
from edgewise.clock import Deadline
from edgewise.errors import UpstreamError, UpstreamRefused
from edgewise.routing.breaker import Breakers
from edgewise.routing.retry_budget import RetryBudget
from edgewise.words import Attempt, AttemptRole, Caller, Model

PASSING = frozenset({401, 403, 404, 408, 409, 425, 429})
"""Refusals that are about this provider or this moment, not about the request: another model may answer."""
USUAL_LATENCY_MS = 3000.0


@dataclass(slots=True)
class Calls:
    """The calls of one request: every one is in `trail` when it has ended."""

    caller: Caller
    trail: list[Attempt]
    breakers: Breakers
    budget: RetryBudget
    in_flight: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What came about, for the choice's reason."""

    async def whole(self, model: Model, request: ChatRequest, deadline: Deadline, role: AttemptRole) -> Answer:
        """One whole answer; its attempts go into the trail under `role`."""
        own: list[Attempt] = []
        clock = deadline.clock
        began, started = clock.now(), clock.tick()
        try:
            with self._under_way(model):
                answer = await self.caller.complete(model, request, deadline, own)
        finally:
            self.trail.extend(own if role == "answer" else (changed(attempt, role=role) for attempt in own))
        self.breakers.timed(model, (clock.tick() - started) * 1000)
        await self.breakers.well(model, began)
        return answer

    async def streamed(self, model: Model, request: ChatRequest, deadline: Deadline) -> Chunks:
        """A stream whose first chunk is there."""
        clock = deadline.clock
        began, started = clock.now(), clock.tick()
        with self._under_way(model):
            chunks = await self.caller.stream(model, request, deadline, self.trail)
            self.breakers.timed(model, (clock.tick() - started) * 1000)
            return await begun(self._to_its_end(model, chunks, began))

    async def _to_its_end(self, model: Model, chunks: Chunks, began: float) -> AsyncGenerator[Chunk, None]:
        with self._under_way(model):
            try:
                yield {}
                async for piece in chunks:
                    yield piece
            except UpstreamError as error:
                await self.ill(model, error)
                raise
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()
        await self.breakers.well(model, began)

    async def hedged(
        self, model: Model, partner: Model | None, request: ChatRequest, deadline: Deadline
    ) -> tuple[Model, Answer]:
        """Ask `model`, and `partner` too when no answer came in twice its usual time; the first one counts."""
        if partner is None:
            return model, await self.whole(model, request, deadline, "answer")
        first = asyncio.create_task(self.whole(model, request, deadline, "answer"))
        calls = {first: model}
        patience = asyncio.create_task(deadline.clock.sleep(2 * latency_s(model)))
        try:
            await asyncio.wait({first, patience}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done() and self.budget.take():
                self.notes.append(f"hedged with {partner.name}")
                calls[asyncio.create_task(self.whole(partner, request, deadline, "hedge"))] = partner
            chosen = await _first_good(calls)
            for call, asked in calls.items():
                # The failure of the call that counts is told by whoever asked.
                error = call.exception() if call is not chosen and call.done() else None
                if isinstance(error, UpstreamError):
                    await self.ill(asked, error)
            return calls[chosen], await chosen
        finally:
            # Also when the request is cancelled: a call that goes on would be paid for and charged to nobody.
            for task in (patience, *calls):
                task.cancel()
            await asyncio.gather(patience, *calls, return_exceptions=True)

    async def ill(self, model: Model, error: UpstreamError) -> None:
        """A call to `model` has failed: it counts unless the request itself was refused."""
        if not refuses_request(error):
            await self.breakers.ill(model, error)

    @contextmanager
    def _under_way(self, model: Model) -> Iterator[None]:
        """A call that is counted while it lasts."""
        self.in_flight[model.name] = self.in_flight.get(model.name, 0) + 1
        try:
            yield
        except BaseException as error:
            if not isinstance(error, UpstreamError) or refuses_request(error):
                self.breakers.left(model)
            raise
        finally:
            self.in_flight[model.name] -= 1


def refuses_request(error: UpstreamError) -> bool:
    """The provider is well and doesn't want this request."""
    return isinstance(error, UpstreamRefused) and error.status not in PASSING


def latency_s(model: Model) -> float:
    """The usual time to a whole answer."""
    return (model.latency_ms or USUAL_LATENCY_MS) / 1000


async def _first_good(calls: Mapping[asyncio.Task[Answer], Model]) -> asyncio.Task[Answer]:
    """The first call that has an answer; when all have failed, the one that began first."""
    pending = set(calls)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None:
                return task
    return next(iter(calls))
