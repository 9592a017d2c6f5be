"""A till: one counter with a cap, from which a crashed caller's share comes back by itself.

Theory of operation. A till's `used` is what was spent plus what is held. To take, `used += amount` on the condition
`used <= cap - amount`, and the hold (id, amount, lease) is written beside it in the same item, so there is no moment
in which an amount is held and nobody knows by whom. To give back, the hold is removed and `used += actual - amount`
on the condition that the hold is still there, so giving twice changes nothing. A hold whose lease has run out
belongs to a process that is gone: whoever is refused next removes it by the same conditional step, and asks again.
It leaves a mark in the hold's place; should the hold be given back after all (by a slow process, or by one that
takes over and knows what was spent), the mark is what makes that count, once.

Taking from several tills is all or none (one transaction); giving back is not atomic and need not be, as each step
alone can be repeated. With one till, taking is one conditional update, which no neighbour can conflict with.

A lease is longer than any request may live, so a hold that has run out is never still in use.

This module knows neither money nor limits: budgets take picodollars from tills and put back what was not spent;
the cap on requests in flight takes 1 and puts back 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, assert_never


@dataclass(frozen=True, slots=True)
class Till:
    """One counter. `owner` and `name` say where it is stored; `cap` is checked at each taking, not stored, so a
    changed policy holds from the next request on. keep_until: when its record may go (seconds since the epoch)."""

    owner: str
    name: str
    cap: int
    keep_until: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """It fitted everywhere. `used` by till, after the taking; empty when the store does not tell."""

    used: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Full:
    """It did not fit into the till at `index`, of which `used` was in use."""

    index: int
    used: int


class Tills(Protocol):
    """Where tills are kept. Raises `Unavailable`."""

    async def take(self, tills: Sequence[Till], amounts: Sequence[int], hold: str, until: float) -> Taken | Full:
        """Take `amounts[i]` from `tills[i]`, all or none, under the name `hold` until the lease ends at `until`.
        Taking twice under one name takes once."""
        ...

    async def give(self, till: Till, amount: int, actual: int, hold: str) -> int | None:
        """End `hold`: of `amount`, `actual` was used up. What is in use afterwards; None when the store can't say.
        When the lease has already been taken back, `actual` is charged all the same. Ending it again, or ending
        what was never taken, changes nothing, and None comes back."""
        ...

    async def used(self, tills: Sequence[Till], now: float) -> list[int]:
        """What is in use in each, without the holds that have run out."""
        ...

    async def sweep(self, till: Till, now: float) -> int:
        """Take back every hold that has run out; how many there were."""
        ...


@dataclass(slots=True)
class _Drawer:
    used: int = 0
    holds: dict[str, tuple[float, int]] = field(default_factory=dict)
    swept: set[str] = field(default_factory=set)


class MemoryTills:
    """Tills in this process: for a laptop without a table, and as the model that the stored ones are tested against."""

    def __init__(self) -> None:
        self._drawers: dict[tuple[str, str], _Drawer] = {}

    def _drawer(self, till: Till) -> _Drawer:
        return self._drawers.setdefault((till.owner, till.name), _Drawer())

    async def take(self, tills: Sequence[Till], amounts: Sequence[int], hold: str, until: float) -> Taken | Full:
        drawers = [self._drawer(till) for till in tills]
        for index, (till, amount, drawer) in enumerate(zip(tills, amounts, drawers, strict=True)):
            if hold not in drawer.holds and drawer.used + amount > till.cap:
                return Full(index, drawer.used)
        for amount, drawer in zip(amounts, drawers, strict=True):
            if hold not in drawer.holds:
                drawer.used += amount
                drawer.holds[hold] = (until, amount)
        return Taken(tuple(drawer.used for drawer in drawers))

    async def give(self, till: Till, amount: int, actual: int, hold: str) -> int | None:
        drawer = self._drawer(till)
        if hold in drawer.holds:
            del drawer.holds[hold]
            drawer.used += actual - amount
        elif hold in drawer.swept:
            drawer.swept.remove(hold)
            drawer.used += actual
        else:
            return None
        return drawer.used

    async def used(self, tills: Sequence[Till], now: float) -> list[int]:
        return [
            drawer.used - sum(amount for until, amount in drawer.holds.values() if until <= now)
            for drawer in map(self._drawer, tills)
        ]

    async def sweep(self, till: Till, now: float) -> int:
        drawer = self._drawer(till)
        gone = [hold for hold, (until, _) in drawer.holds.items() if until <= now]
        for hold in gone:
            drawer.used -= drawer.holds.pop(hold)[1]
            drawer.swept.add(hold)
        return len(gone)


async def take_swept(
    store: Tills, tills: Sequence[Till], amounts: Sequence[int], hold: str, now: float, until: float
) -> Taken | Full:
    """`take`, and where it does not fit, once more after what crashed callers held has been taken back."""
    for _ in range(len(tills) + 1):
        outcome = await store.take(tills, amounts, hold, until)
        match outcome:
            case Taken():
                return outcome
            case Full(index=index):
                if not await store.sweep(tills[index], now):
                    return outcome
            case _:
                assert_never(outcome)
    return outcome
