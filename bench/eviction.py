"""Hit ratio of each order of eviction on Zipf and scan traces, beside the clairvoyant optimum, with a referee.

    edgewise bench eviction [--requests 100000] [--seed 1] [--json FILE]

Every trace goes through the shipped `Shelf` under each policy, through Belady's rule (evict what is needed again
last, which needs the future), and through libcachesim where it has the same policy: the two must agree within 0.2
points. It has LRU-K without memory of keys that left, so that is what it referees (`lru-k bare`); the shipped one
remembers them. Its SIEVE and W-TinyLFU stand beside S3-FIFO to show what else there was to choose from.
"""

from __future__ import annotations

import argparse
import heapq
import json
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any, cast

import libcachesim
import numpy as np

from edgewise.cache.memory.lruk import LruK
from edgewise.cache.memory.policies import POLICIES, Policy, order_of
from edgewise.cache.memory.shelf import Shelf
from edgewise.clock import FakeClock

AGREE_POINTS = 0.2
REFEREE: dict[str, Any] = {
    "lru": libcachesim.LRU,
    "lfu": libcachesim.LFU,
    "fifo": libcachesim.FIFO,
    "lru-k bare": libcachesim.LRUK,
    "s3-fifo": libcachesim.S3FIFO,
    "optimum": libcachesim.Belady,
    "SIEVE": libcachesim.Sieve,
    "W-TinyLFU": libcachesim.WTinyLFU,
}
BARE = "lru-k bare"
Trace = Sequence[int]


def zipf(rng: np.random.Generator, objects: int, requests: int, skew: float) -> list[int]:
    """Independent requests; the k-th most popular object has weight k^-skew."""
    weights = np.arange(1, objects + 1, dtype=np.float64) ** -skew
    edges = np.cumsum(weights / weights.sum())
    return [int(n) for n in np.searchsorted(edges, rng.random(requests))]


def with_scans(rng: np.random.Generator, base: list[int], every: int, length: int) -> list[int]:
    """`base`, interrupted by runs of objects that are asked for once each: a batch job, a crawler."""
    found: list[int] = []
    fresh = 10_000_000
    for start in range(0, len(base), every):
        found.extend(base[start : start + every])
        found.extend(range(fresh, fresh + length))
        fresh += length
    return found[: len(base)]


