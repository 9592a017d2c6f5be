"""Carries out a choice: its steps in order, each answer checked, until one is kept; all within the deadline.

A step with a check is asked whole and held back: its answer goes out only when the check accepts it, a pair being
asked at once. The last step streams. A failure that another model may not share moves on to the next by capability;
a refusal of the request itself does not, except that a prompt too long, or refused on content, has lists of its own.
Once bytes are out there is no silent switch: what `Live.chunks` does after its first piece is the provider's last
word, and it counts for the model's health when it has ended. No attempt starts that the deadline leaves no time for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

from edgewise.chat import Answer, ChatRequest, unfold
from edgewise.clock import Deadline
from edgewise.errors import (
    ContentFiltered,
    ContextTooLong,
    EdgewiseError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from edgewise.grading import yes_share
from edgewise.routing import evidence, judging
from edgewise.routing.calls import Calls, latency_s, refuses_request
from edgewise.routing.evidence import Confidence
from edgewise.words import AttemptRole, Choice, Live, Model, Step

LEAST_ATTEMPT_S = 0.25
"""An attempt with less time than this can't bring an answer."""
BACKOFF_S = 0.5
MAX_RETRIES = 2
MAX_WAIT_S = 5.0
"""Longer than this nobody waits inside a request: the client is told, with the provider's Retry-After."""
NEARLY_FULL = 0.8
"""A prompt estimated at this share of the context may be too long in truth. Most providers say that it was in prose
only, so a refusal without a reason of such a prompt is taken for that."""

RESTING = "resting"
"""The feature of a choice that names who was passed over: whoever answers stands in for them."""

LogLength = Callable[[Model], tuple[float, float] | None]


