"""A provider call that was paid for, as it is kept until its line has a result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from edgewise.chat import Answer, Usage
from edgewise.words import Attempt, Model


@dataclass(frozen=True, slots=True)
class PaidCall:
    """A provider call's answer and what it took.

    receipt  what was held for it, in policy's own words, so that another process can settle it; None: nothing was
    """

    answer: Answer
    attempts: list[Attempt]
    receipt: str | None = None

    def wire(self) -> bytes:
        """All but the answer, as JSON."""
        return orjson.dumps({"receipt": self.receipt, "attempts": [_attempt_wire(one) for one in self.attempts]})

    @classmethod
    def of(cls, completion: Mapping[str, Any], wire: bytes) -> PaidCall:
        found = orjson.loads(wire)
        return cls(Answer(completion), [_attempt_of(one) for one in found["attempts"]], found["receipt"])


class PaidCalls:
    """The paid calls of one request; see `ports.Calls`. `keep` writes one down under its key.

    What is kept is known from then on, so that a further try in this process does not pay again either.
    """

    def __init__(self, known: dict[str, PaidCall], keep: Callable[[str, PaidCall], Awaitable[None]]) -> None:
        self._known, self._keep = known, keep

    def find(self, key: str) -> PaidCall | None:
        return self._known.get(key)

    def earlier(self) -> list[PaidCall]:
        return list(self._known.values())

    async def keep(self, key: str, call: PaidCall) -> None:
        await self._keep(key, call)
        self._known[key] = call


def _attempt_wire(attempt: Attempt) -> dict[str, Any]:
    return {
        "model": [attempt.model.provider, attempt.model.id],
        "role": attempt.role,
        "status": attempt.status,
        "error": attempt.error,
        "latency_ms": attempt.latency_ms,
        "usage": attempt.usage.wire() if attempt.usage else None,
        "cost_usd": str(attempt.cost_usd) if attempt.cost_usd is not None else None,
    }


def _attempt_of(found: Mapping[str, Any]) -> Attempt:
    return Attempt(
        Model(*found["model"]),
        role=found["role"],
        status=found["status"],
        error=found["error"],
        latency_ms=found["latency_ms"],
        usage=Usage.of(found["usage"]),
        cost_usd=Decimal(found["cost_usd"]) if found["cost_usd"] is not None else None,
    )
