"""What filters are built from, and the state table behind one: what nobody minted is not there, without a read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from edgewise.aws import AwsError, Item, Table
from edgewise.cache.dynamodb import scope_and_key
from edgewise.cache.known import KnownIds
from edgewise.cache.port import StoreError

KINDS = ("batch#", "file#", "resp#", "task#")
HEADS = ("meta", "upload")
"""The items under which an identifier is looked up first."""


@dataclass(frozen=True, slots=True)
class ScreenedTable(Table):
    """A table that does not read what `known` rules out. Only whole lookups by identifier are screened."""

    known: KnownIds

    async def get(self, pk: str, sk: str, *, consistent: bool = False) -> Item | None:
        if sk in HEADS and pk.startswith(KINDS) and await self.known.rules_out(pk.partition("#")[2]):
            return None
        return await Table.get(self, pk, sk, consistent=consistent)


async def keys_of(table: Table) -> AsyncIterator[tuple[str, str]]:
    """Scope and key of every entry in the cache table. Reads, and bills, all of it. Raises StoreError."""
    try:
        async for item in table.scan(filter="sk = :entry", values={":entry": "entry"}, projection="pk"):
            yield scope_and_key(item["pk"])
    except AwsError as error:
        raise StoreError(error.code) from error


async def ids_of(table: Table) -> AsyncIterator[str]:
    """Every identifier in the table. Reads, and bills, all of it. Raises StoreError."""
    kinds = {f":k{number}": kind for number, kind in enumerate(KINDS)}
    begins = " OR ".join(f"begins_with(pk, {name})" for name in kinds)
    try:
        async for item in table.scan(
            filter=f"(sk = :meta OR sk = :upload) AND ({begins})",
            values={":meta": HEADS[0], ":upload": HEADS[1], **kinds},
            projection="pk",
        ):
            yield item["pk"].partition("#")[2]
    except AwsError as error:
        raise StoreError(error.code) from error
