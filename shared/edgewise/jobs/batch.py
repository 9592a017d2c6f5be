"""A batch and the states it goes through, as OpenAI has them.

    validating ─→ in_progress ─→ finalizing ─→ completed
        │              ├──────────────────────→ expired      (through finalizing: what is done is handed out)
        └─→ failed     └─→ cancelling ────────→ cancelled    (likewise)

A change of state is a conditional write from a state that allows it, so two workers cannot both make it. Counts are
kept chunk by chunk, under the chunk's number, and summed when read: writing a chunk's counts twice writes the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]

MOVES: Mapping[Status, frozenset[Status]] = {
    "validating": frozenset({"failed", "in_progress", "cancelling", "expired"}),
    "in_progress": frozenset({"finalizing", "cancelling", "expired"}),
    "finalizing": frozenset({"completed", "expired"}),
    "cancelling": frozenset({"cancelled"}),
    "failed": frozenset(),
    "completed": frozenset(),
    "expired": frozenset(),
    "cancelled": frozenset(),
}
ENDED: frozenset[Status] = frozenset(state for state, after in MOVES.items() if not after)

ENDPOINTS = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings")
WINDOW_S = 86_400
MAX_LINES = 50_000
MAX_BYTES = 200_000_000
KEPT_S = 30 * 86_400


def sources(to: Status) -> tuple[Status, ...]:
    """The states from which a batch may go to `to`."""
    return tuple(state for state, after in MOVES.items() if to in after)


@dataclass(frozen=True, slots=True)
class LineError:
    """Why a line (1-based; None: the file as a whole) makes the file unusable."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def wire(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "line": self.line, "param": self.param}


@dataclass(frozen=True, slots=True)
class Tally:
    """Lines that ended and what they cost. `unpriced` counts answers whose cost nobody knows."""

    completed: int = 0
    failed: int = 0
    cached: int = 0
    unpriced: int = 0
    cost_usd: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in Tally.__slots__))

    def short(self) -> str:
        """All of it in one short string, for a chunk's place in its batch."""
        return " ".join(str(getattr(self, name)) for name in Tally.__slots__)

    @classmethod
    def of(cls, short: str) -> Tally:
        words = dict(zip(cls.__slots__, short.split(" "), strict=True))
        cost = Decimal(words.pop("cost_usd"))
        counts: dict[str, Any] = {name: int(word) for name, word in words.items()}
        return cls(**counts, cost_usd=cost)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch. Times are whole seconds since the epoch; `times` maps '<state>_at' to when it was entered."""

    id: str
    tenant: str
    key_id: str
    endpoint: str
    input_file_id: str
    created_at: int
    expires_at: int
    status: Status = "validating"
    completion_window: str = "24h"
    metadata: Mapping[str, str] | None = None
    output_expires_s: int = KEPT_S
    times: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[LineError, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    model: str | None = None
    total: int = 0
    final: Tally | None = None
    """The counts when it has ended, as the files have them."""
    parts: Mapping[int, Tally] = field(default_factory=dict)
    """Chunk number to its counts, of chunks that are done."""
    live: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Chunk number to lines completed and failed so far, of chunks that are being worked."""
    chunks: int = 0
    remote: Mapping[str, Any] | None = None
    """The provider's own batch that works the lines, if one does."""
    owed_at: int | None = None
    """When its `webhook_url` is next to be told of its end; None: nobody is owed a word."""
    mark: str = ""
    """How far it was when upkeep last looked, `@`, and when that was."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def is_away(self) -> bool:
        """The provider's own batch service has it, or is about to."""
        return self.remote is not None and self.remote["state"] != "collected"

    @property
    def is_submitting(self) -> bool:
        """It is about to have it, or has it and its worker died before it could say so."""
        return self.remote is not None and self.remote["state"] == "submitting"

    @property
    def webhook_url(self) -> str | None:
        return (self.metadata or {}).get("webhook_url")

    def debt(self, now: float) -> dict[str, Any]:
        """What to write down together with its end, so that a word that is owed is owed whoever dies then."""
        return {"owed_at": int(now)} if self.webhook_url else {}

    @property
    def small(self) -> bool:
        """One chunk is all of it."""
        return self.chunks == 1

    @property
    def chunks_done(self) -> int:
        return len(self.parts)

    @property
    def tally(self) -> Tally:
        """The counts of all chunks that are done."""
        return self.final if self.final is not None else sum(self.parts.values(), Tally())

    def wire(self) -> dict[str, Any]:
        """OpenAI's batch object. `edgewise` tells what it has cost and how much the cache served."""
        tally = self.tally
        # A worker that was overtaken may still tell its progress after its chunk is done.
        running = [] if self.ended else [done for number, done in self.live.items() if number not in self.parts]
        completed = tally.completed + sum(done[0] for done in running)
        failed = tally.failed + sum(done[1] for done in running)
        wire: dict[str, Any] = {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "request_counts": {"total": self.total, "completed": completed, "failed": failed},
            "metadata": dict(self.metadata) if self.metadata else None,
            "edgewise": {
                "cost_usd": str(tally.cost_usd),
                "unpriced": tally.unpriced,
                "cached": tally.cached,
            },
        }
        for state in ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"):
            if f"{state}_at" in self.times:
                wire[f"{state}_at"] = self.times[f"{state}_at"]
        if self.model is not None:
            wire["model"] = self.model
        if self.errors:
            wire["errors"] = {"object": "list", "data": [error.wire() for error in self.errors]}
        if self.output_file_id is not None:
            wire["output_file_id"] = self.output_file_id
        if self.error_file_id is not None:
            wire["error_file_id"] = self.error_file_id
        if self.total:
            wire["usage"] = usage_wire(tally)
        return wire


