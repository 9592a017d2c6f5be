"""A provider's answer is written down before anything else is done with it.

Between the provider's last byte and the line's result lie the accounting and the cache; a worker that dies there
would ask, and pay, again. `Journal` stands around the provider room's caller while a line runs: an answer that is in
the line's calls is given without a call, and a new one is kept before the caller sees it. A worker that dies while
the provider still thinks has no answer to keep; that call alone can be made twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

import orjson

from edgewise.chat import Answer, ChatRequest, Chunks
from edgewise.clock import Deadline
from edgewise.jobs.ports import Calls
from edgewise.words import Attempt, Model


class Caller(Protocol):
    async def complete(
        self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]
    ) -> Answer: ...

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks: ...


class Journal:
    """A caller for one line. The same call made twice on purpose (samples to compare) counts as two, in order."""

    def __init__(self, inner: Caller, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls
        self._made: Counter[str] = Counter()
        self.replayed_usd: Decimal | None = Decimal(0)
        """What the answers cost that were given without a call. They were charged when they were made, if their
        worker lived long enough, so here they go into the trail at no cost: nothing is charged twice."""

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        key = self._key(model, request)
        known = self._calls.find(key)
        if known is not None:
            answer, attempts = known
            for attempt in attempts:
                if self.replayed_usd is not None:
                    cost = attempt.cost_usd
                    self.replayed_usd = None if cost is None else self.replayed_usd + cost
                trail.append(replace(attempt, model=model, cost_usd=Decimal(0)))
            return answer
        before = len(trail)
        answer = await self._inner.complete(model, request, deadline, trail)
        await self._calls.keep(key, answer, trail[before:])
        return answer

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks:
        return await self._inner.stream(model, request, deadline, trail)

    def _key(self, model: Model, request: ChatRequest) -> str:
        asked = orjson.dumps([model.name, request.body], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
        digest = hashlib.blake2b(asked, digest_size=10).hexdigest()
        self._made[digest] += 1
        return f"{digest}-{self._made[digest]}"
