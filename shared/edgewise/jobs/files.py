"""Files: what may be stored, for whom, how long; bytes go straight between the wire and the bucket.

A file belongs to a tenant, and another tenant's id is simply not found. Whatever has expired is gone for every
reader at that second, though the table and the bucket delete it later. A file larger than one request may carry
comes in parts (`/v1/uploads`) or by a signed URL; both end as an ordinary file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

from edgewise.clock import Clock
from edgewise.errors import Conflict, InvalidRequest, NotFound, TooLarge
from edgewise.jobs.batch import MAX_BYTES
from edgewise.jobs.ports import Blobs, Signed

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
"""What a client may ask for; 'batch_output' is the gateway's own."""
MAX_FILE_BYTES = 512_000_000
BATCH_KEPT_S = 30 * 86_400
SIGNED_S = 3600
EXPIRY_S = (3600, 2_592_000)


Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class File:
    """One file. `key` is its object's name in the bucket; `pending` until signed-URL bytes have been seen."""

    id: str
    tenant: str
    filename: str
    purpose: str
    size: int
    created_at: int
    key: str
    expires_at: int | None = None
    pending: bool = False

    def wire(self) -> dict[str, Any]:
        wire: dict[str, Any] = {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "uploaded" if self.pending else "processed",
        }
        if self.expires_at is not None:
            wire["expires_at"] = self.expires_at
        return wire


