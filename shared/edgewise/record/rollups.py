"""Roll-ups: sums by minute and hour that other processes can add to, so that usage needs no log search.

A process adds up what it sees in memory, by minute, tenant, key and model, and adds that to the stored sums every
few seconds, behind a request. Stored sums only ever grow by `ADD`, so any number of processes may write at once and
none needs to read. What an environment has not yet written when it is reaped is lost to roll-ups (at most
`flush_s` seconds of it); log lines, metrics and budgets do not go this way.

Money is picodollars, times are histograms (`edgewise.record.histogram`): both add up exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from edgewise.clock import Clock
from edgewise.record.feedback import Opinion
from edgewise.record.histogram import bucket, percentile
from edgewise.record.line import name_only
from edgewise.words import Note

Span = Literal["minute", "hour"]
SPANS: dict[Span, int] = {"minute": 60, "hour": 3600}
KEEP_S: dict[Span, int] = {"minute": 3 * 86_400, "hour": 400 * 86_400}
EVERYBODY = "*"
"""The tenant under which everything is counted once more, for the operator."""

SUMMED = {
    "requests": "Requests",
    "errors": "Errors",
    "errors_client": "ErrorsClient",
    "throttled": "Throttled",
    "tokens_in": "TokensIn",
    "tokens_out": "TokensOut",
    "tokens_compressed": "TokensCompressed",
    "hits": "CacheHit",
    "hits_semantic": "CacheHitSemantic",
    "misses": "CacheMiss",
    "completed": "Completed",
    "truncated": "Truncated",
    "filtered": "Filtered",
    "flagged": "InjectionFlagged",
    "pii": "PIIFound",
    "cost_unknown": "CostUnknown",
}
PICO = 10**12
MOST_HELD = 1_000
"""Sums that wait while the store takes none; a process that writes none for longer loses the newest."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Whose sums of which time. `at` is the beginning, seconds since the epoch."""

    span: Span
    at: int
    tenant: str
    key_id: str
    model: str


