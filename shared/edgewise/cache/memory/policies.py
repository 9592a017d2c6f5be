"""The policies by name, for settings and for the benchmark."""

from __future__ import annotations

from typing import Any, Literal

from edgewise.cache.memory.fifo import Fifo
from edgewise.cache.memory.lfu import Lfu
from edgewise.cache.memory.lru import Lru
from edgewise.cache.memory.lruk import LruK
from edgewise.cache.memory.s3fifo import S3Fifo
from edgewise.cache.memory.shelf import Order, Shelf
from edgewise.cache.memory.ttl import Ttl
from edgewise.clock import Clock

Policy = Literal["lru", "lfu", "fifo", "lru-k", "ttl", "s3-fifo"]
POLICIES: tuple[Policy, ...] = ("lru", "lfu", "fifo", "lru-k", "ttl", "s3-fifo")


def order_of(policy: Policy, max_entries: int) -> Order[Any]:
    """A fresh order of eviction."""
    match policy:
        case "lru":
            return Lru()
        case "lfu":
            return Lfu()
        case "fifo":
            return Fifo()
        case "lru-k":
            return LruK(2, max_entries)
        case "ttl":
            return Ttl()
        case "s3-fifo":
            return S3Fifo(entries=max_entries)


def shelf(policy: Policy, clock: Clock, *, max_entries: int, max_bytes: int) -> Shelf[Any, Any]:
    """An empty shelf under the policy of that name."""
    return Shelf(order_of(policy, max_entries), clock, max_entries=max_entries, max_bytes=max_bytes)
