"""The store in this process: for a laptop without tables, for tests, and as the model that the others must equal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from edgewise.cache.codec import pack, unpack
from edgewise.cache.memory.policies import shelf
from edgewise.cache.memory.shelf import Shelf
from edgewise.cache.port import Kept
from edgewise.clock import Clock

LINK_BYTES = 200


class LocalStore:
    """Entries packed as everywhere else, so that what is returned is never shared; the oldest go when it is full.

    max_entries, max_bytes  of packed entries; a link to an entry counts as one
    """

    def __init__(self, clock: Clock, *, max_entries: int = 100_000, max_bytes: int = 256_000_000) -> None:
        bounds = {"max_entries": max_entries, "max_bytes": max_bytes}
        self._packed: Shelf[tuple[str, str], bytes] = shelf("fifo", clock, **bounds)
        self._links: Shelf[tuple[str, str], str] = shelf("fifo", clock, **bounds)

    async def get(self, scope: str, key: str, *, strong: bool = False) -> Kept | None:  # noqa: ARG002
        packed = self._packed.get((scope, key))
        return unpack(packed) if packed is not None else None

    async def put(self, scope: str, kept: Kept) -> bool:
        old = await self.get(scope, kept.entry.key)
        if old is not None and 0 < kept.gen < old.gen:
            return False
        packed = pack(kept)
        return self._packed.put((scope, kept.entry.key), packed, len(packed), kept.entry.expires_at)

    async def get_many(self, scope: str, keys: list[str]) -> dict[str, Kept]:
        found = [await self.get(scope, key) for key in keys]
        return {kept.entry.key: kept for kept in found if kept is not None}

    async def put_many(self, scope: str, kept: list[Kept]) -> None:
        for each in kept:
            await self.put(scope, replace(each, gen=0))

    async def delete(self, scope: str, key: str) -> bool:
        return self._packed.delete((scope, key))

    async def clear(self, scope: str) -> int:
        count = 0
        for held in (self._packed, self._links):
            for there in [pair for pair, _ in held.items() if pair[0] == scope]:
                count += held.delete(there) and held is self._packed
        return count

    async def size(self, scope: str) -> int:
        return sum([1 async for _ in self.walk(scope)])

    async def walk(self, scope: str | None = None) -> AsyncIterator[tuple[str, Kept]]:
        for (of, _), packed in self._packed.items():
            if scope is None or of == scope:
                yield of, unpack(packed)

    async def link(self, scope: str, text_key: str, key: str, expires_at: float) -> None:
        self._links.put((scope, text_key), key, LINK_BYTES, expires_at)

    async def linked(self, scope: str, text_key: str) -> Kept | None:
        key = self._links.get((scope, text_key))
        return await self.get(scope, key) if key is not None else None
