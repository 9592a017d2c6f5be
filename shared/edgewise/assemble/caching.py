"""The cache room on its adapters: memory, table, bucket, meaning and the filter of known keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise.assemble.meaning import LateMeaning
from edgewise.aws import Table

if TYPE_CHECKING:
    from edgewise.assemble.embedding import HouseEmbedder
    from edgewise.aws import Aws
    from edgewise.background import Background
    from edgewise.cache.known import KnownKeys
    from edgewise.cache.room import CacheRoom
    from edgewise.cache.semantic.shadow import Judge
    from edgewise.clock import Clock
    from edgewise.settings import Settings


def cache_of(
    settings: Settings,
    clock: Clock,
    aws: Aws,
    background: Background,
    *,
    judge: Judge | None = None,
    embedder: HouseEmbedder | None = None,
) -> CacheRoom:
    from edgewise.cache.build import near_of, room_of, store_of
    from edgewise.cache.options import CacheOptions

    bounds = {"max_entries": settings.cache_memory_entries, "max_bytes": settings.cache_memory_bytes}
    near = near_of(clock, settings.cache_policy, **bounds)
    table = Table(aws, settings.cache_table) if settings.cache_table else None
    store = store_of(clock, table, settings.bucket, settings.cache_spill_bytes, **bounds)
    meaning = LateMeaning(settings, clock, aws, store, background, judge, embedder)
    options = CacheOptions.of(settings)
    known = known_keys(settings, clock, aws)
    return room_of(clock, options, near, store, table=table, meaning=meaning, background=background, known=known)


def known_keys(settings: Settings, clock: Clock, aws: Aws) -> KnownKeys | None:
    """The filter of cached keys, where the operator wants it."""
    if not settings.cache_known_keys or not settings.bucket:
        return None
    from edgewise.cache.build import known_keys_of

    return known_keys_of(clock, aws, settings.bucket)
