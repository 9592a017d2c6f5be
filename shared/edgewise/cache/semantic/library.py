"""The warm indexes of this process, each brought up to date before it is used.

An index is made from its snapshot and the log since, then only from the log, and is never older than `staleness_s`.
What this process adds or removes itself it sees at once. When the log since the snapshot has grown long, a new
snapshot is written behind the request. Indexes that nobody asked for longest are forgotten when there are too many
rows in all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from edgewise.background import Background
from edgewise.cache.semantic.index import Row, WarmIndex
from edgewise.cache.semantic.log import Added, Change, Log, Snapshots, apply, pack, unpack
from edgewise.clock import Clock

SNAPSHOT_AFTER = 512
"""Changes since the snapshot after which a new one is due."""


@dataclass(slots=True)
class _Held:
    index: WarmIndex
    cursor: str = ""
    read_at: float = float("-inf")
    since: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Library:
    """Indexes by partition.

    staleness_s  the longest that another process's change may stay unseen
    max_rows     rows of all indexes together
    """

    def __init__(
        self,
        clock: Clock,
        log: Log,
        snapshots: Snapshots,
        *,
        staleness_s: float = 3.0,
        max_rows: int = 200_000,
        background: Background | None = None,
    ) -> None:
        self._clock = clock
        self._log = log
        self._snapshots = snapshots
        self._staleness_s = staleness_s
        self._max_rows = max_rows
        self._background = background
        self._held: OrderedDict[str, _Held] = OrderedDict()

    async def open(self, partition: str, dim: int) -> WarmIndex:
        """The partition's index, no older than it may be. Raises `StoreError`."""
        held = self._held.get(partition)
        if held is None:
            held = self._held[partition] = _Held(WarmIndex(dim))
        self._held.move_to_end(partition)
        if self._clock.tick() - held.read_at > self._staleness_s:
            async with held.lock:
                if self._clock.tick() - held.read_at > self._staleness_s:
                    await self._catch_up(partition, held, dim)
            self._forget()
        return held.index

    async def change(self, partition: str, dim: int, change: Change) -> None:
        """Make a change, here at once and in the log for the others. Raises `StoreError`."""
        held = self._held.get(partition)
        if held is None and isinstance(change, Added):
            held = self._held[partition] = _Held(WarmIndex(dim))
        if held is not None:
            apply(held.index, change)
        await self._log.append(partition, change)

    async def remove(self, key: str, change: Change, partition: str | None) -> None:
        """As `change`; without a partition, in every index that is open here."""
        named = [partition] if partition else list(self._held)
        for name in named:
            held = self._held.get(name)
            had = held is not None and held.index.has_key(key)
            if held is not None:
                apply(held.index, change)
            if had or partition:
                await self._log.append(name, change)

    def rows(self) -> int:
        """How many rows are held in all."""
        return sum(len(held.index) for held in self._held.values())

    async def snapshot(self, partition: str, dim: int) -> int:
        """Write the partition's snapshot; how many rows it holds. Raises `StoreError`."""
        await self.open(partition, dim)
        held = self._held[partition]
        held.index.sweep(self._clock.now())
        held.since = 0
        await self._snapshots.save(partition, pack(held.index, held.cursor))
        return len(held.index)

    async def _catch_up(self, partition: str, held: _Held, dim: int) -> None:
        if held.read_at == float("-inf"):
            packed = await self._snapshots.load(partition)
            found = unpack(packed, dim, self._clock.now()) if packed else None
            if found is not None:
                mine: list[Row] = held.index.rows
                vectors = [held.index.vector(row.id) for row in mine]
                held.index, held.cursor = found
                for row, vector in zip(mine, vectors, strict=True):
                    held.index.put(row, vector)
        changes = await self._log.since(partition, held.cursor)
        for at, change in changes:
            apply(held.index, change)
            if at > held.cursor:
                held.cursor = at
                held.since += 1
        held.read_at = self._clock.tick()
        if held.since >= SNAPSHOT_AFTER and self._background is not None:
            held.since = 0
            self._background.spawn(self._save(partition, held))

    async def _save(self, partition: str, held: _Held) -> None:
        await self._snapshots.save(partition, pack(held.index, held.cursor))

    def _forget(self) -> None:
        while self.rows() > self._max_rows and len(self._held) > 1:
            self._held.popitem(last=False)
