"""The indexes of this process, each brought up to date before it is searched.

An index is made from its snapshot and the log since, then only from the log, and is never older than `staleness_s`.
What this process adds or removes itself it sees at once, and goes on seeing: changes of its own that a reading of the
log does not show yet take their places in it. When the log since the snapshot has grown long, a new snapshot is written
behind the request. Indexes that nobody asked for longest are forgotten when there are too many of them, or too many
rows in all; a partition that nobody asks for here is not opened to be added to.

A partition that outgrows memory moves to the table's own vector index, where there is one, as a hash table is rehashed
while it grows: from half of its bound on, each row that is added is put there too, with one of those that came
before. When it is full, a mark in its snapshot and its log sends everybody there. A row that was missed costs one call,
whose answer is put there. Where there is no vector index, a full partition gives up the rows that expire soonest.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from edgewise.background import Background
from edgewise.cache.semantic.index import Neighbour, Row, WarmIndex
from edgewise.cache.semantic.log import (
    MOVED,
    Added,
    Change,
    Log,
    Moved,
    Removed,
    Snapshots,
    Vouched,
    apply,
    earlier,
    pack,
    place,
    unpack,
)
from edgewise.clock import Clock

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SNAPSHOT_AFTER = 512
"""Changes since the snapshot after which a new one is due."""
MOST_OPEN = 1_000
"""Indexes at once, empty ones too: each conversation is a partition, and most are never asked about again."""


class Vectors(Protocol):
    """Rows of partitions that have outgrown memory (`edgewise.cache.semantic.vectors`). Raises `StoreError`."""

    async def put(self, partition: str, row: Row, vector: Array) -> None: ...
    async def drop_key(self, partition: str, key: str) -> None: ...
    async def vouch(self, partition: str, id: str, principal: str) -> None: ...
    async def nearest(self, partition: str, vector: Array, k: int) -> list[Neighbour]: ...


@dataclass(slots=True)
class _Held:
    """own  changes of this process that no reading of the log has shown yet, with their places"""

    index: WarmIndex
    own: list[tuple[str, Change]] = field(default_factory=list)
    cursor: str = ""
    read_at: float = float("-inf")
    since: int = 0
    moved: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Library:
    """Indexes by partition.

    staleness_s  the longest that another process's change may stay unseen
    max_rows     rows of all indexes together
    vectors      where a partition of more than `most_rows` rows goes; None: nowhere
    """

    def __init__(
        self,
        clock: Clock,
        log: Log,
        snapshots: Snapshots,
        *,
        staleness_s: float = 3.0,
        max_rows: int = 200_000,
        vectors: Vectors | None = None,
        most_rows: int = 100_000,
        background: Background | None = None,
    ) -> None:
        self._clock = clock
        self._log = log
        self._snapshots = snapshots
        self._staleness_s = staleness_s
        self._max_rows = max_rows
        self._vectors = vectors
        self._most_rows = most_rows
        self._background = background
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._numbers = itertools.count()

    async def nearest(self, partition: str, vector: Array, k: int) -> list[Neighbour]:
        """The `k` live rows of the partition most similar to `vector`, best first. Raises `StoreError`."""
        held = await self._current(partition, len(vector))
        if held.moved and self._vectors is not None:
            return await self._vectors.nearest(partition, vector, k)
        return held.index.nearest(vector, k, self._clock.now())

    async def open(self, partition: str, dim: int) -> WarmIndex:
        """The partition's index, no older than it may be; empty when it has outgrown memory. Raises `StoreError`."""
        return (await self._current(partition, dim)).index

    async def _current(self, partition: str, dim: int) -> _Held:
        held = self._held.get(partition)
        if held is None:
            held = self._held[partition] = _Held(WarmIndex(dim))
        self._held.move_to_end(partition)
        if self._is_old(held):
            async with held.lock:
                if self._is_old(held):
                    await self._catch_up(partition, held, dim)
            self._forget()
        return held

    def _is_old(self, held: _Held) -> bool:
        return not held.moved and self._clock.tick() - held.read_at > self._staleness_s

    async def change(self, partition: str, dim: int, change: Change) -> None:
        """Make a change, here at once and where the others find it. Raises `StoreError`."""
        held = self._held.get(partition)
        if self._vectors is not None and dim and (held is None or held.read_at == float("-inf")):
            # Where its rows are is not known yet.
            held = await self._current(partition, dim)
        if held is not None and held.moved:
            await self._move(partition, change)
            return
        at = self._place()
        if held is not None:
            apply(held.index, change)
            held.own.append((at, change))
        await self._log.append(partition, at, change)
        if held is not None and len(held.index) > self._most_rows // 2:
            await self._move_along(partition, held.index, change)
        if held is not None and len(held.own) > SNAPSHOT_AFTER:
            # Nobody asks, so nothing else would bring what is remembered to an end, or the index under its bound.
            await self._current(partition, held.index.dim)

    async def remove(self, key: str, partition: str | None) -> None:
        """Forget every wording of the entry; without a partition, in every index that is open here."""
        named = [partition] if partition else list(self._held)
        for name in named:
            held = self._held.get(name)
            until = held.index.until(key) if held is not None else None
            if partition or until is not None or (held is not None and held.moved):
                await self.change(name, held.index.dim if held else 0, Removed(key, until or 0.0))

    def rows(self) -> int:
        """How many rows are held in all."""
        return sum(len(held.index) for held in self._held.values())

    async def snapshot(self, partition: str, dim: int) -> int:
        """Write the partition's snapshot; how many rows it holds. Raises `StoreError`."""
        held = await self._current(partition, dim)
        held.index.sweep(self._clock.now())
        held.since = 0
        await self._save(partition, held)
        return len(held.index)

    async def _catch_up(self, partition: str, held: _Held, dim: int) -> None:
        if held.read_at == float("-inf"):
            await self._hydrate(partition, held, dim)
        if held.moved:
            return
        # A change made while the log is read may not be in what is read.
        began = self._clock.tick()
        changes = await self._log.since(partition, held.cursor)
        read, again = {at for at, _ in changes}, earlier(held.cursor)
        held.own = [pair for pair in held.own if pair[0] > again and pair[0] not in read]
        for _, change in sorted(changes + held.own, key=itemgetter(0)):
            if isinstance(change, Moved) and self._vectors is not None:
                held.index, held.moved = WarmIndex(dim), True
                return
            apply(held.index, change)
        held.since += sum(at > held.cursor for at in read)
        held.cursor = max((held.cursor, *read))
        held.read_at = began
        if len(held.index) > self._most_rows:
            await self._outgrown(partition, held)
        elif held.since >= SNAPSHOT_AFTER and self._background is not None:
            held.since = 0
            self._background.spawn(self._save(partition, held))

    async def _hydrate(self, partition: str, held: _Held, dim: int) -> None:
        packed = await self._snapshots.load(partition)
        if packed == MOVED and self._vectors is not None:
            held.moved = True
            if self._background is not None:
                # What the bucket has not seen written for long it removes, and this is asked for.
                self._background.spawn(self._snapshots.save(partition, MOVED))
            return
        found = unpack(packed, dim, self._clock.now()) if packed else None
        if found is not None:
            held.index, held.cursor = found

    async def _outgrown(self, partition: str, held: _Held) -> None:
        """Send everybody to the vector index from now on; where there is none, forget what expires soonest."""
        held.index.sweep(self._clock.now())
        if len(held.index) <= self._most_rows:
            return
        if self._vectors is None:
            held.index.shrink(self._most_rows - self._most_rows // 16)
            return
        await self._snapshots.save(partition, MOVED)
        await self._log.append(partition, self._place(), Moved())
        held.index, held.moved = WarmIndex(held.index.dim), True

    async def _move_along(self, partition: str, index: WarmIndex, change: Change) -> None:
        """Put the change into the vector index too and, with a row that is added, one of those that came before."""
        if self._vectors is None:
            return
        await self._move(partition, change)
        if isinstance(change, Added):
            row = index.rows[len(index) - self._most_rows // 2 - 1]
            await self._vectors.put(partition, row, index.vector(row.id))

    async def _move(self, partition: str, change: Change) -> None:
        assert self._vectors is not None
        match change:
            case Added(row, vector):
                await self._vectors.put(partition, row, vector)
            case Removed(key, _):
                await self._vectors.drop_key(partition, key)
            case Vouched(id, principal):
                await self._vectors.vouch(partition, id, principal)
            case Moved():
                pass

    async def _save(self, partition: str, held: _Held) -> None:
        await self._snapshots.save(partition, pack(held.index, held.cursor))

    def _place(self) -> str:
        return place(self._clock.now(), next(self._numbers), self._clock.token(""))

    def _forget(self) -> None:
        while len(self._held) > MOST_OPEN or (self.rows() > self._max_rows and len(self._held) > 1):
            self._held.popitem(last=False)
