"""A budget over a window, kept by a price: the shadow price of a dollar rises while spending runs ahead of its pace.

    ahead = max(spent share / elapsed share, share of time left / share of money left) − 1
    λ     = SLOPE · (e^(STEEPNESS · ahead) − 1), from 0 to MOST

The router adds λ to what a dollar is worth, so dearer plans lose exactly when money is short. The first ratio slows a
morning that spends too fast, the second an evening that has too little left. λ follows from what was spent and from
nothing else, so any number of processes that know the same sum come to the same price, and one that has just started
needs no past. It paces; the hard stop is policy's reservation.

The sum is shared: a key's from its budget, which policy has at hand with every request (`Plan.paces`); the house's from
one counter a window, to which every process adds what it spent every few seconds, and reads the total from the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from edgewise.background import Background
from edgewise.clock import Clock

SLOPE = 20.0
"""Quality points per dollar, over STEEPNESS, that the first hundredth ahead of the pace adds."""
STEEPNESS = 3.0
MOST = 20_000.0
LEAST_SHARE = 0.02
"""Of the window's time and of its money: below it a ratio says more of chance than of pace."""
SHARE_S = 10.0


class Spent(Protocol):
    """Where processes add up what they spend (`dynamodb.SpentTable`)."""

    async def add(self, window: str, usd: float, keep_s: float) -> float:
        """Add to a window's sum; the sum of all processes, US dollars."""
        ...


def price_of(spent: float, elapsed: float) -> float:
    """The shadow price, quality points per dollar, when `spent` of the money went in `elapsed` of the time (0 to 1)."""
    fast = spent / max(LEAST_SHARE, elapsed)
    short = (1 - elapsed) / max(LEAST_SHARE, 1 - spent)
    ahead = max(fast, short if elapsed > LEAST_SHARE else 0.0) - 1
    return min(MOST, SLOPE * math.expm1(min(20.0, STEEPNESS * ahead))) if ahead > 0 else 0.0


def dearest(paces: Iterable[tuple[float, float]]) -> float:
    """The highest price of several budgets, each by (share spent, share of its window gone)."""
    return max((price_of(spent, elapsed) for spent, elapsed in paces), default=0.0)


@dataclass(slots=True)
class Pacing:
    """The house's budget of `budget_usd` in each window of `window_s`, counted from midnight UTC on 1 January 1970.

    shared  None: what this process spends is all that it knows of
    """

    clock: Clock
    budget_usd: float
    window_s: float
    shared: Spent | None = None
    background: Background | None = None
    spent_usd: float = 0.0
    _window: int | None = None
    _untold_usd: float = 0.0
    _told_at: float | None = None

    @property
    def price(self) -> float:
        """The shadow price now, quality points per dollar."""
        now = self.clock.now()
        if self._window != int(now // self.window_s):
            return 0.0
        return price_of(self.spent_usd / self.budget_usd, now % self.window_s / self.window_s)

    def spend(self, cost_usd: float) -> None:
        """Take in what a request cost, every attempt counted; now and then tell the others, behind it."""
        now = self.clock.now()
        window = int(now // self.window_s)
        if window != self._window:
            # What was spent at the very end of the last window and not yet told is lost to a sum that is over.
            self._window, self.spent_usd, self._untold_usd, self._told_at = window, 0.0, 0.0, None
        self.spent_usd += cost_usd
        self._untold_usd += cost_usd
        tick = self.clock.tick()
        if self.shared is None or self.background is None or tick - (self._told_at or -SHARE_S) < SHARE_S:
            return
        self._told_at = tick
        self.background.spawn(self._tell(self.shared, window))

    async def _tell(self, shared: Spent, window: int) -> None:
        told, self._untold_usd = self._untold_usd, 0.0
        try:
            total = await shared.add(f"{self.window_s:.0f}#{window}", told, self.window_s)
        except BaseException:
            self._untold_usd += told
            raise
        if window == self._window:
            self.spent_usd = total + self._untold_usd
