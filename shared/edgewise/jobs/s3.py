"""The bucket: objects written and read in pieces of a few megabytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from edgewise.aws import Aws, AwsError
from edgewise.errors import NotFound
from edgewise.jobs.ports import Signed

PART_BYTES = 8 * 1024 * 1024
"""S3 takes no part under 5 MiB except the last, and 10,000 parts: this reaches 80 GB."""
PIECE_BYTES = 1024 * 1024
_ABSENT = ("NoSuchKey", "404", "NotFound")


class S3Sink:
    """One object on its way in: a single put when it is small, a multipart upload when it is not."""

    def __init__(self, aws: Aws, bucket: str, key: str) -> None:
        self._aws = aws
        self._where = {"Bucket": bucket, "Key": key}
        self._held = bytearray()
        self._size = 0
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []

    async def write(self, piece: bytes) -> None:
        self._held += piece
        self._size += len(piece)
        if len(self._held) >= PART_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        if self._upload is None:
            made = await self._aws.call("s3", "create_multipart_upload", **self._where)
            self._upload = made["UploadId"]
        number = len(self._parts) + 1
        body, self._held = bytes(self._held), bytearray()
        sent = await self._aws.call(
            "s3", "upload_part", **self._where, UploadId=self._upload, PartNumber=number, Body=body
        )
        self._parts.append({"ETag": sent["ETag"], "PartNumber": number})

    async def close(self) -> int:
        if self._upload is None:
            await self._aws.call("s3", "put_object", **self._where, Body=bytes(self._held))
            return self._size
        if self._held:
            await self._flush()
        await self._aws.call(
            "s3",
            "complete_multipart_upload",
            **self._where,
            UploadId=self._upload,
            MultipartUpload={"Parts": self._parts},
        )
        return self._size

    async def abort(self) -> None:
        """Forget what was written; the bucket's lifecycle rule clears what this could not."""
        self._held = bytearray()
        if self._upload is not None:
            try:
                await self._aws.call("s3", "abort_multipart_upload", **self._where, UploadId=self._upload)
            except AwsError:
                return


class S3Blobs:
    def __init__(self, aws: Aws, bucket: str) -> None:
        self._aws = aws
        self._bucket = bucket

    def sink(self, key: str) -> S3Sink:
        return S3Sink(self._aws, self._bucket, key)

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        try:
            found = await self._aws.call("s3", "get_object", Bucket=self._bucket, Key=key)
        except AwsError as error:
            raise _translated(error) from error
        body = found["Body"]
        try:
            while piece := await self._aws.run(lambda: body.read(PIECE_BYTES)):
                yield piece
        finally:
            body.close()

    async def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        ranged = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}

        def fetch() -> bytes:
            return bytes(found["Body"].read())

        try:
            found = await self._aws.call("s3", "get_object", Bucket=self._bucket, Key=key, **ranged)
        except AwsError as error:
            raise _translated(error) from error
        whole: bytes = await self._aws.run(fetch)
        return whole

    async def size(self, key: str) -> int | None:
        try:
            found = await self._aws.call("s3", "head_object", Bucket=self._bucket, Key=key)
        except AwsError as error:
            if error.code in _ABSENT:
                return None
            raise
        return int(found["ContentLength"])

    async def delete(self, key: str) -> None:
        await self._aws.call("s3", "delete_object", Bucket=self._bucket, Key=key)

    async def presign(self, key: str, size: int, within_s: int) -> Signed:
        """A URL for one PUT of exactly `size` bytes: the length is part of what is signed."""

        def sign() -> str:
            return str(
                self._aws.client("s3").generate_presigned_url(
                    "put_object",
                    Params={"Bucket": self._bucket, "Key": key, "ContentLength": size},
                    ExpiresIn=within_s,
                )
            )

        return Signed(await self._aws.run(sign), "PUT", {"content-length": str(size)})


def _translated(error: AwsError) -> Exception:
    return NotFound("The object is not there.") if error.code in _ABSENT else error
