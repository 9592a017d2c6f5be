"""Which models are well: a failure cools a model down, a provider's Retry-After decides for how long.

What this process saw; `breaker.py` shares it between environments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from edgewise.clock import Clock
from edgewise.errors import EdgewiseError, UpstreamRateLimited, UpstreamUnavailable
from edgewise.words import Model

COOLDOWN_S = 5.0
LONGEST_COOLDOWN_S = 120.0


class Health(Protocol):
    """What the driver asks before, and tells after, each call."""

    async def may(self, model: Model) -> bool: ...
    async def well(self, model: Model, latency_ms: float) -> None: ...
    async def ill(self, model: Model, error: EdgewiseError) -> None: ...


@dataclass(slots=True)
class LocalHealth:
    """Cooldowns in this process only."""

    clock: Clock
    until: dict[str, float] = field(default_factory=dict)

    async def may(self, model: Model) -> bool:
        return self.until.get(model.name, 0.0) <= self.clock.tick()

    async def well(self, model: Model, latency_ms: float) -> None:  # noqa: ARG002
        self.until.pop(model.name, None)

    async def ill(self, model: Model, error: EdgewiseError) -> None:
        wait = COOLDOWN_S
        if isinstance(error, UpstreamRateLimited | UpstreamUnavailable) and error.retry_after_s is not None:
            wait = error.retry_after_s
        self.until[model.name] = self.clock.tick() + min(wait, LONGEST_COOLDOWN_S)
