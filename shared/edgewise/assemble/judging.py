"""A model as the judge of whether a kept answer fits a new question: off the request path, on a sample.

The judge reads both questions and the kept answer and says one word, so a label costs a fraction of a generation.
Its calls pass the provider room like any other and are recorded, on the house's account: they are nobody's request.
What it cannot say clearly is no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from edgewise.cache.semantic.shadow import Opinion
from edgewise.chat import ChatRequest
from edgewise.clock import Clock, Deadline
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
        body: dict[str, Any] = {
            "model": self.model.name,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 4,
            "temperature": 0,
        }
        trail: list[Attempt] = []
        began = self.clock.tick()
        try:
            said = await self.caller.complete(
                self.model, ChatRequest(body), Deadline.after(self.clock, self.timeout_s), trail
            )
        finally:
            self._note(trail, (self.clock.tick() - began) * 1000)
        word = said.text.strip().strip(".!*\"'").lower()
        return Opinion({"yes": True, "no": False}.get(word))

    def _note(self, trail: list[Attempt], elapsed_ms: float) -> None:
        costs = [attempt.cost_usd for attempt in trail]
        known = None if not costs or None in costs else sum((cost for cost in costs if cost), Decimal(0))
        self.record.note(
            Note(
                request_id=self.clock.token("judge_"),
                route="judge",
                at=self.clock.now(),
                tenant="edgewise",
                model=self.model.name,
                provider=self.model.provider,
                attempts=tuple(trail),
                usage=trail[-1].usage if trail else None,
                cost_usd=known,
                latency_ms=elapsed_ms,
                error=trail[-1].error if trail else None,
            )
        )
