"""Asking AWS again when it is busy: a worker would rather wait than lose a paid answer.

Only what another try heals is tried again, by code. Every write made through this is a conditional or an idempotent
one, so a try whose answer got lost may safely be followed by another.
"""

from __future__ import annotations

from typing import Any

from edgewise.aws import Aws, AwsError
from edgewise.clock import Clock

BUSY = frozenset(
    {
        "ConnectionError",
        "InternalServerError",
        "InternalError",
        "KMS.ThrottlingException",
        "OverLimit",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottlingException",
        "Throttling",
        "TransactionConflictException",
        "TransactionInProgressException",
        "LimitExceededException",
    }
)
BUSY_REASONS = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})


def heals(error: AwsError) -> bool:
    """Another try may succeed."""
    if error.code == "TransactionCanceledException":
        told = {reason for reason in error.reasons if reason != "None"}
        return bool(told) and told <= BUSY_REASONS
    return error.code in BUSY or error.status >= 500


class PatientAws(Aws):
    """An `Aws` that tries again, waiting 50 ms, then twice as long each time up to `longest_s`, with full jitter."""

    def __init__(self, inner: Aws, clock: Clock, tries: int = 10, longest_s: float = 3.0) -> None:
        super().__init__(inner.options, clock)
        self._inner = inner
        self._tries = tries
        self._longest_s = longest_s

    def client(self, service: str) -> Any:
        return self._inner.client(service)

    async def run(self, work: Any) -> Any:
        return await self._inner.run(work)

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        wait_s = 0.05
        for left in range(self._tries - 1, -1, -1):
            try:
                return await self._inner.call(service, operation, **arguments)
            except AwsError as error:
                if left == 0 or not heals(error):
                    raise
            await self.clock.sleep(wait_s * (0.5 + self.clock.uniform()))
            wait_s = min(self._longest_s, wait_s * 2)
        raise AssertionError("unreachable")
