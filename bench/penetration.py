"""Is a filter of known cache keys worth having? Reads saved against hits lost; and what a lookup in the filter costs.

    edgewise bench penetration [--requests 200000] [--seed 1] [--json FILE]

A stream of questions goes to four processes with a memory of 1,000 entries each over one store. The filter is rebuilt
every hour of traffic and read again by each process ten minutes later at the latest, as shipped. A question whose key
was stored since then, by another process, is taken for absent. With leases most of those hits come back: the lease
tells that the answer is kept, at the price of a write and a strong read. Prices: DynamoDB on demand, us-east-1.

Beside that, invented API keys by how they were invented: how many of them the table is asked about.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.eviction import zipf
from edgewise.cache.bloom import Bloom
from edgewise.cache.memory.policies import shelf
from edgewise.clock import FakeClock
from edgewise.policy.token import PREFIX, digest, is_well_formed, mint

READ_USD, STRONG_READ_USD, WRITE_USD = 0.0625e-6, 0.125e-6, 0.625e-6
CALL_USD = 220e-6
"""The cheapest call worth caching: 1,000 tokens in and 300 out of a small model."""
PROCESSES = 4


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def streams(requests: int, seed: int) -> dict[str, list[int]]:
    """Questions by name of the traffic; numbers from 10 million on are asked once."""
    rng = np.random.default_rng(seed)
    faq = zipf(rng, requests // 10, requests, 0.9)
    found = {"frequent questions": faq}
    for share in (0.5, 0.9):
        once = rng.random(requests) < share
        found[f"{share:.0%} asked once"] = [10_000_000 + i if once[i] else faq[i] for i in range(requests)]
    return found


def replay(stream: list[int], per_hour: int, seed: int) -> dict[str, float]:
    """Counts per request."""
    rng = np.random.default_rng(seed)
    where = rng.integers(0, PROCESSES, len(stream))
    near = [shelf("s3-fifo", FakeClock(), max_entries=1_000, max_bytes=1 << 30) for _ in range(PROCESSES)]
    since: list[set[int]] = [set() for _ in range(PROCESSES)]
    stored: set[int] = set()
    built: Bloom | None = None
    waiting: tuple[int, Bloom] | None = None
    reads = saved = lost = hits = 0
    for index, question in enumerate(stream):
        if index and index % per_hour == 0:
            waiting = (index + per_hour // 6, Bloom.of(map(key_of, stored), float(index)))
        if waiting is not None and index >= waiting[0]:
            # Built ten minutes ago: what was stored meanwhile is missing from it.
            built, waiting = waiting[1], None
            since = [set() for _ in range(PROCESSES)]
        me = int(where[index])
        if near[me].get(question):
            hits += 1
            continue
        if built is not None and question not in since[me] and key_of(question) not in built:
            saved += 1
            lost += question in stored
        else:
            reads += 1
            hits += question in stored
        stored.add(question)
        since[me].add(question)
        near[me].put(question, True)
    total = len(stream)
    return {"hits": hits / total, "reads": reads / total, "saved": saved / total, "lost": lost / total}


def cost_us(work: Callable[[str], Any], keys: list[str]) -> float:
    began = time.process_time()
    for key in keys:
        work(key)
    return (time.process_time() - began) / len(keys) * 1e6


def speed(members: int = 200_000) -> dict[str, float]:
    """Microseconds for each lookup of a stranger, and for each member when the filter is built."""
    keys = [key_of(n) for n in range(members)]
    strangers = [key_of(-1 - n) for n in range(members)]
    began = time.process_time()
    ours = Bloom.of(keys, 0.0)
    found = {"build, ours": (time.process_time() - began) / members * 1e6}
    found["lookup, ours"] = cost_us(ours.__contains__, strangers)
    found["wrong yes, ours"] = sum(key in ours for key in strangers) / members
    try:
        import rbloom
    except ImportError:
        return found
    # A stable hash must be given: Python's own differs from process to process.
    theirs = rbloom.Bloom(members, 0.01, lambda key: int(key[:32], 16) - 2**127)
    found["build, rbloom"] = cost_us(theirs.add, keys)
    found["lookup, rbloom"] = cost_us(theirs.__contains__, strangers)
    found["wrong yes, rbloom"] = sum(key in theirs for key in strangers) / members
    return found


def invented(count: int, seed: int) -> dict[str, list[str]]:
    """Keys that nobody was given: typed wrong, made of chance, and made with this project's own checksum."""
    rng = random.Random(seed)
    real = mint(rng.randbytes)
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    typos = []
    for _ in range(count):
        at = rng.randrange(len(PREFIX), len(real))
        typos.append(real[:at] + rng.choice([letter for letter in letters if letter != real[at]]) + real[at + 1 :])
    chance = [PREFIX + "".join(rng.choices(letters, k=len(real) - len(PREFIX))) for _ in range(count)]
    checked = [mint(rng.randbytes) for _ in range(count)]
    return {"one letter wrong": typos, "by chance": chance, "with a checksum": checked}


def asked_of_keys(count: int, seed: int) -> dict[str, float]:
    """The share of invented keys that cost a read, and what refusing one without it costs, in microseconds."""
    found = {}
    for name, tokens in invented(count, seed).items():
        found[f"keys {name}: reads"] = sum(map(is_well_formed, tokens)) / count
        found[f"keys {name}: check"] = cost_us(is_well_formed, tokens)
    given = invented(1_000, seed + 1)["with a checksum"]
    bloom = Bloom.of((digest(token, b"pepper") for token in given), 0.0)
    found["keys: hash and filter"] = cost_us(lambda token: digest(token, b"pepper") in bloom, tokens)
    return found


def report(found: dict[str, Any]) -> None:
    print(
        "traffic".ljust(22)
        + "".join(f"{c:>14}" for c in ("hits %", "reads %", "saved %", "lost %", "bare $/M", "leases $/M"))
    )
    for name, row in found["streams"].items():
        bare = row["saved"] * READ_USD - row["lost"] * CALL_USD
        leased = row["saved"] * READ_USD - row["lost"] * (WRITE_USD + STRONG_READ_USD)
        figures = [100 * row[c] for c in ("hits", "reads", "saved", "lost")]
        print(name.ljust(22) + "".join(f"{f:>14.2f}" for f in figures) + f"{bare * 1e6:>14.4f}{leased * 1e6:>14.4f}")
    print("($/M: dollars gained by the filter per million requests; negative is a loss)\n")
    for name, figure in found["speed"].items():
        print(f"{name:<38}{figure:>10.4f}{'' if name.startswith('wrong') or name.endswith('reads') else ' us'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--per-hour", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {
        "streams": {
            name: replay(stream, options.per_hour, options.seed)
            for name, stream in streams(options.requests, options.seed).items()
        },
        "speed": {**speed(), **asked_of_keys(options.requests, options.seed)},
    }
    report(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
