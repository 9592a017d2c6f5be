"""What outlives a process of the warm index: a log of changes per partition, and a snapshot now and then.

An index is a snapshot plus the changes since. Changes carry all that they need and may be applied twice, so a reader
that asks again from a little before where it stopped misses nothing that a slower clock wrote late. What is true of a
key is what the last change in the log says of it, wherever it was made.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from edgewise.cache.semantic.index import Row, WarmIndex

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

OVERLAP_MS = 5_000
MAGIC = b"EWIX1\n"
MOVED = b"EWMV1\n"
"""The whole snapshot of a partition that has outgrown memory."""


@dataclass(frozen=True, slots=True)
class Added:
    row: Row
    vector: Array


@dataclass(frozen=True, slots=True)
class Removed:
    """until  when the last of the entry's rows expires, as far as is known: so long must the log remember it"""

    key: str
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Vouched:
    """Another principal asks what the row `id` asks."""

    id: str
    principal: str


@dataclass(frozen=True, slots=True)
class Moved:
    """The partition has outgrown memory: from here on its rows are in the table's own vector index."""


Change = Added | Removed | Vouched | Moved


class Log(Protocol):
    """Changes by partition in order of their places. Raises `StoreError`."""

    async def append(self, partition: str, at: str, change: Change) -> None: ...
    async def since(self, partition: str, cursor: str) -> list[tuple[str, Change]]:
        """(place, change) of everything from a little before `cursor` on ('' is the beginning), in order."""
        ...


class Snapshots(Protocol):
    """One packed index per partition. Raises `StoreError`."""

    async def load(self, partition: str) -> bytes | None: ...
    async def save(self, partition: str, packed: bytes) -> None: ...


def place(now: float, count: int, token: str) -> str:
    """A place in the log: milliseconds, then the changes of one process in order, then what tells processes apart."""
    return f"{int(now * 1000):013d}#{count:08d}#{token}"


def earlier(cursor: str) -> str:
    """The place from which to read again, so that what a slower clock wrote late is not missed."""
    return f"{max(0, int(cursor[:13]) - OVERLAP_MS):013d}" if cursor else ""


def apply(index: WarmIndex, change: Change) -> None:
    """Bring `index` up to date with one change; twice is as good as once."""
    match change:
        case Added(row, vector):
            index.put(row, vector)
        case Removed(key, _):
            index.drop_key(key)
        case Vouched(id, principal):
            index.note(id, principal)
        case Moved():
            # Where rows are is the library's business, and one that has no vector index keeps them.
            pass


def pack(index: WarmIndex, cursor: str) -> bytes:
    """The index as bytes: a line of JSON, then scales, then int8 vectors, then the rows as JSON."""
    rows, small, scale = index.packed()
    head = orjson.dumps({"cursor": cursor, "rows": len(rows), "dim": index.dim})
    body = orjson.dumps([[row.id, row.key, row.text, row.expires_at, sorted(row.principals)] for row in rows])
    return b"".join((MAGIC, head, b"\n", scale.tobytes(), small.tobytes(), body))


def unpack(packed: bytes, dim: int, now: float) -> tuple[WarmIndex, str] | None:
    """The live rows of a snapshot as an index, and its cursor; None when it is of another make."""
    import numpy as np

    if not packed.startswith(MAGIC):
        return None
    end = packed.index(b"\n", len(MAGIC))
    head = orjson.loads(packed[len(MAGIC) : end])
    if head["dim"] != dim:
        return None
    count, at = head["rows"], end + 1
    scale = np.frombuffer(packed, np.float32, count, at)
    at += 4 * count
    small = np.frombuffer(packed, np.int8, count * dim, at).reshape(count, dim)
    parts = orjson.loads(packed[at + count * dim :])
    nobody: frozenset[str] = frozenset()
    rows = [Row(i, k, text, until, frozenset(who) if who else nobody) for i, k, text, until, who in parts]
    live = np.array([row.expires_at > now for row in rows], bool)
    if not live.all():
        rows, small, scale = [row for row in rows if row.expires_at > now], small[live], scale[live]
    else:
        small, scale = small.copy(), scale.copy()
    index = WarmIndex(dim)
    index.fill(rows, small, scale)
    return index, head["cursor"]


class LocalLog:
    """A log in this process's memory, for a laptop and for tests. The oldest changes of the partition that was changed
    longest ago are forgotten when there are more than `most` in all."""

    def __init__(self, most: int = 100_000) -> None:
        self._changes: OrderedDict[str, deque[tuple[str, Change]]] = OrderedDict()
        self._most = most
        self._count = 0

    async def append(self, partition: str, at: str, change: Change) -> None:
        self._changes.setdefault(partition, deque()).append((at, change))
        self._changes.move_to_end(partition)
        self._count += 1
        if self._count > self._most:
            self._count -= 1
            oldest = next(iter(self._changes))
            self._changes[oldest].popleft()
            if not self._changes[oldest]:
                del self._changes[oldest]

    async def since(self, partition: str, cursor: str) -> list[tuple[str, Change]]:
        after = earlier(cursor)
        return sorted((pair for pair in self._changes.get(partition, ()) if pair[0] > after), key=itemgetter(0))


class LocalSnapshots:
    """Snapshots in this process's memory."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}

    async def load(self, partition: str) -> bytes | None:
        return self._packed.get(partition)

    async def save(self, partition: str, packed: bytes) -> None:
        self._packed[partition] = packed
