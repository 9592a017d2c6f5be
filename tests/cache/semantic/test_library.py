"""Processes that share a log and snapshots: what each must see, whatever the others do and however late it is written.

What is true of a key is what the last change by place says of it. A process must see that at once when the change is
its own, and within the staleness when anybody could have read it; and never what has expired.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgewise.aws import Table
from edgewise.background import Background
from edgewise.cache.s3 import Bucket
from edgewise.cache.semantic.dynamodb import DynamoLog
from edgewise.cache.semantic.index import Row
from edgewise.cache.semantic.library import SNAPSHOT_AFTER, Library
from edgewise.cache.semantic.log import (
    MOVED,
    Added,
    Change,
    LocalLog,
    LocalSnapshots,
    Log,
    Removed,
    Snapshots,
    Vouched,
    pack,
    place,
)
from edgewise.cache.semantic.s3 import S3Snapshots
from edgewise.cache.semantic.vectors import DynamoVectors
from edgewise.clock import FakeClock

DIM, STALENESS_S, LAG_S = 64, 3.0, 1.5
KEYS = ("a", "b", "c")
_DIRECTIONS = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, len(KEYS))))[0].T.astype(np.float32)
VECTORS = dict(zip(KEYS, _DIRECTIONS, strict=True))
_numbers = itertools.count()


@dataclass
class SkewedClock(FakeClock):
    """The common clock, as a machine shows it that is somewhat off."""

    common: FakeClock = field(default_factory=FakeClock)
    off_s: float = 0.0

    def now(self) -> float:
        return self.common.time + self.off_s

    def tick(self) -> float:
        return self.common.time

    def token(self, prefix: str) -> str:
        return f"{prefix}{next(_numbers):024d}"


@dataclass
class Made:
    """A change: which holding of which process made it, and from when on anybody can read it."""

    at: str
    partition: str
    change: Change
    holding: Any
    seen_at: float


@dataclass
class LateLog:
    """One process's way to a log that shows a change some time after it was made, and answers only after a while."""

    inner: Log
    clock: FakeClock
    made: list[Made]
    late: list[Made]
    lag_s: float = 0.0
    library: Library | None = None

    async def append(self, partition: str, at: str, change: Change) -> None:
        assert self.library is not None
        holding = self.library._held.get(partition)
        self.made.append(Made(at, partition, change, holding, self.clock.time + self.lag_s))
        self.late.append(self.made[-1])
        await asyncio.sleep(0)

    async def since(self, partition: str, cursor: str) -> list[tuple[str, Change]]:
        for made in [made for made in self.late if made.seen_at <= self.clock.time]:
            self.late.remove(made)
            await self.inner.append(made.partition, made.at, made.change)
        found = await self.inner.since(partition, cursor)
        await asyncio.sleep(0)
        return found


class Process:
    """A library, as long as the process lives."""

    def __init__(self, clock: SkewedClock, log: LateLog, snapshots: Snapshots) -> None:
        self.clock, self.log, self.snapshots = clock, log, snapshots
        self.restart()

    def restart(self) -> None:
        self.library = self.log.library = Library(
            self.clock, self.log, self.snapshots, staleness_s=STALENESS_S, max_rows=3, background=Background()
        )


class World:
    """Three processes whose clocks differ, and snapshots that are written late."""

    def __init__(self, log: Log, snapshots: Snapshots) -> None:
        self.clock, self.snapshots = FakeClock(), snapshots
        self.made: list[Made] = []
        late: list[Made] = []
        self.processes = [
            Process(SkewedClock(common=self.clock, off_s=off_s), LateLog(log, self.clock, self.made, late), snapshots)
            for off_s in (0.0, -1.0, 1.0)
        ]
        self.under_way: list[tuple[str, bytes]] = []

    async def step(self, verb: str, number: int, process: Process, partition: str, key: str) -> None:
        library = process.library
        process.log.lag_s = min(number / 4, LAG_S)
        match verb:
            case "add":
                row = Row(key, key, key, process.clock.now() + 1 + 2 * number)
                await library.change(partition, DIM, Added(row, VECTORS[key]))
            case "remove":
                await library.remove(key, partition)
            case "vouch":
                await library.change(partition, DIM, Vouched(key, "someone"))
            case "look":
                await library.nearest(partition, VECTORS[key], 1)
            case "wait":
                self.clock.time += number
            case "snapshot":
                await library.snapshot(partition, DIM)
            case "late snapshot" if (held := library._held.get(partition)) is not None:
                self.under_way.append((partition, pack(held.index, held.cursor)))
            case "arrives":
                for name, packed in self.under_way:
                    await self.snapshots.save(name, packed)
                self.under_way.clear()
            case "restart":
                process.restart()

    async def check(self, process: Process, partition: str) -> None:
        """Compare what the process sees with what it must see, where that is settled."""
        for key in KEYS:
            near = await process.library.nearest(partition, VECTORS[key], 1)
            seen = bool(near) and near[0].row.key == key
            assert not near or near[0].row.expires_at > process.clock.now()
            made = [each for each in self.made if _speaks_of(each, partition, key)]
            if not made:
                assert not seen
                continue
            last = max(made, key=lambda each: each.at)
            is_own = last.holding is process.library._held.get(partition)
            if is_own or last.seen_at + STALENESS_S < self.clock.time:
                until = last.change.row.expires_at if isinstance(last.change, Added) else 0.0
                assert seen == (until > process.clock.now()), (key, last.at)


