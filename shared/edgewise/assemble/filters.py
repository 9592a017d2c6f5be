"""Filters of what is certainly not there: who reads them, and the chores that build them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgewise.assemble.caching import known_keys
from edgewise.aws import Table
from edgewise.upkeep import Chore

if TYPE_CHECKING:
    from edgewise.assemble.house import House


def screened(house: House, table: Table) -> Table:
    """`table`, the state table, which is not read for identifiers that nobody minted."""
    from edgewise.cache.build import known_ids_of
    from edgewise.cache.dynamodb_known import ScreenedTable

    assert house.settings.bucket is not None
    return ScreenedTable(table.aws, table.name, known_ids_of(house.clock, house.aws, house.settings.bucket))


def filter_chores(house: House) -> list[Chore]:
    """What builds the filters that are read."""
    settings, found = house.settings, []
    if house.can_work:
        found.append(Chore("known ids", _ids(house)))
    if settings.cache_known_keys and settings.cache_table and settings.bucket:
        found.append(Chore("known keys", _keys(house)))
    return found


def _ids(house: House) -> Any:
    async def run() -> Mapping[str, Any]:
        from edgewise.cache.build import known_ids_of
        from edgewise.cache.dynamodb_known import ids_of

        name, bucket = house.settings.state_table, house.settings.bucket
        assert name is not None and bucket is not None
        table = Table(house.aws, name)
        return {"ids": await known_ids_of(house.clock, house.aws, bucket).rebuild(lambda: ids_of(table))}

    return run


def _keys(house: House) -> Any:
    async def run() -> Mapping[str, Any]:
        from edgewise.cache.dynamodb_known import keys_of

        known, table = known_keys(house.settings, house.clock, house.aws), house.settings.cache_table
        assert known is not None and table is not None
        return {"keys": await known.rebuild(keys_of(Table(house.aws, table)))}

    return run
