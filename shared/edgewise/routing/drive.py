"""Carries out a choice: its steps in order, each answer checked, until one is kept; all within the deadline.

A step with a check is asked whole and held back: its answer goes out only when the check accepts it, a pair being
asked at once. The last step streams. A failure that another model may not share moves on to the next by capability;
a refusal of the request itself does not, except that a prompt too long, or refused on content, has lists of its own.
Once bytes are out there is no silent switch: what `Live.chunks` does after its first piece is the provider's last
word. No attempt starts that the deadline leaves no time for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

from edgewise.chat import Answer, ChatRequest, unfold
from edgewise.clock import Deadline
from edgewise.errors import (
    ContentRefused,
    ContextTooLong,
    EdgewiseError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from edgewise.routing import evidence
from edgewise.routing.breaker import Breakers
from edgewise.routing.evidence import Confidence
from edgewise.routing.retry_budget import RetryBudget
from edgewise.words import Attempt, AttemptRole, Caller, Choice, Live, Model, Step

LEAST_ATTEMPT_S = 0.25
"""An attempt with less time than this can't bring an answer."""
USUAL_LATENCY_MS = 3000.0
BACKOFF_S = 0.5
MAX_RETRIES = 2
MAX_WAIT_S = 5.0
"""Longer than this nobody waits inside a request: the client is told, with the provider's Retry-After."""
PASSING = frozenset({401, 403, 404, 408, 409, 425, 429})
"""Refusals that are about this provider or this moment, not about the request: another model may answer."""

LogLength = Callable[[Model], tuple[float, float] | None]


