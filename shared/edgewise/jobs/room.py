"""What the steps of a batch's life share: the stores, the queue, the clock and the sizes of things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from edgewise.clock import Clock
from edgewise.jobs.files import Files
from edgewise.jobs.lines import Draft
from edgewise.jobs.ports import Blobs, Meter, NoMeter, Queue
from edgewise.jobs.store import Batches


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes and times; seconds where not said otherwise."""

    chunk_lines: int = 200
    window_chunks: int = 3
    """Chunks of one batch that are on the queue at a time. Fewer than there are workers, so that a large batch leaves
    one free for whoever comes next."""
    lease_s: float = 30.0
    """How long a dead worker's chunk waits. A living one renews every third of it."""
    line_timeout_s: float = 600.0
    reserve_s: float = 30.0
    """With less than this left of the function's time no line is started."""
    margin_s: float = 5.0
    """With less than this left, lines under way are given up and the rest is sent again."""
    tries: int = 5
    careful_lines: int = 8
    """How many lines run at once in a chunk whose worker died."""
    max_strikes: int = 8
    """How often a line is run again after its worker died while it ran. Generous: workers die for reasons of their
    own, and a line that is given up wrongly is lost, while one that kills costs some minutes."""
    stale_s: float = 60.0
    """How long a batch may stand still before upkeep looks at it."""
    copies_after: int = 4
    """Receives after which a message that must wait is replaced by a fresh one, before SQS takes it for dead."""


class Again(Exception):
    """Not now: deliver the message again after `delay_s`."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"again in {delay_s:.0f} s")
        self.delay_s = delay_s


@dataclass(slots=True)
class Room:
    files: Files
    batches: Batches
    blobs: Blobs
    queue: Queue
    clock: Clock
    meter: Meter = field(default_factory=NoMeter)
    options: Options = field(default_factory=Options)
    check_url: Callable[[str], Awaitable[None]] | None = None
    """Raises InvalidRequest for a webhook's URL that may not be called; None: no webhooks are sent."""
    _drafts: dict[str, Draft] = field(default_factory=dict)

    async def keep_draft(self, batch_id: str, draft: Draft) -> None:
        sink = self.blobs.sink(_draft_key(batch_id))
        await sink.write(draft.encode())
        await sink.close()

    async def draft(self, batch_id: str) -> Draft:
        """The plan of a batch in progress; the last few are remembered."""
        if batch_id not in self._drafts:
            while len(self._drafts) >= 8:
                del self._drafts[next(iter(self._drafts))]
            self._drafts[batch_id] = Draft.decode(await self.blobs.read(_draft_key(batch_id)))
        return self._drafts[batch_id]

    async def send(self, kind: str, batch_id: str, tenant: str, *, chunk: int | None = None, delay_s: int = 0) -> None:
        message: dict[str, object] = {"kind": kind, "batch": batch_id}
        if chunk is not None:
            message["chunk"] = chunk
        await self.queue.send(message, group=tenant, delay_s=delay_s)


def _draft_key(batch_id: str) -> str:
    return f"batches/{batch_id}/draft.json"
