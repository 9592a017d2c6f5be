"""The store in this process: for a laptop without tables, for tests, and as the model that the others must equal."""

from __future__ import annotations

from collections.abc import AsyncIterator

from edgewise.cache.codec import pack, unpack
from edgewise.cache.port import Kept
from edgewise.clock import Clock


class LocalStore:
    """Entries in a dictionary, unbounded, packed as everywhere else: what is returned is never shared."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._packed: dict[tuple[str, str], bytes] = {}
        self._links: dict[tuple[str, str], tuple[str, float]] = {}

    async def get(self, scope: str, key: str, *, strong: bool = False) -> Kept | None:  # noqa: ARG002
        packed = self._packed.get((scope, key))
        kept = unpack(packed) if packed is not None else None
        return kept if kept is not None and kept.entry.expires_at > self._clock.now() else None

    async def put(self, scope: str, kept: Kept) -> bool:
        old = await self.get(scope, kept.entry.key)
        if old is not None and 0 < kept.gen < old.gen:
            return False
        self._packed[(scope, kept.entry.key)] = pack(kept)
        return True

    async def delete(self, scope: str, key: str) -> bool:
        there = await self.get(scope, key) is not None
        self._packed.pop((scope, key), None)
        return there

    async def clear(self, scope: str) -> int:
        count = await self.size(scope)
        for there in [pair for pair in self._packed if pair[0] == scope]:
            del self._packed[there]
        for there in [pair for pair in self._links if pair[0] == scope]:
            del self._links[there]
        return count

    async def size(self, scope: str) -> int:
        return sum([1 async for _ in self.walk(scope)])

    async def walk(self, scope: str | None = None) -> AsyncIterator[tuple[str, Kept]]:
        for of, key in list(self._packed):
            if scope is None or of == scope:
                kept = await self.get(of, key)
                if kept is not None:
                    yield of, kept

    async def link(self, scope: str, text_key: str, key: str, expires_at: float) -> None:
        self._links[(scope, text_key)] = (key, expires_at)

    async def linked(self, scope: str, text_key: str) -> Kept | None:
        key, expires_at = self._links.get((scope, text_key), ("", 0.0))
        return await self.get(scope, key) if expires_at > self._clock.now() else None
