"""What is certainly not there: identifiers that nobody minted, and keys that nobody stored, without a read.

Filters are built by upkeep and shared through the bucket. Each knows all there was when it was built and nothing
since, and the two uses live with that differently:

    identifiers  carry the second in which they were minted. One that is older than the filter and not in it was never
                 minted, or is gone; one that is newer is looked up. So staleness costs a read, never a wrong 404.
    cache keys   carry no time. A key that was stored since the filter was built is taken for absent: a hit lost, which
                 costs a call. So this is off unless wanted (docs/decisions/0033-bloom-filters.md has the figures).

Trouble with a filter means that there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from edgewise.cache.bloom import Bloom
from edgewise.cache.port import StoreError
from edgewise.clock import Clock, minted_at

PREFIX = "filters/"
RELOAD_S = 600.0
IDS = "ids"
REBUILD_S = 6 * 3600.0
SLACK_S = 7200.0
"""Identifiers this much older than a filter must be in it. A file takes its upload's identifier, an hour later."""
SKEW_S = 300.0
"""An identifier from further in the future than clocks can differ was not minted here."""


class Blobs(Protocol):
    """Bytes by name. Raises `StoreError`."""

    async def get(self, name: str) -> bytes | None: ...
    async def put(self, name: str, content: bytes) -> None: ...


class Filters:
    """Filters by name, read from the bucket when first needed and again every ten minutes."""

    def __init__(self, clock: Clock, blobs: Blobs) -> None:
        self._clock = clock
        self._blobs = blobs
        self._known: dict[str, Bloom | None] = {}
        self._read_at: dict[str, float] = {}
        self._lock = asyncio.Lock()

    async def get(self, name: str) -> Bloom | None:
        """The filter; None when there is none."""
        if self._clock.tick() - self._read_at.get(name, float("-inf")) >= RELOAD_S:
            async with self._lock:
                if self._clock.tick() - self._read_at.get(name, float("-inf")) >= RELOAD_S:
                    self._known[name] = await self._read(name)
                    self._read_at[name] = self._clock.tick()
        return self._known[name]

    async def _read(self, name: str) -> Bloom | None:
        try:
            text = await self._blobs.get(PREFIX + name)
            return None if text is None else Bloom.loads(text)
        except (StoreError, ValueError):
            return None

    async def put(self, name: str, bloom: Bloom) -> None:
        """Share a filter. Raises StoreError."""
        await self._blobs.put(PREFIX + name, bloom.dumps())
        self._known[name] = bloom
        self._read_at[name] = self._clock.tick()


class KnownIds:
    """Identifiers of batches, files, uploads, responses: whatever has a name of its own in the state table."""

    def __init__(self, clock: Clock, filters: Filters) -> None:
        self._clock = clock
        self._filters = filters

    async def rules_out(self, id: str) -> bool:
        """Nobody minted `id`, or it is gone. False: look it up. An identifier that was not minted by the clock (it
        was derived from another) carries no time, so it is always looked up."""
        minted = minted_at(id)
        if minted is None:
            return False
        now = self._clock.now()
        if minted > now - SLACK_S:
            # Too new for any filter, which is then not even read; or from a future that no clock here has seen.
            return minted > now + SKEW_S
        bloom = await self._filters.get(IDS)
        return bloom is not None and minted < bloom.built_at - SLACK_S and id not in bloom

    async def rebuild(self, ids: Callable[[], AsyncIterator[str]]) -> int:
        """Share a filter of `ids()`, which are all there are, unless the shared one is young; how many, 0 if so.

        Raises StoreError.
        """
        shared = await self._filters.get(IDS)
        built_at = self._clock.now()
        if shared is not None and built_at - shared.built_at < REBUILD_S:
            return 0
        # The time was taken before the first is read: what is minted meanwhile may be missing.
        listed = [each async for each in ids()]
        await self._filters.put(IDS, Bloom.of(listed, built_at))
        return len(listed)


class KnownKeys:
    """Keys of stored entries, by scope."""

    def __init__(self, clock: Clock, filters: Filters) -> None:
        self._clock = clock
        self._filters = filters

    async def rules_out(self, scope: str, key: str) -> bool:
        """`key` was not stored when the filter was built, nor since by this process."""
        bloom = await self._filters.get(f"keys/{scope}")
        return bloom is not None and key not in bloom

    async def saw(self, scope: str, key: str) -> None:
        """This process has stored `key`."""
        bloom = await self._filters.get(f"keys/{scope}")
        if bloom is not None:
            bloom.add(key)

    async def rebuild(self, stored: AsyncIterator[tuple[str, str]]) -> int:
        """Share a filter for each scope of `stored`, all scopes and keys there are; how many. Raises StoreError."""
        built_at = self._clock.now()
        keys: dict[str, list[str]] = {}
        async for scope, key in stored:
            keys.setdefault(scope, []).append(key)
        for scope, listed in keys.items():
            await self._filters.put(f"keys/{scope}", Bloom.of(listed, built_at))
        return sum(map(len, keys.values()))
