"""A bounded shelf: values by key, within so many entries and so many bytes, each until its time.

Theory of operation. The shelf knows values, sizes, expiry and statistics; an `Order` knows only keys and says which
one goes next. So a policy is one small file, and every policy has the same bounds, the same locking and the same
counters. Room is made before a new key is added, so that a newcomer competes only when the order wants it to.

Concurrency: one lock around each operation; none calls out while it holds it, except to the clock and the order.
Expiry: an entry whose time has come is never returned; it leaves when it is next asked for, when `prune` is called or
when the order evicts it. Time is the clock's `now()`, handed in, so no test sleeps.

The shelf deliberately does not know what it holds or how large that is: `size_bytes` is the caller's figure.
Source: the shape is cachetools' (a policy is a mapping and a few overrides), with two bounds instead of one.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Generic, Protocol, TypeVar

from edgewise.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Order(Protocol[K]):
    """Which key goes next. Each key is told of in this order: added, then read and written, then removed."""

    def added(self, key: K, expires_at: float) -> None: ...
    def read(self, key: K) -> None: ...
    def written(self, key: K, expires_at: float) -> None:
        """The key, already there, has a new value."""
        ...

    def removed(self, key: K) -> None:
        """The key was deleted or has expired; never called for a key that `evict` returned."""
        ...

    def evict(self) -> K:
        """Forget the key that is to go, and return it. Called only when there is one."""
        ...


@dataclass(frozen=True, slots=True)
class ShelfStats:
    """Counts since the start, and what is held now."""

    hits: int
    misses: int
    expirations: int
    evictions: int
    refused: int
    """Values larger than the whole shelf."""
    entries: int
    bytes: int

    @property
    def hit_rate(self) -> float:
        """Share of lookups that found something, 0 to 1; 0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


class _Slot(Generic[V]):
    __slots__ = ("expires_at", "size_bytes", "value")

    def __init__(self, value: V, size_bytes: int, expires_at: float) -> None:
        self.value = value
        self.size_bytes = size_bytes
        self.expires_at = expires_at


class Shelf(Generic[K, V]):
    """Values by key under an order of eviction. Thread-safe.

    max_entries  at least 1        max_bytes  the sum of the values' `size_bytes` never exceeds it
    """

    def __init__(self, order: Order[K], clock: Clock, *, max_entries: int, max_bytes: int) -> None:
        if max_entries < 1 or max_bytes < 1:
            raise ValueError("a shelf holds at least one entry and one byte")
        self._order = order
        self._now = clock.now
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._slots: dict[K, _Slot[V]] = {}
        self._lock = threading.Lock()
        self._bytes = 0
        self._hits = self._misses = self._expirations = self._evictions = self._refused = 0

    def get(self, key: K) -> V | None:
        """The value, or None when there is none or its time has come."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                self._misses += 1
                return None
            if slot.expires_at <= self._now():
                self._remove(key, slot)
                self._expirations += 1
                self._misses += 1
                return None
            self._hits += 1
            self._order.read(key)
            return slot.value

    def peek(self, key: K) -> V | None:
        """As `get`, but neither the order nor the statistics hear of it."""
        with self._lock:
            slot = self._slots.get(key)
            return None if slot is None or slot.expires_at <= self._now() else slot.value

    def put(self, key: K, value: V, size_bytes: int = 1, expires_at: float = inf) -> bool:
        """Keep `value` until `expires_at` (epoch seconds). False: it is larger than the shelf, and not kept."""
        with self._lock:
            return self._put(key, _Slot(value, size_bytes, expires_at))

    def _put(self, key: K, slot: _Slot[V]) -> bool:
        old, size_bytes = self._slots.get(key), slot.size_bytes
        if size_bytes > self.max_bytes:
            self._refused += 1
            if old is not None:
                self._remove(key, old)
            return False
        if old is None:
            while len(self._slots) >= self.max_entries or self._bytes + size_bytes > self.max_bytes:
                self._evict()
            self._slots[key] = slot
            self._bytes += size_bytes
            self._order.added(key, slot.expires_at)
            return True
        self._bytes += size_bytes - old.size_bytes
        self._slots[key] = slot
        self._order.written(key, slot.expires_at)
        while self._bytes > self.max_bytes:
            self._evict()
        # A value that grew may have cost its own key its place: then it comes in as a new one does.
        return key in self._slots or self._put(key, slot)

    def delete(self, key: K) -> bool:
        """Whether a live value was there."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                return False
            self._remove(key, slot)
            return slot.expires_at > self._now()

    def clear(self) -> None:
        with self._lock:
            for key, slot in list(self._slots.items()):
                self._remove(key, slot)

    def prune(self) -> int:
        """Remove all that has expired; how many there were. Costs a walk."""
        with self._lock:
            now = self._now()
            gone = [(key, slot) for key, slot in self._slots.items() if slot.expires_at <= now]
            for key, slot in gone:
                self._remove(key, slot)
            self._expirations += len(gone)
            return len(gone)

    def items(self) -> Iterator[tuple[K, V]]:
        """The live pairs as they are now, in no order."""
        with self._lock:
            now = self._now()
            live = [(key, slot.value) for key, slot in self._slots.items() if slot.expires_at > now]
        return iter(live)

    def __len__(self) -> int:
        return len(self._slots)

    def stats(self) -> ShelfStats:
        with self._lock:
            return ShelfStats(
                hits=self._hits,
                misses=self._misses,
                expirations=self._expirations,
                evictions=self._evictions,
                refused=self._refused,
                entries=len(self._slots),
                bytes=self._bytes,
            )

    def _remove(self, key: K, slot: _Slot[V]) -> None:
        del self._slots[key]
        self._bytes -= slot.size_bytes
        self._order.removed(key)

    def _evict(self) -> None:
        key = self._order.evict()
        self._bytes -= self._slots.pop(key).size_bytes
        self._evictions += 1
