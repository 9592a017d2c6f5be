"""What was asked most, so that it can be warmed again tomorrow.

Off unless the operator turns it on, because it keeps what was asked: the record never does. Each process counts for
itself and adds its counts to the day's tally now and then; a question that was asked once is not worth a write unless
there is room. Requests that leave no traces (no-store, flagged) are not counted, nor those whose answer cannot be
kept: warming would pay for them and fill nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from edgewise.clock import Clock
from edgewise.words import Plan, Query

FLUSH_S = 60.0
MOST_COUNTED = 2_000
MOST_ROWS = 50
"""Rows in one flush: the most asked."""
MOST_BYTES = 100_000
"""Of a body that is told; an item holds four times as much."""
KEPT_DAYS = 3


@dataclass(frozen=True, slots=True)
class Question:
    """A request's body, and how often it was asked."""

    scope: str
    key: str
    times: int
    body: Mapping[str, Any]


class Tally(Protocol):
    """The day's counts over all processes. Raises `StoreError`."""

    async def add(self, day: str, question: Question) -> None: ...
    async def top(self, day: str, scope: str, most: int) -> list[Question]:
        """The most asked of one scope, most first."""
        ...


class Popular:
    """This process's counts since it last told them to the tally."""

    def __init__(self, clock: Clock, tally: Tally) -> None:
        self._clock = clock
        self.tally = tally
        self._counts: dict[tuple[str, str], tuple[int, Mapping[str, Any]]] = {}
        self._told_at = clock.tick()

    def saw(self, query: Query, plan: Plan) -> bool:
        """Count one request; whether it is time to flush."""
        if plan.flags or plan.request.cache.no_store or not plan.cache.store:
            return False
        at = (query.tenant, query.key)
        times, body = self._counts.get(at, (0, plan.request.body))
        if times == 0 and len(self._counts) >= MOST_COUNTED:
            self._forget_singles()
        self._counts[at] = (times + 1, body)
        return self._clock.tick() - self._told_at >= FLUSH_S

    def _forget_singles(self) -> None:
        self._counts = {at: counted for at, counted in self._counts.items() if counted[0] > 1}
        if len(self._counts) >= MOST_COUNTED:
            self._counts.clear()

    async def flush(self) -> None:
        """Add the most asked to the tally. Raises StoreError, and then what was counted is lost."""
        self._told_at = self._clock.tick()
        counts, self._counts = self._counts, {}
        most = sorted(counts.items(), key=lambda item: -item[1][0])[:MOST_ROWS]
        for (scope, key), (times, body) in most:
            if len(orjson.dumps(body)) > MOST_BYTES:
                continue
            await self.tally.add(day_of(self._clock.now()), Question(scope, key, times, body))


def day_of(now: float) -> str:
    """The day in UTC, as 2026-01-31."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")


class LocalTally:
    """Counts of this process alone."""

    def __init__(self) -> None:
        self._days: dict[str, dict[tuple[str, str], Question]] = {}

    async def add(self, day: str, question: Question) -> None:
        counted = self._days.setdefault(day, {})
        at = (question.scope, question.key)
        times = counted[at].times if at in counted else 0
        counted[at] = Question(question.scope, question.key, times + question.times, question.body)

    async def top(self, day: str, scope: str, most: int) -> list[Question]:
        found = [q for q in self._days.get(day, {}).values() if q.scope == scope]
        return sorted(found, key=lambda q: (-q.times, q.key))[:most]
