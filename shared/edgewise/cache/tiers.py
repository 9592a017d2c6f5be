"""Where `@cached` keeps results: a shelf in this process, or a store that processes share, with turns between them.

Over a store with leases equal calls of all processes at once are one, as requests are (`edgewise.cache.lease`): the
first takes the lease on the key, the others wait for what it stores. Whoever fails lets the next one try; trouble with
the leases or the store means that the function is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol

from edgewise.cache.lease import Leases, Patience, follow, renew_while_leading
from edgewise.cache.memory.shelf import Shelf
from edgewise.cache.port import Kept, Store, StoreError
from edgewise.chat import Answer
from edgewise.clock import Clock
from edgewise.words import Entry

SCOPE = "@cached"
MOST_CRASHES = 3


@dataclass(frozen=True, slots=True)
class Value:
    """A result, so that None is one too."""

    value: Any


@dataclass(frozen=True, slots=True)
class Turn:
    """To make the value: this caller's alone among all processes, while `renewing` runs."""

    gen: int
    renewing: asyncio.Task[None]


class Tier(Protocol):
    """Results by key. Coroutines throughout, so that a sync function can run them to their end."""

    def get(self, key: str) -> Coroutine[Any, Any, Value | None]: ...
    def put(self, key: str, value: Any) -> Coroutine[Any, Any, bool]:
        """Whether it is kept."""
        ...

    def delete(self, key: str) -> Coroutine[Any, Any, None]: ...
    def turn(self, key: str) -> Coroutine[Any, Any, Value | Turn | None]:
        """What somebody else has made meanwhile, or the turn to make it; None: make it, nobody is waiting."""
        ...

    def end(self, key: str, turn: Turn, kept: bool | None) -> Coroutine[Any, Any, None]:
        """End a turn: the value is kept, or (False) could not be, or (None) was not made."""
        ...


@dataclass(slots=True)
class OnShelf:
    where: Shelf[str, Value]
    clock: Clock
    ttl_s: float

    async def get(self, key: str) -> Value | None:
        return self.where.get(key)

    async def put(self, key: str, value: Any) -> bool:
        return self.where.put(key, Value(value), 1, self.clock.now() + self.ttl_s)

    async def delete(self, key: str) -> None:
        self.where.delete(key)

    async def turn(self, key: str) -> Value | Turn | None:  # noqa: ARG002
        return None

    async def end(self, key: str, turn: Turn, kept: bool | None) -> None:
        pass


@dataclass(slots=True)
class InStore:
    where: Store
    clock: Clock
    ttl_s: float
    name: str
    leases: Leases | None = None
    patience: Patience = field(default_factory=Patience)

    async def get(self, key: str, *, strong: bool = False) -> Value | None:
        try:
            kept = await self.where.get(SCOPE, key, strong=strong)
        except StoreError:
            return None
        return None if kept is None else Value(kept.entry.answer.completion.get("value"))

    async def put(self, key: str, value: Any) -> bool:
        if not _is_json(value):
            # It would come back as something else: a tuple as a list, a date as text.
            return False
        now = self.clock.now()
        until = now + self.ttl_s
        entry = Entry(key, Answer({"value": value}), now, until, until, model=self.name, provider=SCOPE)
        try:
            return await self.where.put(SCOPE, Kept(entry, namespace=self.name))
        except StoreError:
            # No store: the function is simply called again next time.
            return False

    async def delete(self, key: str) -> None:
        await self.where.delete(SCOPE, key)

    async def turn(self, key: str) -> Value | Turn | None:
        if self.leases is None:
            return None
        try:
            for _ in range(MOST_CRASHES):
                now = self.clock.now()
                taken = await self.leases.take(SCOPE, key, now, now + self.patience.lease_s)
                told = taken.before if taken else await follow(self.leases, self.clock, SCOPE, key, self.patience)
                found = await self.get(key, strong=True) if told == "kept" else None
                if taken is not None:
                    turn = Turn(taken.gen, asyncio.create_task(self._renew(self.leases, key, taken.gen)))
                    if found is None:
                        return turn
                    await self.end(key, turn, kept=True)
                if found is not None or told == "alone":
                    return found
        except StoreError:
            return None
        return None

    async def _renew(self, leases: Leases, key: str, gen: int) -> None:
        await renew_while_leading(leases, self.clock, SCOPE, key, gen, self.patience)

    async def end(self, key: str, turn: Turn, kept: bool | None) -> None:
        assert self.leases is not None
        turn.renewing.cancel()
        until = self.clock.now() + self.patience.lease_s
        news: Any = {True: "kept", False: "alone", None: "failed"}[kept]
        try:
            await self.leases.tell(SCOPE, key, turn.gen, news, None, until)
        except StoreError:
            # It runs out by itself.
            return


def _is_json(value: Any) -> bool:
    """Whether JSON gives back the very same value."""
    kind = type(value)
    if kind is list:
        return all(map(_is_json, value))
    if kind is dict:
        return all(type(name) is str and _is_json(inner) for name, inner in value.items())
    return kind in (str, int, bool, type(None)) or (kind is float and isfinite(value))
