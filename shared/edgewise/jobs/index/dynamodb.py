"""Files and uploads in the state table.

file#<id>  meta     a file; gsi1pk file#<tenant>, gsi1sk <created_at>#<id>
file#<id>  upload   an upload, with its parts as a map
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from decimal import Decimal
from typing import Any

from edgewise.aws import AwsError, Item, Table
from edgewise.clock import Clock
from edgewise.jobs.files import File
from edgewise.jobs.uploads import Upload


class DynamoFiles:
    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def put_file(self, file: File) -> None:
        item: Item = {
            "pk": f"file#{file.id}",
            "sk": "meta",
            "gsi1pk": f"file#{file.tenant}",
            "gsi1sk": _age(file),
            **{name: value for name, value in asdict(file).items() if value is not None},
        }
        await self._table.put(item)

    async def file(self, id: str) -> File | None:
        item = await self._table.get(f"file#{id}", "meta", consistent=True)
        return File(**_fields(File, item)) if item else None

    async def list_files(
        self, tenant: str, *, purpose: str | None, after: File | None, forward: bool, limit: int
    ) -> list[File]:
        beyond = {} if after is None else {"after" if forward else "before": _age(after)}
        found: list[File] = []
        async for item in self._table.query(f"file#{tenant}", index="gsi1", forward=forward, **beyond):  # type: ignore[arg-type]
            file = File(**_fields(File, item))
            live = file.expires_at is None or file.expires_at > self._clock.now()
            if live and purpose in (None, file.purpose):
                found.append(file)
                if len(found) >= limit:
                    break
        return found

    async def delete_file(self, id: str) -> None:
        await self._table.delete(f"file#{id}", "meta")

    async def put_upload(self, upload: Upload) -> None:
        values = asdict(replace(upload, parts={}))
        item = {name: value for name, value in values.items() if value is not None and name != "expires_at"}
        # The record outlives its hour, so that a late client learns that it has expired.
        await self._table.put(
            {
                "pk": f"file#{upload.id}",
                "sk": "upload",
                **item,
                "ends_at": upload.expires_at,
                "expires_at": upload.expires_at + 86_400,
            }
        )

    async def upload(self, id: str) -> Upload | None:
        item = await self._table.get(f"file#{id}", "upload", consistent=True)
        return Upload(**_fields(Upload, {**item, "expires_at": item["ends_at"]})) if item else None

    async def add_part(self, id: str, part: str, size: int) -> bool:
        return await self._while_pending(id, "SET #p.#k = :v", {"#p": "parts", "#k": part}, {":v": size})

    async def end_upload(self, id: str, status: str, file_id: str | None = None) -> bool:
        return await self._while_pending(id, "SET #s = :v, file_id = :f", {}, {":v": status, ":f": file_id})

    async def _while_pending(self, id: str, update: str, names: dict[str, str], values: dict[str, Any]) -> bool:
        try:
            await self._table.update(
                f"file#{id}",
                "upload",
                update,
                condition="#s = :pending",
                names={"#s": "status", **names},
                values={":pending": "pending", **values},
                returns="NONE",
            )
        except AwsError as error:
            if error.is_condition:
                return False
            raise
        return True


def _age(file: File) -> str:
    return f"{file.created_at:012d}#{file.id}"


def _fields(kind: type[File] | type[Upload], item: Item) -> dict[str, Any]:
    """What `item` says of the fields of `kind`; all numbers in them are whole."""
    return {field.name: _whole(item[field.name]) for field in fields(kind) if field.name in item}


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(part) for name, part in value.items()}
    return int(value) if isinstance(value, Decimal) else value