@dataclass(slots=True)
class Drive:
    """One choice under way."""

    choice: Choice
    request: ChatRequest
    calls: Calls
    deadline: Deadline
    log_length: LogLength = lambda _: None
    calibrated: Callable[[Model, Confidence], Confidence] = lambda _, found: found
    max_retries: int = MAX_RETRIES
    max_wait_s: float = MAX_WAIT_S
    tried: list[str] = field(default_factory=list)
    earlier: list[Answer] = field(default_factory=list)
    """Answers that were not kept, for a third opinion to side with."""
    rightful: set[str] = field(default_factory=set)
    """Who answers as what was asked for; anybody else stands in for one that failed."""

    async def run(self) -> Live:
        """The first answer that is kept. Raises the last error when every model has failed."""
        self.calls.budget.request()
        resting = self.choice.features.get(RESTING)
        self.rightful = set(resting or (model.name for step in self.choice.steps for model in step.models))
        live = await self._run()
        live.stands_in = live.model.name not in self.rightful
        return live

    async def _run(self) -> Live:
        *early, last = self.choice.steps
        for step in early:
            live = await self.tried_out(step, last)
            if live is not None:
                return live
        return await self.first_of([*last.models, *self.choice.fallbacks])

    async def tried_out(self, step: Step, last: Step) -> Live | None:
        """A step's answer when its check accepts it; None to go on. A failure here is not the request's."""
        whole = changed(self.request, stream=False)
        asked = (*step.models, step.grader) if step.grader is not None else step.models
        needed = max(latency_s(m) for m in asked) + latency_s(last.models[0])
        if self.deadline.left_s() < 2 * needed or not await self.calls.breakers.may(step.models[0]):
            self.calls.notes.append("cheap step skipped")
            return None
        deadline = self.deadline.sooner(self.deadline.left_s() - needed)
        found = await asyncio.gather(
            *(self._quietly(model, whole, deadline, "check" if n else "answer") for n, model in enumerate(step.models))
        )
        first = found[0]
        if first is None:
            self.earlier += [answer for answer in found if answer is not None]
            return None
        confidence = self.calibrated(step.models[0], await self._graded(step, first, found[1:], deadline))
        if confidence.value < step.at_least:
            self.earlier += [answer for answer in found if answer is not None]
            self.calls.notes.append(f"{confidence.source} {confidence.value:.2f} < {step.at_least:.2f}")
            return None
        self.calls.notes.append(f"kept on {confidence.source} {confidence.value:.2f}")
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

    async def _graded(
        self, step: Step, first: Answer, others: Sequence[Answer | None], deadline: Deadline
    ) -> Confidence:
        """Confidence after a verdict, where there is a judge, time for one, and something to decide."""
        prior, model, grader = self._confidence(step, first, others), step.models[0], step.grader
        if grader is None or not judging.decides(prior, judging.source_of(grader, model), step.at_least):
            return prior
        if deadline.left_s() < latency_s(grader) or not await self.calls.breakers.may(grader):
            self.calls.notes.append("verdict skipped")
            return prior
        said = await self._quietly(grader, judging.put(grader, self.request, first), deadline, "judge")
        yes = None if said is None else yes_share(said)
        return prior if yes is None else judging.after(prior, yes, judging.source_of(grader, model))

    async def _quietly(
        self, model: Model, request: ChatRequest, deadline: Deadline, role: AttemptRole
    ) -> Answer | None:
        try:
            return await self.calls.whole(model, request, deadline, role)
        except UpstreamError as error:
            self.calls.notes.append(f"{model.name} failed")
            await self.calls.ill(model, error)
        except EdgewiseError:
            self.calls.notes.append(f"{model.name} refused")
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
        withheld: Live | None = None
        resting: set[str] = set()
        while waiting and len(self.tried) < self.choice.max_attempts and self.deadline.left_s() >= LEAST_ATTEMPT_S:
            model = waiting.pop(0)
            # Nobody is skipped for good: when all others have failed, the resting ones are asked after all.
            if waiting and model.name not in resting and not await self.calls.breakers.may(model):
                resting.add(model.name)
                waiting.append(model)
                self.calls.notes.append(f"{model.name} is resting")
                continue
            if model.name in self.tried:
                continue
            self.tried.append(model.name)
            try:
                live = await self.ask(model, waiting)
                helpers = self._untried(self.choice.on_content) if _filtered(live) else []
                if not helpers:
                    return live
                withheld, waiting = live, helpers
            except UpstreamRefused as error:
                last = error
                if refuses_request(error):
                    waiting = self._who_may_help(model, error)
                await self.calls.ill(model, error)
            except UpstreamError as error:
                last = error
                failed.append((model, error))
                await self.calls.ill(model, error)
        # A filter's own answer is better than another's failure.
        return withheld or await self._again(failed, last)

    async def _again(self, failed: list[tuple[Model, EdgewiseError]], last: EdgewiseError | None) -> Live:
        """Ask again whoever may recover, the shortest wait first: a provider's own Retry-After, else full jitter."""
        able = [(model, error) for model, error in failed if isinstance(error, UpstreamError) and error.retryable]
        retries = 0
        while able and retries < self.max_retries and len(self.tried) < self.choice.max_attempts:
            model, error = able.pop(min(range(len(able)), key=lambda n: _wait_s(able[n][1]) or BACKOFF_S))
            named = _wait_s(error)
            wait = named if named is not None else self.deadline.clock.uniform() * BACKOFF_S * 2**retries
            if wait > self.max_wait_s or self.deadline.left_s() < wait + max(LEAST_ATTEMPT_S, latency_s(model)):
                continue
            if not self.calls.budget.take():
                break
            retries += 1
            await self.deadline.clock.sleep(wait)
            self.tried.append(model.name)
            self.calls.notes.append(f"retry of {model.name}")
            try:
                return await self.ask(model, ())
            except UpstreamError as again:
                last = again
                if again.retryable:
                    able.append((model, again))
                await self.calls.ill(model, again)
        if last is None:
            raise UpstreamTimeout("The deadline left no time to ask a model.")
        raise last

    async def ask(self, model: Model, waiting: Sequence[Model]) -> Live:
        """One call to one model; time is kept back for the next one when there is enough for both."""
        deadline = self._share(model, waiting)
        if len(self.tried) > 1 and model.name not in self.tried[:-1]:
            self.calls.notes.append(f"fallback to {model.name}")
        if not self.request.stream:
            partner = waiting[0] if self.choice.hedge and waiting else None
            winner, answer = await self.calls.hedged(model, partner, self.request, deadline)
            confidence = evidence.own(
                self.request, answer, base=_quality(winner), usual_log_length=self.log_length(winner)
            )
            return self._live(winner, answer, self.calibrated(winner, confidence))
        return Live(model, chunks=await self.calls.streamed(model, self.request, deadline), reason=self.reason())

    def reason(self) -> str:
        """The choice's reason and what came of it."""
        return "; ".join([self.choice.reason, *self.calls.notes])

    def _share(self, model: Model, waiting: Sequence[Model]) -> Deadline:
        """The whole deadline, less a second model's time when there is plenty for both."""
        if not waiting:
            return self.deadline
        spare = self.deadline.left_s() - 2 * min(latency_s(m) for m in waiting)
        return self.deadline.sooner(spare) if spare > 4 * latency_s(model) else self.deadline

    def _who_may_help(self, model: Model, error: UpstreamRefused) -> list[Model]:
        """Who may still take what `model` refused: the list kept for its reason. Raises `error` when nobody may."""
        if isinstance(error, ContentFiltered):
            helpers = self._untried(self.choice.on_content)
        elif isinstance(error, ContextTooLong) or self._nearly_full(model):
            helpers = self._untried(self.choice.on_context)
        else:
            helpers = []
        if not helpers:
            raise error
        return helpers

    def _untried(self, named: Sequence[Model]) -> list[Model]:
        """Those of a list kept for the request's own sake that are left: they answer by right."""
        found = [model for model in named if model.name not in self.tried]
        self.rightful |= {model.name for model in found}
        return found

    def _nearly_full(self, model: Model) -> bool:
        prompt = self.choice.features.get("prompt_tokens") or 0
        return model.context_tokens is not None and prompt >= NEARLY_FULL * model.context_tokens


def _filtered(live: Live) -> bool:
    return live.answer is not None and "content_filter" in live.answer.finish_reasons


def _quality(model: Model) -> float:
    return model.quality if model.quality is not None else 0.7


def _wait_s(error: EdgewiseError) -> float | None:
    return error.retry_after_s if isinstance(error, UpstreamRateLimited | UpstreamUnavailable) else None


async def _each(pieces: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for piece in pieces:
        yield piece
