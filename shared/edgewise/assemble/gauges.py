"""What the cache's memory holds, told as metrics now and then: levels belong to no request."""

from __future__ import annotations

from collections.abc import Mapping

from edgewise.cache.room import CacheRoom
from edgewise.clock import Clock
from edgewise.record.room import RecordRoom
from edgewise.words import Note

EVERY_S = 60.0


class CacheGauges:
    """An observer of the record: at most once a minute, with the request that happens to come then."""

    def __init__(self, cache: CacheRoom, record: RecordRoom, clock: Clock) -> None:
        self._cache, self._record, self._clock = cache, record, clock
        self._told_at = clock.tick()
        self._evictions = self._expirations = 0

    def __call__(self, note: Note, values: Mapping[str, float]) -> None:  # noqa: ARG002 - observers get both
        now = self._clock.tick()
        if now - self._told_at < EVERY_S:
            return
        self._told_at = now
        held = self._cache.memory
        self._record.signal("CacheBytes", held.bytes)
        self._record.signal("CacheEntries", held.entries)
        self._record.signal("CacheEvicted", held.evictions - self._evictions)
        self._record.signal("CacheExpired", held.expirations - self._expirations)
        self._evictions, self._expirations = held.evictions, held.expirations
