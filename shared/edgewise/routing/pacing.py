"""A budget over a window, kept by a price: the shadow price of a dollar rises while spending runs ahead of its pace.

    λ ← max(0, λ + η·(spent/elapsed − budget/window)/(budget/window))

The router adds λ to what a dollar is worth, so dearer plans lose exactly when money is short. It paces; the hard stop
is policy's reservation.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgewise.clock import Clock

STEP = 2.0
"""Quality points per dollar that a wholly doubled pace adds a minute."""
MOST = 400.0


@dataclass(slots=True)
class Pacing:
    """One budget of `budget_usd` a `window_s`."""

    clock: Clock
    budget_usd: float
    window_s: float
    price: float = 0.0
    spent_usd: float = 0.0
    began: float | None = None
    last: float | None = None

    def spend(self, cost_usd: float) -> None:
        """Take in one request's cost, every attempt counted, and move the price."""
        now = self.clock.tick()
        if self.began is None or now - self.began >= self.window_s:
            self.began, self.last, self.spent_usd = now, now, 0.0
        self.spent_usd += cost_usd
        target = self.budget_usd / self.window_s
        elapsed = max(now - self.began, self.window_s / 100)
        ahead = (self.spent_usd / elapsed - target) / target
        minutes = min(5.0, max(0.01, (now - (self.last or now)) / 60))
        self.price = min(MOST, max(0.0, self.price + STEP * ahead * minutes))
        self.last = now