def drifting(rng: np.random.Generator, objects: int, requests: int, skew: float, phases: int) -> list[int]:
    """Zipf whose popular objects change a few times: what was loved is forgotten."""
    found: list[int] = []
    for phase in range(phases):
        order = rng.permutation(objects)
        found.extend(int(order[n]) for n in zipf(rng, objects, requests // phases, skew))
        del phase
    return found


def traces(requests: int, seed: int) -> dict[str, list[int]]:
    """Traces by name. Objects are a tenth as many as requests."""
    rng = np.random.default_rng(seed)
    objects = requests // 10
    found = {f"zipf {skew}": zipf(rng, objects, requests, skew) for skew in (0.7, 0.9, 1.1)}
    found["scans"] = with_scans(rng, zipf(rng, objects, requests, 0.9), requests // 20, requests // 40)
    found["drift"] = drifting(rng, objects, requests, 0.9, 5)
    return found


def ours(policy: str, trace: Trace, entries: int) -> tuple[float, float]:
    """Hit ratio, and microseconds of CPU for each request."""
    order = LruK[int](2, remembered=0) if policy == BARE else order_of(cast("Policy", policy), entries)
    cache: Shelf[int, bool] = Shelf(order, FakeClock(), max_entries=entries, max_bytes=1 << 40)
    began = time.process_time()
    for key in trace:
        if cache.get(key) is None:
            cache.put(key, True)
    spent = time.process_time() - began
    return cache.stats().hit_rate, spent / len(trace) * 1e6


def next_uses(trace: Trace) -> list[float]:
    """For each request, the index of the next one for the same object."""
    upcoming: dict[int, int] = {}
    found = [inf] * len(trace)
    for index in range(len(trace) - 1, -1, -1):
        found[index] = upcoming.get(trace[index], inf)
        upcoming[trace[index]] = index
    return found


def optimum(trace: Trace, uses: list[float], entries: int) -> float:
    """Belady's rule: nothing that knows less can hit more often when all objects weigh the same."""
    due: dict[int, float] = {}
    heap: list[tuple[float, int]] = []
    hits = 0
    for key, use in zip(trace, uses, strict=True):
        if key in due:
            hits += 1
        elif len(due) >= entries:
            while True:
                at, oldest = heapq.heappop(heap)
                if due.get(oldest) == -at:
                    del due[oldest]
                    break
        due[key] = use
        heapq.heappush(heap, (-use, key))
    return hits / len(trace)


def referee(name: str, trace: Trace, uses: list[float], entries: int) -> float:
    """The same trace through libcachesim."""
    cache = REFEREE[name](cache_size=entries, hashpower=18)
    request = libcachesim.Request()
    request.obj_size = 1
    hits = 0
    for index, (key, use) in enumerate(zip(trace, uses, strict=True)):
        request.obj_id = key
        request.clock_time = index
        request.next_access_vtime = int(use) if use != inf else (1 << 62)
        hits += cache.get(request)
    return hits / len(trace)


def measure(requests: int, seed: int) -> dict[str, Any]:
    """Everything, as one object: ratios in percent."""
    found: dict[str, Any] = {}
    for name, trace in traces(requests, seed).items():
        uses = next_uses(trace)
        for share in (0.01, 0.1):
            entries = max(10, int(share * requests / 10))
            row: dict[str, Any] = {"optimum": 100 * optimum(trace, uses, entries)}
            cost: dict[str, float] = {}
            for policy in POLICIES:
                ratio, cost[policy] = ours(policy, trace, entries)
                row[policy] = 100 * ratio
            row[BARE] = 100 * ours(BARE, trace, entries)[0]
            told = {other: 100 * referee(other, trace, uses, entries) for other in REFEREE}
            found[f"{name}, {share:.0%}"] = {"ours": row, "referee": told, "us_per_request": cost}
    return found


def report(found: dict[str, Any]) -> bool:
    """Print the tables; whether both agree wherever both have the policy."""
    columns = [*POLICIES, BARE, "optimum", "SIEVE", "W-TinyLFU"]
    print("hit ratio, %".ljust(16) + "".join(f"{c:>11}" for c in columns))
    worst = 0.0
    for name, row in found.items():
        mine, told = row["ours"], row["referee"]
        print(name.ljust(16) + "".join(f"{mine.get(c, told.get(c, 0)):>11.2f}" for c in columns))
        worst = max(worst, *(abs(mine[c] - told[c]) for c in mine if c in told))
    print("\nours minus libcachesim, points")
    for name, row in found.items():
        mine, told = row["ours"], row["referee"]
        print(
            name.ljust(16)
            + "".join(f"{mine[c] - told[c]:>11.3f}" if c in told and c in mine else " " * 11 for c in columns)
        )
    costs = {p: sum(row["us_per_request"][p] for row in found.values()) / len(found) for p in POLICIES}
    print("\nCPU, us/request " + "".join(f"{costs[p]:>11.2f}" for p in POLICIES))
    for policy in POLICIES:
        behind = [row["ours"]["optimum"] - row["ours"][policy] for row in found.values()]
        best = sum(row["ours"][policy] >= max(row["ours"][p] for p in POLICIES) for row in found.values())
        print(
            f"{policy:<10} {sum(behind) / len(behind):6.2f} points behind the optimum on average, "
            f"{max(behind):6.2f} at worst; best in {best} of {len(found)}"
        )
    print(f"largest difference from the referee: {worst:.3f} points (allowed {AGREE_POINTS})")
    return worst <= AGREE_POINTS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.requests, options.seed)
    agree = report(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    raise SystemExit(not agree)


if __name__ == "__main__":
    main()
