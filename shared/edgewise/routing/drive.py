"""Carries out a choice: asks its models in order until one has answered, within the deadline.

A failure that another model may not share moves on to the next by capability; a refusal of the request itself does
not, except that a prompt too long, or refused on content, has lists of its own. Once bytes are out there is no silent
switch: what `Live.chunks` does after its first piece is the provider's last word. No attempt starts that the deadline
leaves no time for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgewise.chat import ChatRequest
from edgewise.clock import Deadline
from edgewise.errors import (
    ContentRefused,
    ContextTooLong,
    EdgewiseError,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from edgewise.routing.health import Health
from edgewise.words import Attempt, Caller, Choice, Live, Model

LEAST_ATTEMPT_S = 0.25
"""An attempt with less time than this can't bring an answer."""


@dataclass(slots=True)
class Drive:
    """One choice under way."""

    choice: Choice
    request: ChatRequest
    caller: Caller
    deadline: Deadline
    trail: list[Attempt]
    health: Health
    on_context: Sequence[Model] = ()
    on_content: Sequence[Model] = ()
    max_attempts: int = 6
    tried: list[str] = field(default_factory=list)

    async def run(self) -> Live:
        """The first answer of the choice's models and fallbacks. Raises the last error when all have failed."""
        return await self.first_of([*self.choice.steps[-1].models, *self.choice.fallbacks])

    async def first_of(self, models: Sequence[Model]) -> Live:
        """Ask `models` one after another."""
        waiting = list(models)
        asleep: list[Model] = []
        last: EdgewiseError | None = None
        while waiting and len(self.tried) < self.max_attempts:
            model = waiting.pop(0)
            if model.name in self.tried:
                continue
            if not asleep and waiting and not await self.health.may(model):
                # Nobody is skipped for good: when all others have failed too, the cooling ones are asked after all.
                asleep.append(model)
                waiting.append(model)
                continue
            if self.deadline.left_s() < LEAST_ATTEMPT_S:
                break
            self.tried.append(model.name)
            try:
                return await self.ask(model, waiting)
            except ContextTooLong as error:
                last, waiting = error, self._after(error, self.on_context)
            except ContentRefused as error:
                last, waiting = error, self._after(error, self.on_content)
            except UpstreamRefused as error:
                if error.status not in (401, 403, 404, 408, 409, 425, 429):
                    raise
                last = error
                await self.health.ill(model, error)
            except UpstreamError as error:
                last = error
                await self.health.ill(model, error)
        if last is None:
            raise UpstreamTimeout("The deadline left no time to ask a model.")
        raise last

    async def ask(self, model: Model, waiting: Sequence[Model]) -> Live:
        """One call to one model; time is kept back for the next one when there is enough for both."""
        deadline = self._share(model, waiting)
        started = deadline.clock.tick()
        reason = self.choice.reason if len(self.tried) == 1 else f"{self.choice.reason}; fallback {len(self.tried) - 1}"
        if self.request.stream:
            chunks = await self.caller.stream(model, self.request, deadline, self.trail)
            live = Live(model, chunks=chunks, reason=reason)
        else:
            answer = await self.caller.complete(model, self.request, deadline, self.trail)
            live = Live(model, answer=answer, reason=reason)
        await self.health.well(model, (deadline.clock.tick() - started) * 1000)
        return live

    def _share(self, model: Model, waiting: Sequence[Model]) -> Deadline:
        left = self.deadline.left_s()
        if not waiting:
            return self.deadline
        mine = (model.latency_ms or 3000.0) / 1000
        next_one = min((m.latency_ms or 3000.0) / 1000 for m in waiting)
        spare = left - 2 * next_one
        return self.deadline.sooner(spare) if spare > 4 * mine else self.deadline

    def _after(self, error: EdgewiseError, named: Sequence[Model]) -> list[Model]:
        """Who may still help: the list kept for this failure; without one nobody."""
        helpers = [m for m in named if m.name not in self.tried]
        if not helpers:
            raise error
        return helpers


def nobody() -> UpstreamUnavailable:
    """There is no candidate at all."""
    return UpstreamUnavailable("No configured model can take this request.")
