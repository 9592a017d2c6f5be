"""How many retries a process can afford: a share of its calls, and a few a second beside it.

When a provider is overloaded, every client that tries three times makes it three times worse. So each call earns a
fraction of a retry, and each retry spends a whole one. A quiet process would earn too little to heal a single blip,
so a trickle is earned with time as well. What can be saved up is bounded.

Source: Google SRE book, "Handling Overload" (10 % per client); Finagle's RetryBudget (a share and a minimum rate).
"""

from __future__ import annotations

from edgewise.clock import Clock


class RetryShare:
    """`share` of a retry a call, `a_second` beside it, at most `saved` retries in store, and as many at the start."""

    __slots__ = ("_a_second", "_clock", "_left", "_saved", "_share", "_told_at")

    def __init__(self, clock: Clock, share: float = 0.1, a_second: float = 0.5, saved: float = 10.0) -> None:
        self._clock, self._share, self._a_second, self._saved = clock, share, a_second, saved
        self._left = saved
        self._told_at = clock.tick()

    def began(self) -> None:
        """A call was made, which was not a retry."""
        self._left = min(self._saved, self._left + self._share)

    def allow(self) -> bool:
        """Whether one more retry is affordable; if so it is spent."""
        now = self._clock.tick()
        self._left = min(self._saved, self._left + (now - self._told_at) * self._a_second)
        self._told_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