class FileIndex(Protocol):
    """What is known of files, without their bytes."""

    async def put_file(self, file: File) -> None: ...
    async def file(self, id: str) -> File | None: ...
    async def list_files(
        self, tenant: str, *, purpose: str | None, after: File | None, forward: bool, limit: int
    ) -> list[File]:
        """Up to `limit` files of `tenant` that have not expired, by age; those beyond `after` in that order."""
        ...

    async def delete_file(self, id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client said of a file before its bytes."""

    filename: str
    purpose: str
    expires_s: int | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Wanted:
        """From form fields or a JSON object; the expiry as `expires_after: {…}` or `expires_after[seconds]`."""
        purpose = fields.get("purpose")
        if purpose not in PURPOSES:
            raise InvalidRequest(f"`purpose` must be one of {', '.join(PURPOSES)}.", param="purpose")
        filename = str(fields.get("filename") or "upload")
        if purpose == "batch" and not filename.lower().endswith(".jsonl"):
            raise InvalidRequest("A file for a batch is JSON Lines, its name ends in .jsonl.", param="file")
        return cls(filename[-255:], purpose, expiry_s(fields))


def expiry_s(fields: Mapping[str, Any], name: str = "expires_after") -> int | None:
    """Seconds from an `expires_after` object; None when there is none."""
    asked = fields.get(name)
    if asked is None:
        flat = {part: fields.get(f"{name}[{part}]") for part in ("anchor", "seconds")}
        if all(value is None for value in flat.values()):
            return None
        asked = flat
    if not isinstance(asked, Mapping) or asked.get("anchor") not in ("created_at", None):
        raise InvalidRequest(f"`{name}.anchor` must be 'created_at'.", param=f"{name}.anchor")
    try:
        seconds = int(asked.get("seconds"))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = -1
    if not EXPIRY_S[0] <= seconds <= EXPIRY_S[1]:
        raise InvalidRequest(f"`{name}.seconds` must be from {EXPIRY_S[0]} to {EXPIRY_S[1]}.", param=f"{name}.seconds")
    return seconds


def size_limit(purpose: str) -> int:
    return MAX_BYTES if purpose == "batch" else MAX_FILE_BYTES


class Arriving(Generic[Kept]):
    """Bytes on their way into the bucket for something that gets its name when they are all there.

    async with files.arrive(tenant) as arriving:        # whatever fails in it, nothing is left behind
        await arriving.write(piece)
        return await arriving.keep(wanted)
    """

    def __init__(
        self, blobs: Blobs, key: str, limit: int, keep: Callable[[Wanted | None, int], Awaitable[Kept]]
    ) -> None:
        self._blobs, self._key, self._limit, self._keep = blobs, key, limit, keep
        self._sink = blobs.sink(key)
        self._size = 0
        self._closed = False

    async def write(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise TooLarge(f"There are more than {self._limit} bytes.", param="file")
        await self._sink.write(piece)

    async def keep(self, wanted: Wanted | None = None) -> Kept:
        await self._sink.close()
        self._closed = True
        return await self._keep(wanted, self._size)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        if self._closed:
            await self._blobs.delete(self._key)
        else:
            await self._sink.abort()


class Files:
    """What `/v1/files` does."""

    def __init__(self, index: FileIndex, blobs: Blobs, clock: Clock) -> None:
        self.index = index
        self.blobs = blobs
        self.clock = clock

    def draft(self, tenant: str, wanted: Wanted, id: str | None = None) -> File:
        """A file that does not exist yet."""
        now = int(self.clock.now())
        kept = wanted.expires_s or (BATCH_KEPT_S if wanted.purpose in ("batch", "batch_output") else None)
        name = id or self.clock.token("file-")
        return File(
            id=name,
            tenant=tenant,
            filename=wanted.filename,
            purpose=wanted.purpose,
            size=0,
            created_at=now,
            key=f"files/{tenant}/{name}",
            expires_at=now + kept if kept else None,
        )

    def arrive(self, tenant: str) -> Arriving[File]:
        """A file whose bytes come before all is known of it."""
        name = self.clock.token("file-")

        async def keep(wanted: Wanted | None, size: int) -> File:
            assert wanted is not None
            if size > size_limit(wanted.purpose):
                raise TooLarge(f"The file is larger than {size_limit(wanted.purpose)} bytes.", param="file")
            file = replace(self.draft(tenant, wanted, name), size=size)
            await self.index.put_file(file)
            return file

        return Arriving(self.blobs, f"files/{tenant}/{name}", MAX_FILE_BYTES, keep)

    async def store(self, tenant: str, wanted: Wanted, pieces: AsyncIterator[bytes]) -> File:
        """Write `pieces` to the bucket as they come, then name the file."""
        file = self.draft(tenant, wanted)
        size = await self.pour(file.key, pieces, size_limit(wanted.purpose))
        file = replace(file, size=size)
        await self.index.put_file(file)
        return file

    async def pour(self, key: str, pieces: AsyncIterator[bytes], limit: int) -> int:
        """Write a stream to the bucket; the number of bytes. Raises TooLarge past `limit`, leaving nothing."""
        sink, size = self.blobs.sink(key), 0
        try:
            async for piece in pieces:
                size += len(piece)
                if size > limit:
                    raise TooLarge(f"The file is larger than {limit} bytes.", param="file")
                await sink.write(piece)
            return await sink.close()
        except BaseException:
            await sink.abort()
            raise

    async def get(self, tenant: str, id: str) -> File:
        """Raises NotFound, also for what has expired or is another tenant's."""
        file = await self.index.file(id)
        if file is None or file.tenant != tenant or self._expired(file):
            raise NotFound(f"No file has the id '{id[:80]}'.", param="file_id")
        if file.pending:
            size = await self.blobs.size(file.key)
            if size is not None:
                file = replace(file, pending=False, size=size)
                await self.index.put_file(file)
        return file

    def _expired(self, file: File) -> bool:
        return file.expires_at is not None and file.expires_at <= self.clock.now()

    async def content(self, tenant: str, id: str) -> tuple[File, AsyncIterator[bytes]]:
        """The file and its bytes, in pieces. Raises Conflict while its bytes are awaited."""
        file = await self.get(tenant, id)
        if file.pending:
            raise Conflict("The file's bytes have not been put to its signed URL yet.")
        return file, self.blobs.stream(file.key)

    async def page(
        self, tenant: str, *, purpose: str | None, after: str | None, forward: bool, limit: int
    ) -> tuple[list[File], bool]:
        """Files, newest first unless `forward`, and whether there are more."""
        last = await self.get(tenant, after) if after else None
        found = await self.index.list_files(tenant, purpose=purpose, after=last, forward=forward, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def delete(self, tenant: str, id: str) -> dict[str, Any]:
        file = await self.get(tenant, id)
        await self.index.delete_file(id)
        await self.blobs.delete(file.key)
        return {"id": id, "object": "file", "deleted": True}

    async def presign(self, tenant: str, wanted: Wanted, size: int) -> tuple[File, Signed]:
        """A file whose bytes, exactly `size` of them, the client puts to a URL by itself within the hour."""
        if not 0 < size <= size_limit(wanted.purpose):
            raise InvalidRequest(f"`bytes` must be from 1 to {size_limit(wanted.purpose)}.", param="bytes")
        file = replace(self.draft(tenant, wanted), size=size, pending=True)
        signed = await self.blobs.presign(file.key, size, SIGNED_S)
        await self.index.put_file(file)
        return file, signed