@dataclass(slots=True)
class Sums:
    """What is added up. Counts by name, `cost` and `saved` in picodollars, `busy_us` the time that requests took in
    all, latencies in buckets of ms."""

    counts: dict[str, int] = field(default_factory=dict)
    latency: dict[int, int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to add: a call beside a request that cost nothing leaves nothing."""
        return bool(self.counts or self.latency or self.first)

    def add(self, name: str, amount: int) -> None:
        if amount:
            self.counts[name] = self.counts.get(name, 0) + amount

    def merge(self, other: Sums) -> None:
        for name, amount in other.counts.items():
            self.add(name, amount)
        for mine, theirs in ((self.latency, other.latency), (self.first, other.first)):
            for index, amount in theirs.items():
                mine[index] = mine.get(index, 0) + amount

    def told(self, seconds: float) -> dict[str, Any]:
        """As JSON. Rates are over `seconds`; what cannot be said is None."""
        counts = self.counts
        requests, lookups = counts.get("requests", 0), counts.get("hits", 0) + counts.get("misses", 0)
        return {
            **{name: counts.get(name, 0) for name in SUMMED},
            "cost_usd": f"{Decimal(counts.get('cost', 0)) / PICO:f}",
            "saved_usd": f"{Decimal(counts.get('saved', 0)) / PICO:f}",
            "usd_per_1k_tokens": _per_1k(counts),
            "qps": round(requests / seconds, 4) if seconds else None,
            # Little's law: how many were under way is how many came a second by how long each stayed.
            "concurrency": round(counts.get("busy_us", 0) / 1e6 / seconds, 4) if seconds else None,
            "error_share": round(counts.get("errors", 0) / requests, 4) if requests else None,
            "feedback": counts.get("feedback", 0),
            "feedback_score": _mean(counts.get("feedback_thousandths", 0) / 1000, counts.get("feedback", 0)),
            "hit_share": round(counts.get("hits", 0) / lookups, 4) if lookups else None,
            "latency_ms": _spread(self.latency),
            "first_ms": _spread(self.first),
        }


@dataclass(slots=True)
class Pending:
    """Requests of one minute, one key and one model, as they come: metrics are added up under their own names, and
    become sums when they are written. `picos` are the money, exact."""

    values: dict[str, float] = field(default_factory=dict)
    picos: dict[str, int] = field(default_factory=dict)
    latency: dict[int, int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)

    def take(self, note: Note, values: Mapping[str, float]) -> None:
        """Add one request."""
        mine = self.values
        for metric, value in values.items():
            mine[metric] = mine.get(metric, 0) + value
        if note.cost_usd:
            self.picos["cost"] = self.picos.get("cost", 0) + int(note.cost_usd * PICO)
        if note.saved_usd and "SavedMicroUSD" in values:
            self.picos["saved"] = self.picos.get("saved", 0) + int(note.saved_usd * PICO)
        if "Requests" in values:
            place = bucket(note.latency_ms)
            self.latency[place] = self.latency.get(place, 0) + 1
        if note.first_ms is not None and "TimeToFirstToken" in values:
            place = bucket(note.first_ms)
            self.first[place] = self.first.get(place, 0) + 1

    def sums(self) -> Sums:
        """What there is to write."""
        found = Sums(dict(self.picos), self.latency, self.first)
        for name, metric in SUMMED.items():
            found.add(name, int(self.values.get(metric, 0)))
        found.add("busy_us", int(self.values.get("RequestLatency", 0) * 1000))
        for name in ("feedback", "feedback_thousandths"):
            found.add(name, int(self.values.get(name, 0)))
        return found


def _mean(total: float, count: int) -> float | None:
    return round(total / count, 4) if count else None


def _per_1k(counts: Mapping[str, int]) -> str | None:
    """US dollars for a thousand tokens, in and out, those of cached answers too; None when there were none."""
    tokens = counts.get("tokens_in", 0) + counts.get("tokens_out", 0)
    return f"{Decimal(counts.get('cost', 0)) / PICO * 1000 / tokens:.6f}" if tokens else None


def _spread(counts: Mapping[int, int]) -> dict[str, float | None]:
    found = {name: percentile(counts, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
    return {name: None if value is None else round(value, 2) for name, value in found.items()}


class RollupStore(Protocol):
    """Where sums are kept. Raises `Unavailable`."""

    async def add(self, cell: Cell, sums: Sums, expires_at: int) -> None: ...
    async def read(self, tenant: str, span: Span, since: int, until: int) -> list[tuple[Cell, Sums]]:
        """Every cell of the tenant that begins in [since, until), oldest first."""
        ...


class MemoryRollups:
    """Sums of this process alone."""

    def __init__(self, most: int = 50_000) -> None:
        self._cells: dict[Cell, Sums] = {}
        self._most = most

    async def add(self, cell: Cell, sums: Sums, expires_at: int) -> None:  # noqa: ARG002 — this process forgets by number
        if cell not in self._cells and len(self._cells) >= self._most:
            self._cells.pop(next(iter(self._cells)))
        self._cells.setdefault(cell, Sums()).merge(sums)

    async def read(self, tenant: str, span: Span, since: int, until: int) -> list[tuple[Cell, Sums]]:
        found = [
            (cell, sums)
            for cell, sums in self._cells.items()
            if cell.tenant == tenant and cell.span == span and since <= cell.at < until
        ]
        return sorted(found, key=lambda pair: pair[0].at)


class Rollups:
    """Adds up notes and hands the sums on. An observer of `RecordRoom`."""

    def __init__(
        self,
        store: RollupStore,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        *,
        flush_s: float = 10.0,
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self.store = store
        self._clock = clock
        self._spawn = spawn
        self._flush_s = flush_s
        self._failed = failed
        self._minutes: dict[tuple[int, str, str, str], Pending] = {}
        self._unwritten: dict[Cell, Sums] = {}
        self._flushed_at: float | None = None

    def __call__(self, note: Note, values: Mapping[str, float]) -> None:
        """Take in one request; every `flush_s` seconds the sums go to the store behind it."""
        self._pending((int(note.at // 60), note.tenant, note.key_id, name_only(note.model))).take(note, values)
        now = self._clock.tick()
        if self._flushed_at is None or now - self._flushed_at >= self._flush_s:
            self._flushed_at = now
            self._spawn(self.flush())

    async def hear(self, opinion: Opinion) -> None:
        """Take in what somebody thinks of an answer; an opinion that is changed counts again. A hook of feedback."""
        pending = self._pending((int(opinion.at // 60), opinion.tenant, opinion.key_id, ""))
        given = {"feedback": 1.0, "feedback_thousandths": round(opinion.score * 1000)}
        for name, value in given.items():
            pending.values[name] = pending.values.get(name, 0) + value

    def _pending(self, key: tuple[int, str, str, str]) -> Pending:
        pending = self._minutes.get(key)
        if pending is None:
            pending = self._minutes[key] = Pending()
        return pending

    async def flush(self) -> None:
        """Add everything that is held to the stored sums. When one cannot be written, it and those after it wait for
        the next turn: a store in trouble is not asked again and again, and a sum that it never takes comes last."""
        held, self._minutes = self._minutes, {}
        cells, self._unwritten = self._unwritten, {}
        for (minute, tenant, key_id, model), pending in held.items():
            sums = pending.sums()
            for cell in _cells(minute, tenant, key_id, model):
                cells.setdefault(cell, Sums()).merge(sums)
        while cells:
            cell, sums = next(iter(cells.items()))
            del cells[cell]
            if not sums:
                continue
            try:
                await self.store.add(cell, sums, cell.at + KEEP_S[cell.span])
            except Exception as error:  # noqa: BLE001 — sums in trouble must not take an answer with them; it is told
                self._failed(error)
                self._hold({**cells, cell: sums})
                return

    def _hold(self, cells: Mapping[Cell, Sums]) -> None:
        for cell, sums in cells.items():
            if cell in self._unwritten or len(self._unwritten) < MOST_HELD:
                self._unwritten.setdefault(cell, Sums()).merge(sums)


def _cells(minute: int, tenant: str, key_id: str, model: str) -> Iterable[Cell]:
    for span, seconds in SPANS.items():
        at = minute * 60 // seconds * seconds
        if tenant:
            yield Cell(span, at, tenant, key_id, model)
        yield Cell(span, at, EVERYBODY, "", model)


def total(cells: Sequence[tuple[Cell, Sums]]) -> Sums:
    """All of `cells` in one."""
    sums = Sums()
    for _, each in cells:
        sums.merge(each)
    return sums


def by(cells: Sequence[tuple[Cell, Sums]], name: Literal["at", "model", "key_id"]) -> dict[Any, Sums]:
    """`cells` grouped by one of their coordinates, in the order of first sight."""
    groups: dict[Any, Sums] = {}
    for cell, sums in cells:
        groups.setdefault(getattr(cell, name), Sums()).merge(sums)
    return groups
