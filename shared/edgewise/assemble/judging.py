"""A model as the judge of whether a kept answer fits a new question: off the request path, on a sample.

The judge reads both questions and the kept answer and says one word, so a label costs a fraction of a generation.
Its calls pass the provider room like any other and are recorded, on the house's account: they are nobody's request.
What it cannot say clearly is no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from edgewise.cache.semantic.shadow import Opinion
from edgewise.clock import Clock, Deadline
from edgewise.grading import one_word, yes_share
from edgewise.record.room import RecordRoom
from edgewise.words import Attempt, Caller, Model, Note

PROMPT = """Two people asked a question. The first was given the answer below.
Would exactly the same answer be right and complete for the second? Differences in names, numbers, dates, places,
units, negation or what is being asked for mean no. Reply with one word: yes or no.

First question: {kept}
Answer to the first: {answer}
Second question: {asked}"""
LONGEST_ANSWER_CHARS = 4_000


@dataclass(slots=True)
class ModelJudge:
    """Implements `edgewise.cache.semantic.shadow.Judge`.

    false_alarm, missed  the judge's error rates, from an audit of the model that is used: they widen the bound
    """

    model: Model
    caller: Caller
    clock: Clock
    record: RecordRoom
    false_alarm: float = 0.0
    missed: float = 0.1
    timeout_s: float = 20.0

    async def judge(self, asked: str, kept: str, answer: str) -> Opinion:
        """Raises `UpstreamError` when the model does not answer; then there is no label."""
        text = PROMPT.format(asked=asked, kept=kept, answer=answer[:LONGEST_ANSWER_CHARS])
        trail: list[Attempt] = []
        try:
            said = await self.caller.complete(
                self.model, one_word(self.model, text), Deadline.after(self.clock, self.timeout_s), trail
            )
        finally:
            self.record.note(own_note(self.clock, "judge", self.model, trail))
        yes = yes_share(said)
        return Opinion(None if yes is None else yes > 0.5)


def own_note(clock: Clock, route: str, model: Model, trail: list[Attempt]) -> Note:
    """The record of a call that the gateway makes for itself: it is nobody's request."""
    costs = [attempt.cost_usd for attempt in trail]
    known = None if not costs or None in costs else sum((cost for cost in costs if cost), Decimal(0))
    return Note(
        request_id=clock.token(f"{route}_"),
        route=route,
        at=clock.now(),
        tenant="edgewise",
        model=model.name,
        provider=model.provider,
        attempts=tuple(trail),
        usage=trail[-1].usage if trail else None,
        cost_usd=known,
        latency_ms=sum(attempt.latency_ms for attempt in trail),
        error=trail[-1].error if trail else None,
    )
