"""A provider call that was paid for, as it is kept until its line has a result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import orjson

from edgewise.chat import Answer, Usage
from edgewise.words import Attempt, Model


@dataclass(frozen=True, slots=True)
class PaidCall:
    """A provider call's answer and what it took; the attempts' models are filled in by who made the call."""

    answer: Answer
    attempts: list[Attempt]


class PaidCalls:
    """The paid calls of one request; see `ports.Calls`. `keep` writes one down under its key."""

    def __init__(self, known: Mapping[str, PaidCall], keep: Callable[[str, PaidCall], Awaitable[None]]) -> None:
        self._known, self._keep = known, keep

    def find(self, key: str) -> tuple[Answer, list[Attempt]] | None:
        call = self._known.get(key)
        return (call.answer, call.attempts) if call else None

    async def keep(self, key: str, answer: Answer, attempts: list[Attempt]) -> None:
        await self._keep(key, PaidCall(answer, attempts))


def attempts_wire(attempts: Iterable[Attempt]) -> bytes:
    """Attempts as JSON, without their model."""
    return orjson.dumps(
        [
            {
                "role": attempt.role,
                "status": attempt.status,
                "error": attempt.error,
                "latency_ms": attempt.latency_ms,
                "usage": attempt.usage.wire() if attempt.usage else None,
                "cost_usd": str(attempt.cost_usd) if attempt.cost_usd is not None else None,
            }
            for attempt in attempts
        ]
    )


def attempts_of(wire: bytes) -> list[Attempt]:
    return [
        Attempt(
            Model("", ""),
            role=found["role"],
            status=found["status"],
            error=found["error"],
            latency_ms=found["latency_ms"],
            usage=Usage.of(found["usage"]),
            cost_usd=Decimal(found["cost_usd"]) if found["cost_usd"] is not None else None,
        )
        for found in orjson.loads(wire)
    ]
