"""`/v1/files` and `/v1/uploads`: bytes pass between the wire and the bucket in pieces, whatever the file's size.

A function URL takes 6 MB in one request (a binary body travels as base64: 4.5 MB of file). A larger file comes by a
signed URL (`POST /v1/files?presign=1`) or in parts (`/v1/uploads`), and the refusal says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from edgewise.api.desk import Identify, Page, json_body, listing
from edgewise.api.form import Form, Write, capped, read_form
from edgewise.api.reply import reply
from edgewise.errors import InvalidRequest, TooLarge
from edgewise.jobs.files import File, Files, Wanted
from edgewise.jobs.uploads import Uploads

HINT = (
    "The body is larger than {limit} bytes, the most that one request can carry. Ask for a signed URL with "
    "POST /v1/files?presign=1 and the JSON object {{filename, bytes, purpose}}, or send the file in parts with "
    "/v1/uploads (openai: client.uploads.upload_file_chunked(..., part_size=4_000_000))."
)

Service = Callable[[], Files]
UploadService = Callable[[], Uploads]


def routes(
    files: Service, uploads: UploadService, identify: Identify, *, max_body_bytes: int = 6_000_000
) -> list[Route]:
    """The routes, for mounting with and without `/v1`. The services are asked for when a request comes."""
    door = _Files(files, uploads, identify, max_body_bytes)
    return [
        Route("/files", door.create, methods=["POST"]),
        Route("/files", door.listed, methods=["GET"]),
        Route("/files/{file_id}", door.get, methods=["GET"]),
        Route("/files/{file_id}", door.delete, methods=["DELETE"]),
        Route("/files/{file_id}/content", door.content, methods=["GET"]),
        Route("/uploads", door.begin, methods=["POST"]),
        Route("/uploads/{upload_id}/parts", door.part, methods=["POST"]),
        Route("/uploads/{upload_id}/complete", door.complete, methods=["POST"]),
        Route("/uploads/{upload_id}/cancel", door.cancel, methods=["POST"]),
    ]


class _Files:
    def __init__(self, files: Service, uploads: UploadService, identify: Identify, max_body_bytes: int) -> None:
        self._service = files
        self._upload_service = uploads
        self._identify = identify
        self._limit = max_body_bytes

    @property
    def _files(self) -> Files:
        return self._service()

    @property
    def _uploads(self) -> Uploads:
        return self._upload_service()

    def _check_length(self, request: Request) -> None:
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self._limit:
            raise TooLarge(HINT.format(limit=self._limit))

    async def create(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        if request.query_params.get("presign") in ("1", "true"):
            return await self._presigned(request, tenant)
        file = await self._received(request, tenant)
        return reply(file.wire())

    async def _presigned(self, request: Request, tenant: str) -> Response:
        asked = await json_body(request)
        file, signed = await self._files.presign(tenant, Wanted.of(asked), _size(asked))
        upload = {"method": signed.method, "url": signed.url, "headers": dict(signed.headers)}
        return reply({**file.wire(), "upload": upload})

    async def _received(self, request: Request, tenant: str) -> File:
        """The file goes to the bucket while it arrives; its purpose may come after it, and is checked at the end."""
        async with self._files.arrive(tenant) as arriving:
            form = await self._form(request, "file", arriving.write)
            return await arriving.keep(Wanted.of({**form.fields, "filename": form.filename}))

    async def _form(self, request: Request, field: str, write: Write) -> Form:
        """The request's form, with a file called `field` in it whose bytes went to `write` as they came."""
        self._check_length(request)
        pieces = capped(request.stream(), self._limit, HINT.format(limit=self._limit))
        form = await read_form(request.headers.get("content-type", ""), pieces, file_field=field, write=write)
        if form.filename is None:
            raise InvalidRequest(f"The form has no file called '{field}'.", param=field)
        return form

    async def listed(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        page = Page.of(request.query_params, most=10_000, usual=10_000)
        purpose = request.query_params.get("purpose")
        found, more = await self._files.page(
            tenant, purpose=purpose, after=page.after, forward=page.forward, limit=page.limit
        )
        return reply(listing([file.wire() for file in found], more))

    async def get(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        return reply((await self._files.get(tenant, request.path_params["file_id"])).wire())

    async def delete(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        return reply(await self._files.delete(tenant, request.path_params["file_id"]))

    async def content(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        file, pieces = await self._files.content(tenant, request.path_params["file_id"])
        kind = "application/jsonl" if file.filename.endswith(".jsonl") else "application/octet-stream"
        # Never shown in place by a browser: whoever wrote the file would write on the console's page.
        headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
        return StreamingResponse(pieces, media_type=kind, headers={**headers, "content-length": str(file.size)})

    async def begin(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        asked = await json_body(request)
        upload = await self._uploads.begin(tenant, Wanted.of(asked), _size(asked))
        return reply(upload.wire(self._uploads.clock.now()))

    async def part(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        async with await self._uploads.part(tenant, request.path_params["upload_id"]) as part:
            await self._form(request, "data", part.write)
            return reply(await part.keep())

    async def complete(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        asked = await json_body(request)
        parts = asked.get("part_ids")
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise InvalidRequest("`part_ids` must be a list of strings.", param="part_ids")
        md5 = asked.get("md5")
        done = await self._uploads.complete(tenant, request.path_params["upload_id"], parts, str(md5) if md5 else None)
        return reply(done)

    async def cancel(self, request: Request) -> Response:
        tenant = (await self._identify(request)).tenant
        return reply(await self._uploads.cancel(tenant, request.path_params["upload_id"]))


def _size(asked: dict[str, Any]) -> int:
    size = asked.get("bytes")
    if not isinstance(size, int) or isinstance(size, bool):
        raise InvalidRequest("`bytes` must be an integer.", param="bytes")
    return size
