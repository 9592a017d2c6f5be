"""Values in table items: JSON, compressed, and in the bucket when too large for an item."""

from __future__ import annotations

from typing import Any

import orjson

from edgewise.jobs.ports import Blobs

SPILL_BYTES = 250_000
"""DynamoDB takes 400 KB an item; what else is in it must fit too."""


class Packing:
    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def pack(self, name: str, value: Any, key: str) -> dict[str, Any]:
        """The attributes that hold `value` under `name`; a large one goes to the object `key`."""
        import zstandard

        packed = zstandard.compress(orjson.dumps(value), 3)
        if len(packed) <= SPILL_BYTES:
            return {name: packed}
        sink = self._blobs.sink(key)
        await sink.write(packed)
        await sink.close()
        return {f"{name}_at": key}

    async def drop(self, item: dict[str, Any]) -> None:
        """Delete what an item has in the bucket."""
        for name, value in item.items():
            if name.endswith("_at") and isinstance(value, str):
                await self._blobs.delete(value)

    async def unpack(self, name: str, item: dict[str, Any]) -> Any:
        """The value held under `name`; None when there is none."""
        import zstandard

        packed = await self._blobs.read(item[f"{name}_at"]) if f"{name}_at" in item else item.get(name)
        return None if packed is None else orjson.loads(zstandard.decompress(packed))
