"""AWS that fails on demand: every call can be throttled, time out, be reset, or be answered with a 500.

`FaultyAws` stands in front of a real `Aws` (or of nothing). Which calls fail is a predicate over service and
operation, so a test can fail one call site and let the rest work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgewise.aws import Aws, AwsError

FAULTS: dict[str, Callable[[], AwsError]] = {
    "throttle": lambda: AwsError("ProvisionedThroughputExceededException", "slow down", 400),
    "request_limit": lambda: AwsError("ThrottlingException", "slow down", 400),
    "timeout": lambda: AwsError("ConnectionError", "ReadTimeoutError"),
    "reset": lambda: AwsError("ConnectionError", "ConnectionClosedError"),
    "internal": lambda: AwsError("InternalServerError", "oops", 500),
}

Fails = Callable[[str, str], bool]


def every(_service: str, _operation: str) -> bool:
    return True


class FaultyAws(Aws):
    """Fails with `fault` where `fails(service, operation)` says so; what was asked is in `calls`."""

    def __init__(self, fault: str, fails: Fails = every, behind: Aws | None = None) -> None:
        super().__init__(behind.options if behind else None)
        self.fault = fault
        self.fails = fails
        self.behind = behind
        self.calls: list[tuple[str, str]] = []

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        self.calls.append((service, operation))
        if self.fails(service, operation):
            raise FAULTS[self.fault]()
        if self.behind is None:
            return {}
        return await self.behind.call(service, operation, **arguments)
