"""Retries are a share of traffic, never a multiple of it: what keeps a brown-out from becoming a storm.

In any window the retries are at most a tenth of the requests, or a few where there were hardly any requests: without
the few, a quiet process that a storm has emptied could never again heal a single blip. It is the larger of the two and
not their sum, so where there is traffic the tenth is the whole truth; and what was not used is not saved up, or a
quiet night would pay for a storm in the morning.

A retry is asking again a model that has already failed this request, or asking a second one beside it; moving on to
another model is not one, or no fallback could work when a provider is down.

Source: Envoy, `retry_budget` (a percentage with a floor, the larger counts); Finagle, RetryBudget (a sliding window).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from edgewise.clock import Clock

SHARE = 0.1
LEAST = 3
WINDOW_S = 30


@dataclass(slots=True)
class RetryBudget:
    """At most `share` of the requests of the last `window_s` seconds, or `least` if that is more, are retries.

    Seconds are counted whole. One process counts for itself: environments of Lambda see one request at a time.
    """

    clock: Clock
    share: float = SHARE
    least: int = LEAST
    window_s: int = WINDOW_S
    _seconds: deque[list[int]] = field(default_factory=deque)
    """[second, requests, retries], oldest first; seconds without either are not there."""
    _requests: int = 0
    _retries: int = 0

    def request(self) -> None:
        """A request came in."""
        self._second()[1] += 1
        self._requests += 1

    def take(self) -> bool:
        """Whether one retry may be made; if so it is counted."""
        second = self._second()
        if self._retries + 1 > max(self.least, self.share * self._requests):
            return False
        second[2] += 1
        self._retries += 1
        return True

    def _second(self) -> list[int]:
        """The count of this second, after those that have left the window are taken off."""
        now, seconds = int(self.clock.tick()), self._seconds
        if not seconds or seconds[-1][0] != now:
            while seconds and seconds[0][0] <= now - self.window_s:
                _, requests, retries = seconds.popleft()
                self._requests -= requests
                self._retries -= retries
            seconds.append([now, 0, 0])
        return seconds[-1]
