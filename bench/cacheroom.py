"""CPU of one lookup in the cache room: a hit in memory, a hit in DynamoDB, a miss that leads, and what each part takes.

    edgewise bench cacheroom [--tables moto|dynalite] [--calls 3000] [--json FILE]

The table is a server in another process, so only this process's CPU is counted; the baseline of each row is the bare
operation underneath it (a dictionary lookup, the table's own `get`). dynalite (npm) keeps connections open, as
DynamoDB does; moto closes each after one answer, and half of what a read costs then is connecting again.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from tests.cache.parts import ATTEMPT, answer_of, kept_of, key_of, plan_of, query_of

from bench.stampede import tables
from edgewise.aws import Aws, AwsOptions, Table
from edgewise.cache.build import near_of, room_of, store_of
from edgewise.cache.codec import pack, unpack
from edgewise.cache.near import Near
from edgewise.cache.options import CacheOptions
from edgewise.cache.room import CacheRoom
from edgewise.chat import Answer
from edgewise.clock import SystemClock
from edgewise.dynamo import Keys, Source
from edgewise.words import Hit, Miss

CLOCK = SystemClock()
ANSWER: Answer = answer_of("Paris is the capital of France. " * 50)
"""About 2 KB of JSON."""


async def cpu_us(work: Callable[[], Awaitable[Any]], calls: int, rounds: int = 7) -> float:
    """Median over rounds of the CPU microseconds of one call, all threads of this process."""
    await work()
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            await work()
        found.append((time.process_time() - began) / calls * 1e6)
    return median(found)


def near() -> Near:
    return near_of(CLOCK, "s3-fifo", 10_000, 64_000_000)


async def in_memory(calls: int) -> dict[str, float]:
    room = room_of(CLOCK, CacheOptions(), near(), store_of(CLOCK, None, None, 350_000))
    query, plan = query_of(), plan_of()
    asked = await room.look(query, plan)
    assert isinstance(asked, Miss)
    await room.offer(query, plan, asked.lead, ANSWER, ATTEMPT)
    other = query_of("other")

    async def miss_and_give_up() -> None:
        verdict = await room.look(other, plan)
        assert isinstance(verdict, Miss)
        await room.give_up(other, verdict.lead, None)

    plain = {("acme", query.key): ANSWER}

    async def bare() -> Answer:
        return plain["acme", query.key]

    kept = kept_of(query.key, CLOCK.now(), answer=ANSWER)
    packed = pack(kept)

    async def packing() -> None:
        pack(kept)

    async def unpacking() -> None:
        unpack(packed)

    return {
        "dictionary lookup (baseline)": await cpu_us(bare, calls),
        "hit in memory": await cpu_us(lambda: room.look(query, plan), calls),
        "miss, lead and give up, no table": await cpu_us(miss_and_give_up, calls),
        "pack 2 KB": await cpu_us(packing, calls),
        "unpack 2 KB": await cpu_us(unpacking, calls),
    }


async def of_vectors(calls: int) -> dict[str, float]:
    """A list of a hundred texts whose vectors are kept, and what one of them weighs in the table."""
    room = room_of(CLOCK, CacheOptions(), near(), store_of(CLOCK, None, None, 350_000))
    plan, queries = plan_of(), [query_of(f"text {n}") for n in range(100)]
    chance, found = random.Random(1), {}
    for dim in (384, 1536):
        vector = struct.pack(f"<{dim}f", *(chance.gauss(0, dim**-0.5) for _ in range(dim)))
        part = Answer({"embedding": base64.b64encode(vector).decode(), "tokens": 8, "model": "m"})
        found[f"packed vector of {dim}, bytes"] = len(pack(kept_of(queries[0].key, CLOCK.now(), answer=part)))
        await room.offer_each([(query, part, ATTEMPT) for query in queries], plan)
        found[f"100 vectors of {dim} in memory"] = await cpu_us(lambda: room.look_each(queries, plan), calls // 50)
    return found


async def in_table(calls: int, kind: str) -> dict[str, float]:
    found: dict[str, float] = {}
    async with tables(kind) as url:
        lean = Source(Keys("local", "local"))
        for name, source in (("lean client", lean), ("boto3", None)):
            aws = Aws(
                AwsOptions(
                    region="us-east-1",
                    endpoint_url=url,
                    access_key_id="local",
                    secret_access_key="local",
                    lean=source,
                    read_timeout_s=30,
                )
            )
            found |= {f"{row}, {name}": us for row, us in (await _with(Table(aws, "cache"), calls)).items()}
            aws.close()
    return found


async def _with(table: Table, calls: int) -> dict[str, float]:
    store = store_of(CLOCK, table, None, 350_000)
    options = CacheOptions(timeout_s=10)
    filled = room_of(CLOCK, options, near(), store, table=table)
    query, plan = query_of(), plan_of()
    asked = await filled.look(query, plan)
    lead = asked.lead if isinstance(asked, Miss) else None
    await filled.offer(query, plan, lead, ANSWER, ATTEMPT)
    room = Forgetful(filled)

    async def hit() -> None:
        verdict = await room.look(query, plan)
        assert isinstance(verdict, Hit)

    async def get() -> None:
        await table.get(f"c#acme#{query.key}", "entry")

    number = 0

    async def miss() -> None:
        nonlocal number
        number += 1
        other = query_of(key_of(f"{number} {CLOCK.now()}"))
        verdict = await filled.look(other, plan)
        assert isinstance(verdict, Miss)
        await filled.offer(other, plan, verdict.lead, ANSWER, ATTEMPT)

    return {
        "get of the item (baseline)": await cpu_us(get, calls),
        "hit in the table": await cpu_us(hit, calls),
        "miss: look, lease, put, tell": await cpu_us(miss, max(20, calls // 4)),
    }


class Forgetful:
    """A room whose memory is emptied before each look."""

    def __init__(self, room: CacheRoom) -> None:
        self._room = room

    async def look(self, *asked: Any) -> Any:
        self._room._near._shelf.clear()
        return await self._room.look(*asked)


async def measure(calls: int, kind: str) -> dict[str, float]:
    return {**await in_memory(calls), **await of_vectors(calls), **await in_table(max(20, calls // 20), kind)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", choices=["moto", "dynalite"], default="moto")
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = asyncio.run(measure(options.calls, options.tables))
    for row, us in found.items():
        print(f"{row:<48}{us:>10.1f}{'' if row.endswith('bytes') else ' us'}")
    if options.json:
        options.json.write_text(json.dumps({row: round(us, 1) for row, us in found.items()}, indent=1))


if __name__ == "__main__":
    main()
