"""What the async room needs from outside, as protocols, and the values that pass through them.

`Run` takes one request through the corridor for a known caller; the composition root binds it. The stores have one
adapter each (`dynamodb.py`, `s3.py`, `sqs.py`) and a fake in memory that behaves like it (`memory.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from edgewise.jobs.paid import PaidCall


class Calls(Protocol):
    """The calls already paid for on behalf of one line, by a key that is the same on every try.

    `Journal` (see `journal.py`) asks it before each provider call and tells it after, before anything is accounted.
    """

    def find(self, key: str) -> PaidCall | None: ...
    def earlier(self) -> list[PaidCall]:
        """All that are known now."""
        ...

    async def keep(self, key: str, call: PaidCall) -> None: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to run for a caller who was authenticated when it was submitted.

    url         the route, e.g. '/v1/chat/completions'      request_id  the same on every try of this request
    timeout_s   when to give up                             calls       provider calls already paid for, or None
    """

    tenant: str
    key_id: str
    url: str
    body: Mapping[str, Any]
    request_id: str
    timeout_s: float
    calls: Calls | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of an `Ask`: an HTTP status and a body, as a client of the route would have got them.

    retry_after_s  for a refusal that time heals (429, 503): when to try again; None when unknown
    cost_usd       None: unknown, which is not zero
    """

    status: int
    body: Mapping[str, Any]
    cost_usd: Decimal | None = Decimal(0)
    cached: bool = False
    retry_after_s: float | None = None
    by_provider: bool = True
    """A provider refused it, rather than the caller's own limits, which are nobody else's affair."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def spent(self) -> bool:
        """The budget is gone, or the request is larger than its limit: waiting does not help."""
        error: Mapping[str, Any] = self.body.get("error") or {}
        return error.get("code") in ("insufficient_quota", "request_exceeds_limit")

    @property
    def passing(self) -> bool:
        """A failure that another try may heal."""
        return self.status in (408, 409, 429) or self.status >= 500


class Run(Protocol):
    """Takes one request through the corridor. Refusals come back as a `Ran`; an exception is a defect."""

    async def __call__(self, ask: Ask) -> Ran: ...


class Meter(Protocol):
    """Counts things that happen: `meter.add("lines_done", 25)`."""

    def add(self, name: str, value: float = 1.0) -> None: ...


class NoMeter:
    """Counts nothing."""

    __slots__ = ()

    def add(self, name: str, value: float = 1.0) -> None:
        del name, value


class Sink(Protocol):
    """Bytes on their way into the bucket; nothing is visible there before `close`."""

    async def write(self, piece: bytes) -> None: ...
    async def close(self) -> int:
        """Finish; the number of bytes written."""
        ...

    async def abort(self) -> None: ...


class Blobs(Protocol):
    """Objects in the bucket, read and written in pieces."""

    def sink(self, key: str) -> Sink: ...
    def stream(self, key: str) -> AsyncIterator[bytes]: ...
    async def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes from `start` up to, not including, `end`. Raises NotFound."""
        ...

    async def size(self, key: str) -> int | None:
        """None: there is no such object."""
        ...

    async def delete(self, key: str) -> None: ...
    async def presign(self, key: str, size: int, within_s: int) -> Signed: ...


@dataclass(frozen=True, slots=True)
class Signed:
    """A permission to put one object of a known size, for a while."""

    url: str
    method: str = "PUT"
    headers: Mapping[str, str] = field(default_factory=dict)


class Queue(Protocol):
    """The jobs queue. `group` is the tenant: a busy one does not keep others waiting."""

    async def send(self, message: Mapping[str, Any], *, group: str, delay_s: int = 0) -> None: ...
    async def bury(self, message: Mapping[str, Any], *, group: str) -> None:
        """Put `message` on the dead-letter queue."""
        ...

    async def hide(self, receipt: str, for_s: int) -> None:
        """Keep a received message out of sight for `for_s` seconds from now."""
        ...

    async def redrive(self, limit: int) -> int:
        """Move up to `limit` dead letters back to the queue; how many were moved."""
        ...
