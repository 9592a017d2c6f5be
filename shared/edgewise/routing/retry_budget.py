"""Retries are a share of traffic, never a multiple of it: what keeps a brown-out from becoming a storm.

A token bucket: each request pays in a tenth, each retry takes one out. A retry is asking again a model that has
already failed this request; moving on to another model is not one, or no fallback could work when a provider is down.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE = 0.1
RESERVE = 3.0
"""Retries that a fresh environment may make before it has seen traffic."""
MOST = 100.0


@dataclass(slots=True)
class RetryBudget:
    """At most `share` retries a request in the long run."""

    share: float = SHARE
    tokens: float = RESERVE

    def request(self) -> None:
        """A request came in."""
        self.tokens = min(MOST, self.tokens + self.share)

    def take(self) -> bool:
        """Whether one retry may be made; if so it is paid."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True