@dataclass(slots=True)
class Drive:
    """One choice under way."""

    choice: Choice
    request: ChatRequest
    caller: Caller
    deadline: Deadline
    trail: list[Attempt]
    breakers: Breakers
    budget: RetryBudget
    log_length: LogLength = lambda _: None
    max_retries: int = MAX_RETRIES
    max_wait_s: float = MAX_WAIT_S
    in_flight: dict[str, int] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    earlier: list[Answer] = field(default_factory=list)
    """Answers that were not kept, for a third opinion to side with."""
    notes: list[str] = field(default_factory=list)

    async def run(self) -> Live:
        """The first answer that is kept. Raises the last error when every model has failed."""
        self.budget.request()
        *early, last = self.choice.steps
        for step in early:
            live = await self.tried_out(step, last)
            if live is not None:
                return live
        return await self.first_of([*last.models, *self.choice.fallbacks])

    async def tried_out(self, step: Step, last: Step) -> Live | None:
        """A step's answer when its check accepts it; None to go on. A failure here is not the request's."""
        whole = changed(self.request, stream=False)
        needed = max(_latency_s(m) for m in step.models) + _latency_s(last.models[0])
        if self.deadline.left_s() < 2 * needed or not await self.breakers.may(step.models[0]):
            self.notes.append("cheap step skipped")
            return None
        deadline = self.deadline.sooner(self.deadline.left_s() - needed)
        found = await asyncio.gather(
            *(self._quietly(model, whole, deadline, "check" if n else "answer") for n, model in enumerate(step.models))
        )
        first = found[0]
        if first is None:
            self.earlier += [answer for answer in found if answer is not None]
            return None
        confidence = self._confidence(step, first, found[1:])
        if confidence.value < step.at_least:
            self.earlier += [answer for answer in found if answer is not None]
            self.notes.append(f"{confidence.source} {confidence.value:.2f} < {step.at_least:.2f}")
            return None
        self.notes.append(f"kept on {confidence.source} {confidence.value:.2f}")
        return self._live(step.models[0], first, confidence)

    def _confidence(self, step: Step, first: Answer, others: Sequence[Answer | None]) -> Confidence:
        model = step.models[0]
        own = evidence.own(self.request, first, base=_quality(model), usual_log_length=self.log_length(model))
        kind = evidence.comparable(self.request)
        second = next((answer for answer in others if answer is not None), None)
        if step.accept == "agreement" and kind is not None and second is not None and own.value > 0.2:
            return evidence.agreement(first, second, kind)
        if step.accept == "majority" and kind is not None and own.value > 0.2:
            return evidence.majority(first, self.earlier, kind)
        return own

    async def _quietly(
        self, model: Model, request: ChatRequest, deadline: Deadline, role: AttemptRole
    ) -> Answer | None:
        try:
            return await self.whole(model, request, deadline, role)
        except UpstreamError as error:
            self.notes.append(f"{model.name} failed")
            if not isinstance(error, UpstreamRefused):
                await self.breakers.ill(model, error)
        except EdgewiseError:
            self.notes.append(f"{model.name} refused")
        return None

    def _live(self, model: Model, answer: Answer, confidence: Confidence) -> Live:
        live = Live(model, confidence=confidence.value, confidence_source=confidence.source, reason=self.reason())
        if self.request.stream:
            clock = self.deadline.clock
            pieces = unfold(answer, id=clock.token("chatcmpl-"), created=int(clock.now()))
            live.chunks = _each(list(pieces))
        else:
            live.answer = answer
        return live

    async def first_of(self, models: Sequence[Model]) -> Live:
        """Ask `models` one after another; then again those that may recover, within the retry budget."""
        waiting = list(models)
        failed: list[tuple[Model, EdgewiseError]] = []
        last: EdgewiseError | None = None
        resting: set[str] = set()
        while waiting and len(self.tried) < self.choice.max_attempts and self.deadline.left_s() >= LEAST_ATTEMPT_S:
            model = waiting.pop(0)
            # Nobody is skipped for good: when all others have failed, the resting ones are asked after all.
            if waiting and model.name not in resting and not await self.breakers.may(model):
                resting.add(model.name)
                waiting.append(model)
                self.notes.append(f"{model.name} is resting")
                continue
            if model.name in self.tried:
                continue
            self.tried.append(model.name)
            try:
                return await self.ask(model, waiting)
            except ContextTooLong as error:
                last, waiting = error, self._after(error, self.choice.on_context)
            except ContentRefused as error:
                last, waiting = error, self._after(error, self.choice.on_content)
            except UpstreamRefused as error:
                if error.status not in PASSING:
                    raise
                last = error
                await self.breakers.ill(model, error)
            except UpstreamError as error:
                last = error
                failed.append((model, error))
                await self.breakers.ill(model, error)
        return await self._again(failed, last)

    async def _again(self, failed: list[tuple[Model, EdgewiseError]], last: EdgewiseError | None) -> Live:
        """Ask again whoever may recover, the shortest wait first: a provider's own Retry-After, else full jitter."""
        able = [(model, error) for model, error in failed if isinstance(error, UpstreamError) and error.retryable]
        retries = 0
        while able and retries < self.max_retries and len(self.tried) < self.choice.max_attempts:
            model, error = able.pop(min(range(len(able)), key=lambda n: _wait_s(able[n][1]) or BACKOFF_S))
            named = _wait_s(error)
            wait = named if named is not None else self.deadline.clock.uniform() * BACKOFF_S * 2**retries
            if wait > self.max_wait_s or self.deadline.left_s() < wait + max(LEAST_ATTEMPT_S, _latency_s(model)):
                continue
            if not self.budget.take():
                break
            retries += 1
            await self.deadline.clock.sleep(wait)
            self.tried.append(model.name)
            self.notes.append(f"retry of {model.name}")
            try:
                return await self.ask(model, ())
            except UpstreamError as again:
                last = again
                if again.retryable:
                    able.append((model, again))
                await self.breakers.ill(model, again)
        if last is None:
            raise UpstreamTimeout("The deadline left no time to ask a model.")
        raise last

    async def ask(self, model: Model, waiting: Sequence[Model]) -> Live:
        """One call to one model; time is kept back for the next one when there is enough for both."""
        deadline = self._share(model, waiting)
        if len(self.tried) > 1 and model.name not in self.tried[:-1]:
            self.notes.append(f"fallback to {model.name}")
        if not self.request.stream:
            partner = waiting[0] if self.choice.hedge and waiting else None
            winner, answer = await self._hedged(model, partner, deadline)
            confidence = evidence.own(
                self.request, answer, base=_quality(winner), usual_log_length=self.log_length(winner)
            )
            return self._live(winner, answer, confidence)
        self.in_flight[model.name] = self.in_flight.get(model.name, 0) + 1
        started = deadline.clock.tick()
        try:
            chunks = await self.caller.stream(model, self.request, deadline, self.trail)
        finally:
            self.in_flight[model.name] -= 1
        try:
            await self.breakers.well(model, (deadline.clock.tick() - started) * 1000)
        except BaseException:
            # The client has left meanwhile: nobody else knows of this stream yet.
            await chunks.aclose()  # type: ignore[attr-defined]
            raise
        return Live(model, chunks=chunks, reason=self.reason())

    async def _hedged(self, model: Model, partner: Model | None, deadline: Deadline) -> tuple[Model, Answer]:
        """Ask `model`, and `partner` too when no answer came in twice its usual time; the first one counts."""
        if partner is None:
            return model, await self.whole(model, self.request, deadline, "answer")
        first = asyncio.create_task(self.whole(model, self.request, deadline, "answer"))
        calls = {first: model}
        patience = asyncio.create_task(deadline.clock.sleep(2 * _latency_s(model)))
        try:
            await asyncio.wait({first, patience}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done() and self.budget.take():
                self.notes.append(f"hedged with {partner.name}")
                calls[asyncio.create_task(self.whole(partner, self.request, deadline, "hedge"))] = partner
            chosen = await _first_good(calls)
            return calls[chosen], await chosen
        finally:
            # Also when the request is cancelled: a call that goes on would be paid for and charged to nobody.
            for task in (patience, *calls):
                task.cancel()
            await asyncio.gather(patience, *calls, return_exceptions=True)

    async def whole(self, model: Model, request: ChatRequest, deadline: Deadline, role: AttemptRole) -> Answer:
        """One whole answer; its attempts go into the trail under `role`."""
        own: list[Attempt] = []
        self.in_flight[model.name] = self.in_flight.get(model.name, 0) + 1
        started = deadline.clock.tick()
        try:
            answer = await self.caller.complete(model, request, deadline, own)
        finally:
            self.in_flight[model.name] -= 1
            self.trail.extend(changed(attempt, role=role) for attempt in own)
        await self.breakers.well(model, (deadline.clock.tick() - started) * 1000)
        return answer

    def reason(self) -> str:
        """The choice's reason and what came of it."""
        return "; ".join([self.choice.reason, *self.notes])

    def _share(self, model: Model, waiting: Sequence[Model]) -> Deadline:
        """The whole deadline, less a second model's time when there is plenty for both."""
        if not waiting:
            return self.deadline
        spare = self.deadline.left_s() - 2 * min(_latency_s(m) for m in waiting)
        return self.deadline.sooner(spare) if spare > 4 * _latency_s(model) else self.deadline

    def _after(self, error: EdgewiseError, named: Sequence[Model]) -> list[Model]:
        """Who may still help: the list kept for this failure; without one nobody."""
        helpers = [m for m in named if m.name not in self.tried]
        if not helpers:
            raise error
        return helpers


async def _first_good(calls: Mapping[asyncio.Task[Answer], Model]) -> asyncio.Task[Answer]:
    """The first call that has an answer; when all have failed, the one that began first."""
    pending = set(calls)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None:
                return task
    return next(iter(calls))


def _latency_s(model: Model) -> float:
    return (model.latency_ms or USUAL_LATENCY_MS) / 1000


def _quality(model: Model) -> float:
    return model.quality if model.quality is not None else 0.7


def _wait_s(error: EdgewiseError) -> float | None:
    return error.retry_after_s if isinstance(error, UpstreamRateLimited | UpstreamUnavailable) else None


async def _each(pieces: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for piece in pieces:
        yield piece
