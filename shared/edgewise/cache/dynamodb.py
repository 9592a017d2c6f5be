"""The store on DynamoDB, one item an entry; large values spill to the bucket.

    pk `c#<scope>#<key>`   sk `entry`   v the packed entry, or `at` the name of the object that holds it
                           sk `alias`   key: of the entry whose normalised text has this key

DynamoDB deletes expired items days late, and never in a stand-in: every read compares `expires_at` with the clock.
Reads are eventually consistent unless the caller asks otherwise. Purging and counting scan the table: they are rare,
and an index item for each entry would cost as much as the entry (docs/decisions/0032-purge-by-rule-and-scan.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from math import ceil
from typing import Any, Protocol

from edgewise.aws import AwsError, Item, Table
from edgewise.cache.codec import pack, unpack
from edgewise.cache.port import Kept, StoreError
from edgewise.clock import Clock


class Objects(Protocol):
    """Where large values go."""

    async def put(self, key: str, packed: bytes) -> str: ...
    async def get(self, name: str) -> bytes | None: ...
    async def delete(self, name: str) -> None: ...


class NoObjects:
    """No bucket: what is too large for an item is not stored."""

    async def put(self, key: str, packed: bytes) -> str:  # noqa: ARG002
        raise StoreError(f"no bucket for {len(packed)} bytes")

    async def get(self, name: str) -> bytes | None:  # noqa: ARG002
        return None

    async def delete(self, name: str) -> None:
        pass


class DynamoStore:
    """Entries in the cache table. `spill_bytes`: packed entries larger than this go to `objects`."""

    def __init__(self, table: Table, clock: Clock, objects: Objects | None = None, spill_bytes: int = 350_000) -> None:
        self._table = table
        self._clock = clock
        self._objects = objects or NoObjects()
        self._spill_bytes = spill_bytes

    async def get(self, scope: str, key: str, *, strong: bool = False) -> Kept | None:
        try:
            item = await self._table.get(pk_of(scope, key), "entry", consistent=strong)
        except AwsError as error:
            raise StoreError(error.code) from error
        return None if item is None else await self._kept(key, item)

    async def get_many(self, scope: str, keys: list[str]) -> dict[str, Kept]:
        try:
            items = await self._table.get_many([(pk_of(scope, key), "entry") for key in keys])
        except AwsError as error:
            raise StoreError(error.code) from error
        found = [await self._kept(scope_and_key(item["pk"])[1], item) for item in items]
        return {kept.entry.key: kept for kept in found if kept is not None}

    async def put_many(self, scope: str, kept: list[Kept]) -> None:
        items = [await self._item(scope, replace(each, gen=0)) for each in kept]
        try:
            await self._table.put_many(items)
        except AwsError as error:
            raise StoreError(error.code) from error

    async def _item(self, scope: str, kept: Kept) -> Item:
        """The entry as an item; one that is too large is spilled first. Raises StoreError."""
        packed = pack(kept)
        entry = kept.entry
        item: Item = {
            "pk": pk_of(scope, entry.key),
            "sk": "entry",
            "gen": kept.gen,
            "ns": kept.namespace,
            "model": f"{entry.provider}/{entry.model}",
            "created_at": entry.created_at,
            "expires_at": ceil(entry.expires_at),
        }
        if len(packed) > self._spill_bytes:
            item["at"] = await self._objects.put(entry.key, packed)
        else:
            item["v"] = packed
        return item

    async def put(self, scope: str, kept: Kept) -> bool:
        item = await self._item(scope, kept)
        try:
            # Without a lease there is no fence: generation 0 always writes. An expired item is as good as none.
            if kept.gen == 0:
                await self._table.put(item)
            else:
                await self._table.put(
                    item,
                    condition="attribute_not_exists(pk) OR gen <= :gen OR expires_at <= :now",
                    values={":gen": kept.gen, ":now": int(self._clock.now())},
                )
        except AwsError as error:
            if error.is_condition:
                return False
            raise StoreError(error.code) from error
        return True

    async def delete(self, scope: str, key: str) -> bool:
        try:
            item = await self._table.get(pk_of(scope, key), "entry", consistent=True)
            if item is None:
                return False
            await self._table.delete(pk_of(scope, key), "entry")
        except AwsError as error:
            raise StoreError(error.code) from error
        if "at" in item:
            await self._objects.delete(str(item["at"]))
        return int(item["expires_at"]) > self._clock.now()

    async def clear(self, scope: str) -> int:
        count, doomed = 0, []
        now = self._clock.now()
        try:
            async for item in self._scan(scope, "pk, sk, expires_at"):
                count += item["sk"] == "entry" and int(item["expires_at"]) > now
                doomed.append((item["pk"], item["sk"]))
            await self._table.delete_many(doomed)
        except AwsError as error:
            raise StoreError(error.code) from error
        return count

    async def size(self, scope: str) -> int:
        now = self._clock.now()
        try:
            items = [i async for i in self._scan(scope, "sk, expires_at")]
        except AwsError as error:
            raise StoreError(error.code) from error
        return sum(1 for item in items if item["sk"] == "entry" and int(item["expires_at"]) > now)

    async def walk(self, scope: str | None = None) -> AsyncIterator[tuple[str, Kept]]:
        try:
            async for item in self._scan(scope):
                if item["sk"] != "entry":
                    continue
                of, key = scope_and_key(item["pk"])
                kept = await self._kept(key, item)
                if kept is not None:
                    yield of, kept
        except AwsError as error:
            raise StoreError(error.code) from error

    async def link(self, scope: str, text_key: str, key: str, expires_at: float) -> None:
        """Let `text_key` lead to the entry of `key` until `expires_at`. Raises StoreError."""
        try:
            await self._table.put(
                {"pk": pk_of(scope, text_key), "sk": "alias", "key": key, "expires_at": ceil(expires_at)}
            )
        except AwsError as error:
            raise StoreError(error.code) from error

    async def linked(self, scope: str, text_key: str) -> Kept | None:
        """The entry that `text_key` leads to. Raises StoreError."""
        try:
            item = await self._table.get(pk_of(scope, text_key), "alias")
        except AwsError as error:
            raise StoreError(error.code) from error
        if item is None or int(item["expires_at"]) <= self._clock.now():
            return None
        return await self.get(scope, str(item["key"]))

    def _scan(self, scope: str | None, projection: str | None = None) -> AsyncIterator[Item]:
        begin = "c#" if scope is None else f"c#{scope}#"
        # A scope may itself contain '#': the key is the last 64 digits, so the length tells such scopes apart.
        values: dict[str, Any] = {":begin": begin}
        condition = "begins_with(pk, :begin)"
        if scope is not None:
            condition += " AND size(pk) = :length"
            values[":length"] = len(begin.encode()) + 64
        return self._table.scan(filter=condition, values=values, projection=projection)

    async def _kept(self, key: str, item: Item) -> Kept | None:
        """The live entry of an item; None when it has expired or its object is gone. Raises StoreError."""
        now = self._clock.now()
        if int(item["expires_at"]) <= now:
            return None
        packed = item["v"] if "v" in item else await self._objects.get(str(item["at"]))
        if packed is None:
            return None
        kept = unpack(packed)
        if kept.entry.key != key:
            raise StoreError("entry of another key")
        return kept if kept.entry.expires_at > now else None


def pk_of(scope: str, key: str) -> str:
    return f"c#{scope}#{key}"


def scope_and_key(pk: str) -> tuple[str, str]:
    """The reverse of `pk_of`."""
    return pk[2:-65], pk[-64:]
