"""How the cache room is put together from what there is: a table and a bucket, or this process alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise.aws import Aws, Table
from edgewise.background import Background
from edgewise.cache.dynamodb import DynamoStore
from edgewise.cache.dynamodb_meeting import DynamoLeases, DynamoRules
from edgewise.cache.memory.policies import Policy, shelf
from edgewise.cache.near import Near
from edgewise.cache.options import CacheOptions
from edgewise.cache.port import Meaning, Store
from edgewise.cache.room import CacheRoom
from edgewise.cache.s3 import Bucket, Spill
from edgewise.clock import Clock

if TYPE_CHECKING:
    from edgewise.cache.known import KnownIds, KnownKeys
    from edgewise.cache.popular import Popular


def near_of(clock: Clock, policy: Policy, max_entries: int, max_bytes: int) -> Near:
    """An empty memory tier."""
    return Near(shelf(policy, clock, max_entries=max_entries, max_bytes=max_bytes))


def store_of(
    clock: Clock,
    table: Table | None,
    bucket: str | None,
    spill_bytes: int,
    *,
    max_entries: int = 10_000,
    max_bytes: int = 64_000_000,
) -> Store:
    """The store that entries outlive this process in; without a table, one that they do not, of at most so much."""
    if table is None:
        from edgewise.cache.local import LocalStore

        return LocalStore(clock, max_entries=max_entries, max_bytes=max_bytes)
    return DynamoStore(table, clock, Spill(Bucket(table.aws, bucket)) if bucket else None, spill_bytes)


def room_of(
    clock: Clock,
    options: CacheOptions,
    near: Near,
    store: Store,
    *,
    table: Table | None = None,
    meaning: Meaning | None = None,
    background: Background | None = None,
    known: KnownKeys | None = None,
) -> CacheRoom:
    """The cache room. `table` is where processes meet: leases and purging rules. `known` saves reads of keys that are
    certainly not stored, at the price of some hits."""
    return CacheRoom(
        clock,
        options,
        near,
        store,
        leases=DynamoLeases(table) if table else None,
        rules=DynamoRules(table, clock) if table else None,
        meaning=meaning,
        background=background,
        known=known,
        popular=_popular(clock, table) if options.keep_requests else None,
    )


def known_keys_of(clock: Clock, aws: Aws, bucket: str) -> KnownKeys:
    """The filter of stored keys that upkeep shares through the bucket."""
    from edgewise.cache.known import Filters, KnownKeys

    return KnownKeys(clock, Filters(clock, Bucket(aws, bucket)))


def known_ids_of(clock: Clock, aws: Aws, bucket: str) -> KnownIds:
    """The filter of identifiers that upkeep shares through the bucket."""
    from edgewise.cache.known import Filters, KnownIds

    return KnownIds(clock, Filters(clock, Bucket(aws, bucket)))


def _popular(clock: Clock, table: Table | None) -> Popular:
    from edgewise.cache.dynamodb_tally import DynamoTally
    from edgewise.cache.popular import LocalTally, Popular

    return Popular(clock, DynamoTally(table, clock) if table else LocalTally())
