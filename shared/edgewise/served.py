"""What became of one request: what goes to the client, and the one line that the record gets of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edgewise.chat import Answer
from edgewise.clock import Clock, Deadline
from edgewise.errors import EdgewiseError
from edgewise.words import Attempt, Choice, Hit, Live, Miss, Note, Plan, Principal, Query, Usd, Verdict


@dataclass(slots=True)
class Served:
    """What goes to the client: `answer` or `chunks`, and all that the response headers tell.

    `chunks` always end with a usage chunk when usage is known; the edge drops it if the client did not ask.
    """

    request_id: str
    stream: bool
    started: float
    answer: Answer | None = None
    chunks: AsyncIterator[dict[str, Any]] | None = None
    caller: Principal | None = None
    plan: Plan | None = None
    query: Query | None = None
    verdict: Verdict | None = None
    choice: Choice | None = None
    live: Live | None = None
    attempts: list[Attempt] = field(default_factory=list)
    first_at: float | None = None
    stored: str = ""
    status: int = 200
    deadline: Deadline | None = None
    shadow: tuple[Choice, Live] | None = None
    """What is asked again behind this answer, and the answer as the model gave it."""

    @property
    def cache_key(self) -> str | None:
        """The key of the entry that was served, or that this answer was or would be kept under."""
        if isinstance(self.verdict, Hit):
            return self.verdict.entry.key
        return self.query.key if self.query is not None else None

    @property
    def shared(self) -> bool:
        """It is kept where several tenants share, of whom none may learn what another has asked."""
        return self.query is not None and self.plan is not None and self.query.tenant != self.plan.tenant

    @property
    def final(self) -> Attempt | None:
        """The attempt whose answer was served; a check or a shadow may have ended after it."""
        good = [attempt for attempt in reversed(self.attempts) if attempt.error is None]
        mine = self.live.model if self.live is not None else None
        return next((a for a in good if a.model == mine), good[0] if good else None)

    @property
    def cost_usd(self) -> Usd | None:
        """The sum over every attempt, and what policy paid; None when one of them is unknown."""
        costs = [attempt.cost_usd for attempt in self.attempts]
        policys = self.plan.late.spent_usd if self.plan is not None and self.plan.late is not None else Decimal(0)
        return None if any(cost is None for cost in costs) else sum((c for c in costs if c), policys)


def note_of(clock: Clock, served: Served, route: str, error: EdgewiseError | None) -> Note:
    """Everything that is known of a request, in one flat value."""
    elapsed_ms = (clock.tick() - served.started) * 1000
    upstream_ms = sum(attempt.latency_ms for attempt in served.attempts)
    plan, verdict, choice, caller = served.plan, served.verdict, served.choice, served.caller
    hit = verdict if isinstance(verdict, Hit) else None
    # A request that failed is laid to the model that was tried last, or no model would ever have an error.
    final = served.attempts[-1] if error and served.attempts else served.final
    answer = served.answer or (hit.entry.answer if hit else None)
    if hit is not None:
        model, provider = f"{hit.entry.provider}/{hit.entry.model}", hit.entry.provider
    else:
        model, provider = (final.model.name, final.model.provider) if final else ("", "")
    return Note(
        request_id=served.request_id,
        route=route,
        at=clock.now(),
        tenant=caller.tenant if caller else "",
        key_id=caller.key_id if caller else "",
        asked_model=plan.request.model if plan else "",
        model=model,
        provider=provider,
        stream=served.stream,
        status=error.status if error else served.status,
        error=(error.code or error.type) if error else None,
        cache="hit" if hit else cache_word(verdict),
        cache_kind=hit.kind if hit else None,
        cache_reason=verdict.reason if isinstance(verdict, Miss) else None,
        cache_key=served.cache_key,
        similarity=hit.similarity if hit else None,
        strategy=choice.strategy if choice else None,
        route_reason=(served.live.reason or choice.reason) if choice and served.live else None,
        attempts=tuple(served.attempts),
        usage=answer.usage if answer else None,
        cost_usd=error.spent_usd if error and plan is None else served.cost_usd,
        saved_usd=hit.entry.cost_usd if hit else None,
        latency_ms=elapsed_ms,
        first_ms=(served.first_at - served.started) * 1000 if served.first_at else None,
        overhead_ms=max(0.0, elapsed_ms - upstream_ms),
        finish=next(iter(answer.finish_reasons), None) if answer else None,
        confidence=served.live.confidence if served.live else None,
        confidence_source=served.live.confidence_source if served.live else None,
        flags=(plan.flags if plan.late is None else (*plan.flags, *plan.late.flags)) if plan else (),
        saved_tokens=plan.saved_tokens if plan else 0,
        features=choice.features if choice else hit.evidence if hit else {},
    )


def cache_word(verdict: Verdict | None) -> str:
    """The first word of `x-edgewise-cache`: hit, miss, bypass (the client or policy said no) or off."""
    if isinstance(verdict, Hit):
        return "hit"
    if verdict is None or verdict.reason == "off":
        return "off"
    return "bypass" if verdict.reason in ("no-cache", "no-store", "skip") else "miss"
