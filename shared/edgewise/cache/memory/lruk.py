"""LRU-K: the key whose K-th most recent use is longest ago goes.

A key with fewer than K uses has an infinite distance, so such keys go first, the least recently used of them before
the others: one pass over many keys (a scan) cannot push out what is used again and again. The uses of a key that
left are remembered for as many keys as the shelf holds, so that a key which comes back soon is known.
Source: O'Neil, O'Neil, Weikum, "The LRU-K page replacement algorithm", SIGMOD 1993 (no correlated-reference period).
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict, deque
from typing import Generic

from edgewise.cache.memory.shelf import K

_Rank = tuple[int, int]
"""(time of the K-th last use, or -1; time of the last use): the smallest goes."""


class LruK(Generic[K]):
    """k  2 or more        remembered  how many keys that left are still known"""

    def __init__(self, k: int = 2, remembered: int = 10_000) -> None:
        self._k = k
        self._remembered = remembered
        self._time = itertools.count()
        self._uses: dict[K, deque[int]] = {}
        self._gone: OrderedDict[K, deque[int]] = OrderedDict()
        self._heap: list[tuple[_Rank, int, K]] = []

    def added(self, key: K, expires_at: float) -> None:  # noqa: ARG002
        gone = self._gone.pop(key) if key in self._gone else None
        self._uses[key] = gone or deque(maxlen=self._k)
        self.read(key)

    def read(self, key: K) -> None:
        self._uses[key].append(next(self._time))
        self._push(key)

    def written(self, key: K, expires_at: float) -> None:  # noqa: ARG002
        self.read(key)

    def removed(self, key: K) -> None:
        del self._uses[key]

    def evict(self) -> K:
        while True:
            rank, _, key = heapq.heappop(self._heap)
            uses = self._uses.get(key)
            # A record is out of date when its key was used again or has left; then a newer one is in the heap.
            if uses is not None and rank == self._rank(uses):
                self._gone[key] = self._uses.pop(key)
                if len(self._gone) > self._remembered:
                    self._gone.popitem(last=False)
                return key

    def _push(self, key: K) -> None:
        if len(self._heap) > 4 * len(self._uses) + 64:
            self._heap = [(self._rank(uses), uses[-1], k) for k, uses in self._uses.items()]
            heapq.heapify(self._heap)
            return
        uses = self._uses[key]
        heapq.heappush(self._heap, (self._rank(uses), uses[-1], key))

    def _rank(self, uses: deque[int]) -> _Rank:
        return (uses[0] if len(uses) == self._k else -1, uses[-1])
