"""A provider's answer is written down before anything else is done with it.

Between the provider's last byte and the line's result lie the accounting and the cache; a worker that dies there
would ask, and pay, again. `Journal` stands around the provider room's caller while a line runs: an answer that is in
the line's calls is given without a call, and a new one is kept before the caller sees it. A worker that dies while
the provider still thinks has no answer to keep; that call alone can be made twice.

The budget is charged once, too. With each call is kept what was held for it (`receipt`); a later try first settles
what earlier ones held, which changes nothing where they lived to do it themselves. From then on the earlier calls
cost this try nothing: they go into its trail at no cost, and `with_earlier` adds what they had cost.

A call is known by what it asks and by how many of its kind were under way or answered before it, so that samples to
compare are several; one that failed leaves its number to the next, which may be the one that a later try finds.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Any, Protocol

import orjson

from edgewise.chat import Answer, ChatRequest, Chunk, Chunks, Folding, unfold
from edgewise.clock import Deadline
from edgewise.jobs.paid import PaidCall
from edgewise.jobs.ports import Calls
from edgewise.words import Attempt, Model, Usd

Make = Callable[[list[Attempt]], Awaitable[Answer]]
"""Makes a call and appends what it took to the trail that it is given."""


class Caller(Protocol):
    async def complete(
        self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]
    ) -> Answer: ...

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks: ...


class Purse(Protocol):
    """Whose money it is: policy."""

    def receipt(self, hold: Any) -> str | None:
        """What `charge` needs to settle `hold`, in whatever process; None when nothing is held."""
        ...

    async def charge(self, receipt: str, attempts: list[Attempt]) -> None:
        """Settle a hold, exactly once over all processes. Raises Unavailable."""
        ...


class Holding:
    """Policy while one line runs: it remembers what was held last, and is otherwise policy itself."""

    def __init__(self, policy: Any, purse: Purse | None) -> None:
        self._policy, self._purse = policy, purse
        self.receipt: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    async def reserve(self, plan: Any, choice: Any) -> Any:
        hold = await self._policy.reserve(plan, choice)
        self.receipt = self._purse.receipt(hold) if self._purse is not None else None
        return hold


class Journal:
    """A caller for one line. The same call made twice on purpose (samples to compare) counts as two, in order."""

    def __init__(self, inner: Caller, calls: Calls, holding: Holding | None = None) -> None:
        self._inner = inner
        self._calls = calls
        self._holding = holding
        self._made: set[str] = set()
        self._earlier = calls.earlier()

    def with_earlier(self, cost_usd: Usd | None) -> Usd | None:
        """What the request cost in all its tries, when this one cost `cost_usd`; None when a part is unknown."""
        return with_earlier(self._earlier, cost_usd)

    async def settle_earlier(self, purse: Purse) -> None:
        """Charge what earlier tries paid and may have died before charging. Raises Unavailable."""
        held: defaultdict[str, list[Attempt]] = defaultdict(list)
        for call in self._earlier:
            if call.receipt is not None:
                held[call.receipt] += call.attempts
        for receipt, attempts in held.items():
            await purse.charge(receipt, attempts)

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        async def make(trail: list[Attempt]) -> Answer:
            return await self._inner.complete(model, request, deadline, trail)

        return await self.once(model, request.body, trail, make)

    async def once(self, model: Model, body: Mapping[str, Any], trail: list[Attempt], make: Make) -> Answer:
        """The answer to `body` that was paid for before, or a new one, kept before it is handed on."""
        key = self._key(model, body)
        known = self._calls.find(key)
        if known is not None:
            trail += [replace(attempt, model=model, cost_usd=Decimal(0)) for attempt in known.attempts]
            return known.answer
        before = len(trail)
        try:
            answer = await make(trail)
        except BaseException:
            self._made.discard(key)
            raise
        receipt = self._holding.receipt if self._holding is not None else None
        await self._calls.keep(key, PaidCall(answer, trail[before:], receipt))
        return answer

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks:
        """The same for a stream: a call is kept when its last piece is there, before the end is told."""
        key = self._key(model, request.body)
        known = self._calls.find(key)
        if known is not None:
            trail += [replace(attempt, model=model, cost_usd=Decimal(0)) for attempt in known.attempts]
            wire = known.answer.completion
            return _each(unfold(known.answer, id=str(wire.get("id")), created=int(wire.get("created") or 0)))
        try:
            chunks = self._followed(key, await self._inner.stream(model, request, deadline, trail), trail, len(trail))
        except BaseException:
            self._made.discard(key)
            raise
        # Begun at once: a generator that nobody has begun would not end its call when it is closed.
        await anext(chunks)
        return chunks

    async def _followed(
        self, key: str, chunks: Chunks, trail: list[Attempt], before: int
    ) -> AsyncGenerator[Chunk, None]:
        folding = Folding()
        try:
            yield {}
            async for piece in chunks:
                folding.add(piece)
                yield piece
            if folding.finished:
                receipt = self._holding.receipt if self._holding is not None else None
                await self._calls.keep(key, PaidCall(folding.answer(), trail[before:], receipt))
        except BaseException:
            self._made.discard(key)
            raise
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    def _key(self, model: Model, body: Mapping[str, Any]) -> str:
        asked = orjson.dumps([model.name, body], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
        digest = hashlib.blake2b(asked, digest_size=10).hexdigest()
        key = next(key for number in count(1) if (key := f"{digest}-{number}") not in self._made)
        self._made.add(key)
        return key


def with_earlier(earlier: Iterable[PaidCall], cost_usd: Usd | None) -> Usd | None:
    """What a request cost with its earlier tries' calls; None when a part is unknown."""
    costs = [cost_usd, *(attempt.cost_usd for call in earlier for attempt in call.attempts)]
    return None if any(cost is None for cost in costs) else sum((cost for cost in costs if cost), Decimal(0))


async def _each(pieces: Iterable[Chunk]) -> AsyncGenerator[Chunk, None]:
    for piece in pieces:
        yield piece
