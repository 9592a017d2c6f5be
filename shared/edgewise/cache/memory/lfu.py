"""Least frequently used: the key with the fewest uses goes; among equals, the one whose last use is longest ago.

One bucket for each count of uses, so every operation is O(1) but for the search of the smallest count after a
removal. A key that leaves loses its count (no ageing): an old favourite stays long after it is out of fashion, which
is this policy's known weakness.
Source: Shah, Mitra, Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme" (2010).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic

from edgewise.cache.memory.shelf import K


class Lfu(Generic[K]):
    def __init__(self) -> None:
        self._uses: dict[K, int] = {}
        self._buckets: dict[int, OrderedDict[K, None]] = {}

    def added(self, key: K, expires_at: float) -> None:  # noqa: ARG002
        self._place(key, 1)

    def read(self, key: K) -> None:
        self._place(key, self._leave(key) + 1)

    def written(self, key: K, expires_at: float) -> None:  # noqa: ARG002
        self.read(key)

    def removed(self, key: K) -> None:
        self._leave(key)

    def evict(self) -> K:
        # One is nearly always the smallest count: ask before searching.
        smallest = 1 if 1 in self._buckets else min(self._buckets)
        key = next(iter(self._buckets[smallest]))
        self._leave(key)
        return key

    def _place(self, key: K, uses: int) -> None:
        self._uses[key] = uses
        self._buckets.setdefault(uses, OrderedDict())[key] = None

    def _leave(self, key: K) -> int:
        uses = self._uses.pop(key)
        bucket = self._buckets[uses]
        del bucket[key]
        if not bucket:
            del self._buckets[uses]
        return uses
