"""Values too large for a DynamoDB item, as objects in the bucket under `spill/`.

An object is written before the item that points to it and is never changed: its name ends in a digest of its bytes,
so an old pointer never meets new bytes. What nobody points to any more is removed by the bucket's lifecycle rule,
not by the request that replaced it.
"""

from __future__ import annotations

import hashlib

from edgewise.aws import Aws, AwsError
from edgewise.cache.port import StoreError

PREFIX = "spill/"


class Spill:
    """Objects in one bucket."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self._aws = aws
        self._bucket = bucket

    async def put(self, key: str, packed: bytes) -> str:
        """Write `packed`; the object's name. Raises StoreError."""
        name = f"{PREFIX}{key[:2]}/{key}/{hashlib.sha256(packed).hexdigest()[:32]}"
        try:
            await self._aws.call("s3", "put_object", Bucket=self._bucket, Key=name, Body=packed)
        except AwsError as error:
            raise StoreError(f"spill not written: {error.code}") from error
        return name

    async def get(self, name: str) -> bytes | None:
        """The object's bytes; None when it is gone. Raises StoreError."""
        try:
            return bytes(await self._aws.run(lambda: self._read(name)))
        except AwsError as error:
            raise StoreError(f"spill not read: {error.code}") from error
        except FileNotFoundError:
            return None

    def _read(self, name: str) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        # The body is a stream of the connection, so it is read on the same thread.
        try:
            body: bytes = self._aws.client("s3").get_object(Bucket=self._bucket, Key=name)["Body"].read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise FileNotFoundError(name) from error
            raise AwsError(str(error.response.get("Error", {}).get("Code")), "get_object") from error
        except BotoCoreError as error:
            raise AwsError("ConnectionError", type(error).__name__) from error
        return body
