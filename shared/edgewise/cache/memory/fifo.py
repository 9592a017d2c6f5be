"""First in, first out: the oldest key goes. What was read since does not matter."""

from __future__ import annotations

from typing import Generic

from edgewise.cache.memory.shelf import K


class Fifo(Generic[K]):
    def __init__(self) -> None:
        self._keys: dict[K, None] = {}

    def added(self, key: K, expires_at: float) -> None:  # noqa: ARG002
        self._keys[key] = None

    def read(self, key: K) -> None:
        pass

    def written(self, key: K, expires_at: float) -> None:
        pass

    def removed(self, key: K) -> None:
        del self._keys[key]

    def evict(self) -> K:
        key = next(iter(self._keys))
        del self._keys[key]
        return key
