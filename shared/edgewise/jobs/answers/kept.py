"""A kept answer, and the states of one that is made in the background.

    queued ─→ in_progress ─→ completed | incomplete | failed
       └───────────┴───────→ cancelled

What ended stays as it ended: the end is one conditional write, so a cancelled answer is not completed by the worker
that was late, and a message delivered twice completes once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from edgewise.jobs.paid import PaidCall
from edgewise.jobs.store import Claimed, Done, Held

State = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
OPEN: tuple[State, ...] = ("queued", "in_progress")

KEPT_S = 30 * 86_400
UNSTORED_S = 600
"""How long a background answer can be fetched whose client said `store: false`."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer. `wire` is the object that its client gets; `ask` what a worker needs to make it.

    input     the input items, for a response          messages  the conversation up to its end
    """

    id: str
    tenant: str
    key_id: str
    url: str
    created_at: int
    expires_at: int
    state: State = "completed"
    background: bool = False
    stored: bool = True
    webhook: str | None = None
    wire: Mapping[str, Any] = field(default_factory=dict)
    ask: Mapping[str, Any] | None = None
    input: tuple[Mapping[str, Any], ...] = ()
    messages: tuple[Mapping[str, Any], ...] = ()

    @property
    def ended(self) -> bool:
        return self.state not in OPEN


@dataclass(frozen=True, slots=True)
class Made:
    """How an answer ended. `events` are those of its stream that are not told yet (see `log.py`)."""

    state: State
    wire: Mapping[str, Any]
    messages: tuple[Mapping[str, Any], ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()


class Shelf(Protocol):
    """Where answers are kept. What has expired is not there."""

    async def tell(self, id: str, events: Sequence[Mapping[str, Any]], expires_at: int) -> bool: ...
    async def told(self, id: str, after: int = -1) -> list[Mapping[str, Any]]: ...

    async def put(self, kept: Kept) -> None: ...
    async def get(self, id: str) -> Kept | None: ...
    async def claim(self, id: str, owner: str, lease_s: float) -> Claimed | Held | Done: ...
    async def renew(self, id: str, owner: str, lease_s: float) -> bool:
        """False: the lease is lost, or the answer has ended (was cancelled)."""
        ...

    async def holds(self, id: str, owner: str) -> bool:
        """Whether `owner` has the lease of an answer that has not ended."""
        ...

    async def end(self, id: str, made: Made, expires_at: int | None = None) -> bool:
        """False: it had ended already."""
        ...

    async def delete(self, id: str) -> None:
        """With all that was kept of how it was made."""
        ...

    async def calls(self, id: str) -> dict[str, PaidCall]: ...
    async def put_call(self, id: str, key: str, call: PaidCall) -> None: ...