def _speaks_of(made: Made, partition: str, key: str) -> bool:
    match made.change:
        case Added(row, _):
            return made.partition == partition and row.key == key
        case Removed(removed, _):
            return made.partition == partition and removed == key
        case _:
            return False


_VERBS = ("add", "add", "remove", "look", "look", "look", "wait", "wait", "wait", "vouch")
_RARE = ("snapshot", "late snapshot", "arrives", "restart")
_STEP = st.tuples(
    st.integers(0, 2),
    st.sampled_from("pppq"),
    st.lists(st.tuples(st.sampled_from(_VERBS * 3 + _RARE), st.integers(0, 6), st.sampled_from(KEYS)), max_size=3),
)
REMOVED_STAYS_SO = [
    (0, "p", [("look", 0, "a")]),
    (0, "p", [("wait", 2, "a"), ("add", 0, "a"), ("add", 6, "a")]),
    (0, "p", [("wait", 1, "a"), ("remove", 6, "a")]),
    (0, "p", [("wait", 1, "a")]),
]
"""The log shows that it was added, and not yet that it was removed."""


async def _run(steps: list[Any], log: Log, snapshots: Snapshots) -> None:
    world, run = World(log, snapshots), next(_numbers)
    for number, partition, together in steps:
        process, name = world.processes[number], f"{partition}{run}"
        await asyncio.gather(*(world.step(verb, n, process, name, key) for verb, n, key in together))
        await world.check(process, name)
    world.clock.time += LAG_S + STALENESS_S + 1
    for process, partition in itertools.product(world.processes, "pq"):
        await world.check(process, f"{partition}{run}")


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(_STEP, min_size=3, max_size=25))
@example(steps=REMOVED_STAYS_SO)
def test_processes_see_what_they_must(steps: list[Any]) -> None:
    asyncio.run(_run(steps, LocalLog(), LocalSnapshots()))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, min_size=3, max_size=15))
@example(steps=REMOVED_STAYS_SO)
def test_processes_over_table_and_bucket_see_what_they_must(steps: list[Any], cache_table: Table, bucket: str) -> None:
    snapshots = S3Snapshots(Bucket(cache_table.aws, bucket))
    asyncio.run(_run(steps, DynamoLog(cache_table, FakeClock()), snapshots))


def _added(key: str, until: float) -> Added:
    return Added(Row(key, key, key, until), VECTORS[key])


async def test_a_removal_is_remembered_as_long_as_what_it_removes(clock: FakeClock, cache_table: Table) -> None:
    """Otherwise a process that begins later would find the entry in the log, and not that it was removed."""
    library, until = Library(clock, DynamoLog(cache_table, clock), LocalSnapshots()), clock.now() + 30 * 86_400
    await library.nearest("p", VECTORS["a"], 1)
    await library.change("p", DIM, _added("a", until))
    await library.remove("a", "p")
    items = [item async for item in cache_table.query("v#p")]
    assert [item["op"] for item in items] == ["add", "drop"] and items[1]["expires_at"] >= items[0]["expires_at"]


async def test_a_partition_that_nobody_asks_for_is_not_opened_to_be_added_to(clock: FakeClock) -> None:
    library = Library(clock, LocalLog(), LocalSnapshots())
    await library.change("p", DIM, _added("a", clock.now() + 9))
    assert library.rows() == 0
    assert [near.row.id for near in await library.nearest("p", VECTORS["a"], 1)] == ["a"]


async def test_what_is_added_without_being_asked_for_has_bounds_too(clock: FakeClock) -> None:
    """As by a client that wants every answer anew, each of another question."""
    library = Library(clock, LocalLog(), LocalSnapshots(), most_rows=1_000)
    await library.nearest("p", VECTORS["a"], 1)
    for number in range(3_000):
        clock.time += 1
        await library.change("p", DIM, Added(Row(str(number), str(number), "?", clock.now() + 86_400), VECTORS["a"]))
    assert len(library._held["p"].own) <= SNAPSHOT_AFTER + 1
    assert library.rows() <= 1_000 + SNAPSHOT_AFTER + 1


async def test_a_local_log_forgets_the_oldest_of_what_was_changed_longest_ago() -> None:
    log = LocalLog(most=3)
    for number, partition in enumerate("ppqp"):
        await log.append(partition, place(number, 0, ""), Removed(str(number)))
    await log.append("p", place(4, 0, ""), Removed("4"))
    assert [change for _, change in await log.since("p", "")] == [Removed("1"), Removed("3"), Removed("4")]
    assert await log.since("q", "") == []


async def test_the_mark_of_a_partition_in_use_is_written_anew(clock: FakeClock, cache_table: Table) -> None:
    """The bucket removes what was not written for long; a mark that went would hide the partition's rows."""
    snapshots, background, saved = LocalSnapshots(), Background(), []
    await snapshots.save("p", MOVED)

    class Noting(LocalSnapshots):
        load = snapshots.load

        async def save(self, partition: str, packed: bytes) -> None:
            saved.append((partition, packed))

    vectors = DynamoVectors(cache_table, clock)
    library = Library(clock, LocalLog(), Noting(), vectors=vectors, background=background)
    assert len(await library.open("p", DIM)) == 0
    await background.drain()
    assert saved == [("p", MOVED)]
