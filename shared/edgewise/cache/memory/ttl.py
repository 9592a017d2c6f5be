"""Time to live: the key that would expire first goes, whether or not it is used.

Right where values age and all are asked for alike; what never expires goes last.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Generic

from edgewise.cache.memory.shelf import K


class Ttl(Generic[K]):
    def __init__(self) -> None:
        self._number = itertools.count()
        self._current: dict[K, int] = {}
        self._heap: list[tuple[float, int, K]] = []

    def added(self, key: K, expires_at: float) -> None:
        if len(self._heap) > 4 * len(self._current) + 64:
            self._heap = [record for record in self._heap if self._current.get(record[2]) == record[1]]
            heapq.heapify(self._heap)
        number = next(self._number)
        self._current[key] = number
        heapq.heappush(self._heap, (expires_at, number, key))

    def read(self, key: K) -> None:
        pass

    def written(self, key: K, expires_at: float) -> None:
        self.added(key, expires_at)

    def removed(self, key: K) -> None:
        del self._current[key]

    def evict(self) -> K:
        while True:
            _, number, key = heapq.heappop(self._heap)
            # Only a key's newest record counts; the others are of earlier values.
            if self._current.get(key) == number:
                del self._current[key]
                return key
