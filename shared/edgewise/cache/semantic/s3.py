"""Snapshots of warm indexes as objects in the bucket, under `snapshots/`, compressed."""

from __future__ import annotations

from edgewise.cache.s3 import Bucket

PREFIX = "snapshots/"


class S3Snapshots:
    """Implements `edgewise.cache.semantic.log.Snapshots`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def save(self, partition: str, packed: bytes) -> None:
        import zstandard

        # int8 vectors barely shrink; level 1 is for the texts, and costs 20 ms for 10,000 rows.
        await self._bucket.put(PREFIX + partition, zstandard.ZstdCompressor(level=1).compress(packed))

    async def load(self, partition: str) -> bytes | None:
        import zstandard

        body = await self._bucket.get(PREFIX + partition)
        return zstandard.ZstdDecompressor().decompress(body) if body is not None else None