def usage_wire(tally: Tally) -> dict[str, Any]:
    return {
        "input_tokens": tally.prompt_tokens,
        "input_tokens_details": {"cached_tokens": tally.cached_tokens},
        "output_tokens": tally.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": tally.reasoning_tokens},
        "total_tokens": tally.prompt_tokens + tally.completion_tokens,
    }


def request_id(batch_id: str, line: int) -> str:
    """The same on every try, so that accounting and providers can tell a repeated request."""
    return f"req_{hashlib.blake2b(f'{batch_id}#{line}'.encode(), digest_size=12).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one line; written once and never changed.

    status  the HTTP status, or None when there was no HTTP answer (then `error` says why)
    """

    line: int
    custom_id: str
    request_id: str
    status: int | None
    body: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None
    cost_usd: Decimal | None = Decimal(0)
    cached: bool = False

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def wire(self) -> dict[str, Any]:
        """A line of the output or error file."""
        response = None
        if self.status is not None:
            response = {"status_code": self.status, "request_id": self.request_id, "body": self.body}
        return {
            "id": f"batch_req_{self.request_id.removeprefix('req_')}",
            "custom_id": self.custom_id,
            "response": response,
            "error": dict(self.error) if self.error else None,
        }

    def tally(self, weight: int = 1) -> Tally:
        """This line's share of the counts; it stands for `weight` equal lines, of which one was asked."""
        usage = (self.body or {}).get("usage") or {} if self.ok else {}
        prompt = usage.get("prompt_tokens", usage.get("input_tokens")) or 0
        completion = usage.get("completion_tokens", usage.get("output_tokens")) or 0
        prompt_parts = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
        completion_parts = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
        return Tally(
            completed=weight if self.ok else 0,
            failed=0 if self.ok else weight,
            cached=(weight if self.cached else weight - 1) if self.ok else 0,
            unpriced=1 if self.cost_usd is None else 0,
            cost_usd=self.cost_usd or Decimal(0),
            prompt_tokens=int(prompt) * weight,
            completion_tokens=int(completion) * weight,
            cached_tokens=int(prompt_parts.get("cached_tokens") or 0) * weight,
            reasoning_tokens=int(completion_parts.get("reasoning_tokens") or 0) * weight,
        )
