"""Uploads: a file that comes in parts, each small enough for one request.

Parts are objects of their own until the client says which of them make the file and in which order; joining streams
them through. An upload lives an hour.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from edgewise.errors import Conflict, InvalidRequest, NotFound
from edgewise.jobs.files import Arriving, File, Files, Wanted, size_limit

UPLOAD_KEPT_S = 3600


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that comes in parts. `parts` maps a part's id to its size."""

    id: str
    tenant: str
    filename: str
    purpose: str
    size: int
    created_at: int
    expires_at: int
    status: str = "pending"
    file_expires_s: int | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    file_id: str | None = None

    def wire(self, now: float, file: File | None = None) -> dict[str, Any]:
        expired = self.status == "pending" and self.expires_at <= now
        return {
            "id": self.id,
            "object": "upload",
            "bytes": self.size,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "expired" if expired else self.status,
            "file": file.wire() if file else None,
        }


class UploadIndex(Protocol):
    """What is known of uploads, without their bytes."""

    async def put_upload(self, upload: Upload) -> None: ...
    async def upload(self, id: str) -> Upload | None: ...
    async def add_part(self, id: str, part: str, size: int) -> bool:
        """False: the upload is no longer pending."""
        ...

    async def end_upload(self, id: str, status: str, file_id: str | None = None) -> bool:
        """False: it was not pending."""
        ...


class Uploads:
    """What `/v1/uploads` does."""

    def __init__(self, files: Files, index: UploadIndex) -> None:
        self._files = files
        self.index = index
        self.blobs = files.blobs
        self.clock = files.clock

    async def begin(self, tenant: str, wanted: Wanted, size: int) -> Upload:
        if not 0 < size <= size_limit(wanted.purpose):
            raise InvalidRequest(f"`bytes` must be from 1 to {size_limit(wanted.purpose)}.", param="bytes")
        now = int(self.clock.now())
        upload = Upload(
            id=self.clock.token("upload_"),
            tenant=tenant,
            filename=wanted.filename,
            purpose=wanted.purpose,
            size=size,
            created_at=now,
            expires_at=now + UPLOAD_KEPT_S,
            file_expires_s=wanted.expires_s,
        )
        await self.index.put_upload(upload)
        return upload

    async def pending(self, tenant: str, id: str) -> Upload:
        """Raises NotFound, or Conflict when it has ended."""
        upload = await self.index.upload(id)
        if upload is None or upload.tenant != tenant:
            raise NotFound(f"No upload has the id '{id[:80]}'.", param="upload_id")
        if upload.status != "pending" or upload.expires_at <= self.clock.now():
            raise Conflict(f"The upload is {upload.wire(self.clock.now())['status']}.")
        return upload

    async def part(self, tenant: str, id: str) -> Arriving[dict[str, Any]]:
        """Parts may come in any order and at once; completing says which of them count, in which order."""
        upload = await self.pending(tenant, id)
        part = self.clock.token("part_")

        async def keep(_: Wanted | None, size: int) -> dict[str, Any]:
            if not await self.index.add_part(id, part, size):
                raise Conflict("The upload has ended.")
            return {"id": part, "object": "upload.part", "created_at": int(self.clock.now()), "upload_id": id}

        return Arriving(self.blobs, _part_key(id, part), upload.size, keep)

    async def complete(self, tenant: str, id: str, part_ids: list[str], md5: str | None) -> dict[str, Any]:
        """Join the parts in the order given; asking again with the upload completed gives the same file."""
        found = await self.index.upload(id)
        if found is not None and found.tenant == tenant and found.status == "completed" and found.file_id:
            return found.wire(self.clock.now(), await self._files.get(tenant, found.file_id))
        upload = await self.pending(tenant, id)
        unknown = [part for part in part_ids if part not in upload.parts]
        if unknown or not part_ids:
            raise InvalidRequest(f"No such part: {', '.join(unknown)[:200] or 'none was named'}.", param="part_ids")
        size = sum(upload.parts[part] for part in part_ids)
        if size != upload.size:
            raise InvalidRequest(f"The parts have {size} bytes together, the upload was to have {upload.size}.")
        digest = hashlib.md5(usedforsecurity=False)
        wanted = Wanted(upload.filename, upload.purpose, upload.file_expires_s)
        file = self._files.draft(tenant, wanted, id=f"file-{id.removeprefix('upload_')}")
        await self._files.pour(file.key, self._joined(id, part_ids, digest), upload.size)
        if md5 and digest.hexdigest() != md5.lower():
            await self.blobs.delete(file.key)
            raise InvalidRequest("The file's MD5 is not the one given.", param="md5")
        file = replace(file, size=size)
        await self._files.index.put_file(file)
        if not await self.index.end_upload(id, "completed", file.id):
            raise Conflict("The upload has ended.")
        for part in upload.parts:
            await self.blobs.delete(_part_key(id, part))
        return replace(upload, status="completed").wire(self.clock.now(), file)

    async def _joined(self, id: str, part_ids: list[str], digest: Any) -> AsyncIterator[bytes]:
        for part in part_ids:
            async for piece in self.blobs.stream(_part_key(id, part)):
                digest.update(piece)
                yield piece

    async def cancel(self, tenant: str, id: str) -> dict[str, Any]:
        upload = await self.pending(tenant, id)
        if not await self.index.end_upload(id, "cancelled"):
            raise Conflict("The upload has ended.")
        for part in upload.parts:
            await self.blobs.delete(_part_key(id, part))
        return replace(upload, status="cancelled").wire(self.clock.now())


def _part_key(upload_id: str, part: str) -> str:
    return f"files/parts/{upload_id}/{part}"
