"""What is told of an embeddings request: its headers and its one record.

A list that is found in part is a miss with the number that was found as its reason: what was asked for was paid.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from edgewise.api.headers import usd
from edgewise.chat import Usage
from edgewise.clock import Clock
from edgewise.errors import EdgewiseError
from edgewise.served import cache_word
from edgewise.words import Attempt, Hit, Miss, Model, Note, Plan, Principal, Query, Usd, Verdict


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a request before anything is done about it."""

    caller: Principal
    request_id: str
    route: str
    asked_model: str


@dataclass(slots=True)
class Embedded:
    """What becomes of one request: the answer in the client's shape, and all that headers and the record tell."""

    plan: Plan
    queries: list[Query] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)
    elapsed_ms: float = 0.0

    @property
    def cost_usd(self) -> Usd | None:
        """Of the one call, and what policy paid; None when it is unknown."""
        called = self.attempts[-1].cost_usd if self.attempts else Decimal(0)
        return called if called is None or self.plan.late is None else called + self.plan.late.spent_usd

    @property
    def hits(self) -> list[Hit]:
        return [verdict for verdict in self.verdicts if isinstance(verdict, Hit)]

    @property
    def verdict(self) -> Verdict | None:
        """The first input's that was not found, or any input's when all were; None before anything was looked up."""
        return next((v for v in self.verdicts if isinstance(v, Miss)), self.verdicts[0] if self.verdicts else None)

    @property
    def saved_usd(self) -> Usd | None:
        """What the inputs that were found once cost; None when nothing was found or a price was not known."""
        costs = [hit.entry.cost_usd for hit in self.hits]
        return None if not costs or None in costs else sum((cost for cost in costs if cost), Decimal(0))

    @property
    def usage(self) -> Usage | None:
        return Usage.of(self.answer.get("usage"))


def headers_of(done: Embedded, model: Model) -> dict[str, str]:
    """What the headers of one answer tell."""
    headers = dict(done.plan.headers)
    if done.queries[0].tenant != done.plan.tenant:
        # In a shared namespace nothing tells one tenant what another has asked.
        return {**headers, "x-edgewise-cache": "shared"}
    headers |= {
        "openai-processing-ms": str(round(done.elapsed_ms)),
        "x-edgewise-model": model.name,
        "x-edgewise-provider": model.provider,
        "x-edgewise-cost-usd": "unknown" if done.cost_usd is None else usd(done.cost_usd),
        "x-edgewise-cache": cache_word(done.verdict),
    }
    if isinstance(done.verdict, Miss):
        some = f"{len(done.hits)} of {len(done.verdicts)} cached"
        headers["x-edgewise-cache-reason"] = some if done.hits else done.verdict.reason
    else:
        headers["age"] = str(int(max(hit.age_s for hit in done.hits)))
    if len(done.queries) == 1:
        headers["x-edgewise-cache-key"] = done.queries[0].key
    if done.saved_usd is not None:
        headers["x-edgewise-saved-usd"] = usd(done.saved_usd)
    return headers


def note_of(clock: Clock, about: About, done: Embedded | None, error: EdgewiseError | None, elapsed_ms: float) -> Note:
    """The one record of a request; `done` is None when policy let nothing through."""
    found = Note(
        request_id=about.request_id,
        route=about.route,
        at=clock.now(),
        tenant=about.caller.tenant,
        key_id=about.caller.key_id,
        asked_model=about.asked_model,
        status=error.status if error else 200,
        error=(error.code or error.type) if error else None,
        cost_usd=error.spent_usd if error else Decimal(0),
        latency_ms=elapsed_ms,
    )
    if done is None:
        return found
    last, verdict = done.attempts[-1] if done.attempts else None, done.verdict
    of = last.model if last else None
    if of is None and isinstance(verdict, Hit):
        of = Model(verdict.entry.provider, verdict.entry.model)
    return replace(
        found,
        model=of.name if of else "",
        provider=of.provider if of else "",
        cache=cache_word(verdict),
        cache_kind=verdict.kind if isinstance(verdict, Hit) else None,
        cache_reason=verdict.reason if isinstance(verdict, Miss) else None,
        cache_key=done.queries[0].key if len(done.queries) == 1 else None,
        attempts=tuple(done.attempts),
        usage=done.usage or (last.usage if last else None),
        cost_usd=done.cost_usd,
        saved_usd=done.saved_usd,
        overhead_ms=max(0.0, elapsed_ms - sum(attempt.latency_ms for attempt in done.attempts)),
        flags=done.plan.flags,
    )
