"""Snapshots of warm indexes as objects in the bucket, under `snapshots/`, compressed."""

from __future__ import annotations

from edgewise.aws import Aws, AwsError
from edgewise.cache.port import StoreError

PREFIX = "snapshots/"


class S3Snapshots:
    """Implements `edgewise.cache.semantic.log.Snapshots`."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self._aws = aws
        self._bucket = bucket

    async def save(self, partition: str, packed: bytes) -> None:
        import zstandard

        # int8 vectors barely shrink; level 1 is for the texts, and costs 20 ms for 10,000 rows.
        body = zstandard.ZstdCompressor(level=1).compress(packed)
        try:
            await self._aws.call("s3", "put_object", Bucket=self._bucket, Key=PREFIX + partition, Body=body)
        except AwsError as error:
            raise StoreError(f"snapshot not written: {error.code}") from error

    async def load(self, partition: str) -> bytes | None:
        import zstandard

        try:
            body: bytes | None = await self._aws.run(lambda: self._read(PREFIX + partition))
        except AwsError as error:
            raise StoreError(f"snapshot not read: {error.code}") from error
        return zstandard.ZstdDecompressor().decompress(body) if body is not None else None

    def _read(self, name: str) -> bytes | None:
        from botocore.exceptions import BotoCoreError, ClientError

        # The body is a stream of the connection, so it is read on the same thread.
        try:
            body: bytes = self._aws.client("s3").get_object(Bucket=self._bucket, Key=name)["Body"].read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                return None
            raise AwsError(str(error.response.get("Error", {}).get("Code")), "get_object") from error
        except BotoCoreError as error:
            raise AwsError("ConnectionError", type(error).__name__) from error
        return body
