"""Independent prompts at once, under one budget.

Each prompt holds the most that it may cost before it is asked, and is settled to what it did cost: however many run
at once, the budget is never passed, provided that the most was one. A prompt for which there is no room waits while
others are under way, for they may cost less than they hold; when nothing is under way it is left unasked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgewise.words import Usd

Prompt = TypeVar("Prompt")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Out]):
    """`cost_usd` is None when nobody knows it; then the most that was held for it counts."""

    value: Out
    cost_usd: Usd | None


@dataclass(frozen=True, slots=True)
class Failed:
    error: Exception


@dataclass(frozen=True, slots=True)
class Unasked:
    """The budget had no room for it."""


class Purse:
    """What is left, and those who wait for some to come back. `left` None: there is no bound."""

    def __init__(self, left: Usd | None) -> None:
        self.left = left
        self.under_way = 0
        self._changed = asyncio.Condition()

    async def take(self, most: Usd) -> bool:
        """False: there is no room for `most`, and nobody is under way who may bring some back."""
        async with self._changed:
            while self.left is not None and most > self.left:
                if self.under_way == 0:
                    return False
                await self._changed.wait()
            self._add(-most)
            self.under_way += 1
            return True

    def more(self, most: Usd) -> bool:
        """Take more for one who is under way; nobody is waited for."""
        if self.left is not None and most > self.left:
            return False
        self._add(-most)
        return True

    async def give(self, back: Usd) -> None:
        """One is no longer under way, and brings `back` what it did not use."""
        async with self._changed:
            self._add(back)
            self.under_way -= 1
            self._changed.notify_all()

    def _add(self, amount: Usd) -> None:
        if self.left is not None:
            self.left += amount


async def gather(
    prompts: Sequence[Prompt],
    ask: Callable[[Prompt], Awaitable[Asked[Out]]],
    *,
    most_usd: Callable[[Prompt], Usd],
    budget_usd: Usd | None = None,
    max_concurrent: int = 10,
) -> list[Asked[Out] | Failed | Unasked]:
    """What came of each prompt, in order. One that fails does not disturb the others; its hold counts as spent.

    most_usd    the most that asking a prompt may cost      budget_usd  for all together; None: no bound
    """
    purse, room = Purse(budget_usd), asyncio.Semaphore(max_concurrent)

    async def one(prompt: Prompt) -> Asked[Out] | Failed | Unasked:
        most = most_usd(prompt)
        async with room:
            if not await purse.take(most):
                return Unasked()
            cost: Usd | None = None
            try:
                asked = await ask(prompt)
                cost = asked.cost_usd
                return asked
            except Exception as error:  # noqa: BLE001 - an edge: one prompt's error is its own outcome
                return Failed(error)
            finally:
                await purse.give(most - (most if cost is None else cost))

    return list(await asyncio.gather(*(one(prompt) for prompt in prompts)))
