"""The policies by name, for settings and for the benchmark."""

from __future__ import annotations

from typing import Any, Literal

from edgewise.cache.memory.shelf import Order, Shelf
from edgewise.clock import Clock

Policy = Literal["lru", "lfu", "fifo", "lru-k", "ttl", "s3-fifo"]
POLICIES: tuple[Policy, ...] = ("lru", "lfu", "fifo", "lru-k", "ttl", "s3-fifo")


def order_of(policy: Policy, max_entries: int) -> Order[Any]:
    """A fresh order of eviction. Only its own module is imported: a process has one."""
    match policy:
        case "lru":
            from edgewise.cache.memory.lru import Lru

            return Lru()
        case "lfu":
            from edgewise.cache.memory.lfu import Lfu

            return Lfu()
        case "fifo":
            from edgewise.cache.memory.fifo import Fifo

            return Fifo()
        case "lru-k":
            from edgewise.cache.memory.lruk import LruK

            return LruK(2, max_entries)
        case "ttl":
            from edgewise.cache.memory.ttl import Ttl

            return Ttl()
        case "s3-fifo":
            from edgewise.cache.memory.s3fifo import S3Fifo

            return S3Fifo(entries=max_entries)


def shelf(policy: Policy, clock: Clock, *, max_entries: int, max_bytes: int) -> Shelf[Any, Any]:
    """An empty shelf under the policy of that name."""
    return Shelf(order_of(policy, max_entries), clock, max_entries=max_entries, max_bytes=max_bytes)
