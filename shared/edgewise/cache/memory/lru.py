"""Least recently used: the key that was neither read nor written for longest goes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic

from edgewise.cache.memory.shelf import K


class Lru(Generic[K]):
    def __init__(self) -> None:
        # A plain dict keeps the order too, but finding its first key walks over the holes that moves leave behind.
        self._keys: OrderedDict[K, None] = OrderedDict()

    def added(self, key: K, expires_at: float) -> None:  # noqa: ARG002
        self._keys[key] = None

    def read(self, key: K) -> None:
        self._keys.move_to_end(key)

    def written(self, key: K, expires_at: float) -> None:  # noqa: ARG002
        self._keys.move_to_end(key)

    def removed(self, key: K) -> None:
        del self._keys[key]

    def evict(self) -> K:
        return self._keys.popitem(last=False)[0]
