"""Objects in the bucket: values too large for a DynamoDB item, under `spill/`, and whatever else has a name.

A spilled object is written before the item that points to it and is never changed: its name ends in a digest of its
bytes, so an old pointer never meets new bytes. What was replaced is removed by the bucket's lifecycle rule, not by the
request that replaced it; what is purged goes with its item, since somebody wants it gone.
"""

from __future__ import annotations

import hashlib
from functools import partial

from edgewise.aws import Aws, AwsError
from edgewise.cache.port import StoreError

PREFIX = "spill/"


class Bucket:
    """Bytes by name."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self._aws = aws
        self._bucket = bucket

    async def put(self, name: str, content: bytes) -> None:
        """Write the object. Raises StoreError."""
        try:
            await self._aws.call("s3", "put_object", Bucket=self._bucket, Key=name, Body=content)
        except AwsError as error:
            raise StoreError(f"object not written: {error.code}") from error

    async def delete(self, name: str) -> None:
        """Remove the object, if it is there. Raises StoreError."""
        try:
            await self._aws.call("s3", "delete_object", Bucket=self._bucket, Key=name)
        except AwsError as error:
            raise StoreError(f"object not removed: {error.code}") from error

    async def get(self, name: str) -> bytes | None:
        """The object's bytes; None when there is none. Raises StoreError."""
        try:
            return await self._aws.run(partial(self._read, name))  # type: ignore[no-any-return]
        except AwsError as error:
            raise StoreError(f"object not read: {error.code}") from error

    def _read(self, name: str) -> bytes | None:
        from botocore.exceptions import BotoCoreError, ClientError

        # The body is a stream of the connection, so it is read on the same thread.
        try:
            body: bytes = self._aws.client("s3").get_object(Bucket=self._bucket, Key=name)["Body"].read()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if code in ("NoSuchKey", "404"):
                return None
            raise AwsError(code, "get_object") from error
        except BotoCoreError as error:
            raise AwsError("ConnectionError", type(error).__name__) from error
        return body


class Spill:
    """Large values as objects of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def put(self, key: str, packed: bytes) -> str:
        """Write `packed`; the object's name. Raises StoreError."""
        name = f"{PREFIX}{key[:2]}/{key}/{hashlib.sha256(packed).hexdigest()[:32]}"
        await self._bucket.put(name, packed)
        return name

    async def get(self, name: str) -> bytes | None:
        """The object's bytes; None when it is gone. Raises StoreError."""
        return await self._bucket.get(name)

    async def delete(self, name: str) -> None:
        """Remove the object. Raises StoreError."""
        await self._bucket.delete(name)
