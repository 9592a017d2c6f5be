"""Bloom filters: never a wrong no, a wrong yes as rarely as asked, and staleness that costs only what it may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.aws import Aws, Table
from edgewise.cache.bloom import Bloom
from edgewise.cache.build import near_of
from edgewise.cache.dynamodb import DynamoStore
from edgewise.cache.dynamodb_known import ScreenedTable, ids_of, keys_of
from edgewise.cache.known import Blobs, Filters, KnownIds, KnownKeys
from edgewise.cache.local import LocalStore
from edgewise.cache.options import CacheOptions
from edgewise.cache.port import Kept, StoreError
from edgewise.cache.room import CacheRoom
from edgewise.cache.s3 import Bucket
from edgewise.clock import STAMP_EPOCH, FakeClock, SystemClock, minted_at
from edgewise.words import Hit, Miss
from tests.cache.parts import kept_of, key_of, plan_of, query_of

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Memory:
    """Blobs in a dictionary; `broken` makes every verb fail."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.reads = 0
        self.broken = False

    async def get(self, name: str) -> bytes | None:
        self.reads += 1
        if self.broken:
            raise StoreError("broken")
        return self.blobs.get(name)

    async def put(self, name: str, content: bytes) -> None:
        self.blobs[name] = content


@settings(deadline=None)
@given(members=st.lists(st.text(max_size=20), max_size=60), strangers=st.lists(st.text(max_size=20), max_size=20))
def test_never_a_wrong_no(members: list[str], strangers: list[str]) -> None:
    """Every member is found, also after the filter went through the bucket."""
    bloom = Bloom.of(members, 5.0)
    for found in (bloom, Bloom.loads(bloom.dumps())):
        assert all(member in found for member in members)
        assert (found.built_at, found.count) == (5.0, len(members))
        for stranger in strangers:
            assert (stranger in found) == (stranger in bloom)


def test_a_wrong_yes_as_rarely_as_asked() -> None:
    """One in a hundred, within chance, for keys and for other identifiers."""
    for kind in (key_of, lambda text: f"batch_{text}"):
        bloom = Bloom.of([kind(str(n)) for n in range(2_000)], 0.0, wrong=0.01)
        wrong = sum(kind(f"x{n}") in bloom for n in range(5_000))
        assert wrong < 100
        assert bloom.size < 2_000 * 10


@pytest.mark.parametrize("bad", [b"", b"EWbf", b"x" * 60, Bloom.of(["a"], 0.0).dumps()[:-1]])
def test_what_is_not_a_filter_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match="filter"):
        Bloom.loads(bad)


def id_at(second: float, rest: str = "x" * 18) -> str:
    """An identifier as `SystemClock.token` would have made it then."""
    number, letters = int(second) - STAMP_EPOCH, ""
    for _ in range(6):
        number, digit = divmod(number, 36)
        letters = LETTERS[digit] + letters
    return f"batch_{letters}{rest}"


def test_identifiers_carry_their_second() -> None:
    """A real one says when it was minted; made-up ones mostly say nothing."""
    clock = SystemClock()
    before = int(clock.now())
    tokens = {clock.token("batch_") for _ in range(100)}
    assert len(tokens) == 100
    assert all(before <= (minted_at(token) or 0) <= clock.now() for token in tokens)
    assert minted_at(id_at(1_800_000_000)) == 1_800_000_000
    assert [minted_at(bad) for bad in ("", "batch_1", "batch_" + "A" * 24, "batch_" + "é" * 24)] == [None] * 4


async def each(ids: Iterable[str]) -> AsyncIterator[str]:
    for each_id in ids:
        yield each_id


class TestKnownIds:
    async def test_unknown_ones_are_ruled_out_without_a_read(self, clock: FakeClock) -> None:
        """What nobody minted, what is gone, what is from the future; never what is there or may be new."""
        known = KnownIds(clock, Filters(clock, Memory()))
        old, gone = id_at(clock.now() - 9_000, "a" * 18), id_at(clock.now() - 9_000, "b" * 18)
        await known.rebuild(lambda: each([old]))
        assert not await known.rules_out(old)
        assert await known.rules_out(gone)
        assert not await known.rules_out(id_at(clock.now() - 10, "new" * 6))
        assert not await known.rules_out(id_at(clock.now() + 60, "new" * 6))
        assert await known.rules_out(id_at(clock.now() + 9_999))

    async def test_derived_identifiers_are_always_looked_up(self, clock: FakeClock) -> None:
        """A batch's output and a batch out of the queue carry no time of their own."""
        known = KnownIds(clock, Filters(clock, Memory()))
        await known.rebuild(lambda: each([]))
        for derived in (id_at(clock.now() - 9_000) + "-output", "batch_" + "0" * 26, "x", ""):
            assert not await known.rules_out(derived)

    async def test_without_a_filter_what_may_be_there_is_looked_up(self, clock: FakeClock) -> None:
        """None was built yet, it cannot be read, or it is nonsense."""
        blobs = Memory()
        old = id_at(clock.now() - 9_000)
        assert not await KnownIds(clock, Filters(clock, blobs)).rules_out(old)
        blobs.blobs["filters/ids"] = b"nonsense"
        assert not await KnownIds(clock, Filters(clock, blobs)).rules_out(old)
        blobs.broken = True
        assert not await KnownIds(clock, Filters(clock, blobs)).rules_out(old)

    async def test_read_again_every_ten_minutes(self, clock: FakeClock) -> None:
        """And not at every request."""
        blobs = Memory()
        known = KnownIds(clock, Filters(clock, blobs))
        for _ in range(5):
            await known.rules_out(id_at(clock.now() - 9_000))
        assert blobs.reads == 1
        await clock.advance(601)
        await known.rules_out(id_at(clock.now() - 9_000))
        assert blobs.reads == 2

    async def test_rebuilt_four_times_a_day(self, clock: FakeClock) -> None:
        """However often upkeep runs: it reads the whole table."""
        known = KnownIds(clock, Filters(clock, Memory()))
        assert await known.rebuild(lambda: each(["a", "b"])) == 2
        await clock.advance(3_600)
        assert await known.rebuild(lambda: each(["a", "b"])) == 0
        await clock.advance(6 * 3_600)
        assert await known.rebuild(lambda: each(["a", "b"])) == 2


async def test_the_state_table_behind_a_filter(state_table: Table, clock: FakeClock) -> None:
    """Identifiers of every kind that is looked up are in the filter; what is ruled out is not read; the rest is."""
    known = KnownIds(clock, Filters(clock, Memory()))
    there, new, gone = (id_at(clock.now() - age, f"{age:018d}") for age in (9_000, 10, 9_001))
    for pk, sk in ((f"batch#{there}", "meta"), (f"file#{there}", "upload"), ("batch#active", there), ("key#x", "meta")):
        await state_table.put({"pk": pk, "sk": sk})
    assert {found async for found in ids_of(state_table)} == {there}
    await known.rebuild(lambda: ids_of(state_table))
    screened = ScreenedTable(state_table.aws, state_table.name, known)
    await state_table.put({"pk": f"resp#{new}", "sk": "meta"})
    await state_table.put({"pk": f"resp#{gone}", "sk": "meta"})
    assert await screened.get(f"batch#{there}", "meta") is not None
    assert await screened.get(f"resp#{new}", "meta") is not None
    # It was put behind the filter's back, which proves that it is not read.
    assert await screened.get(f"resp#{gone}", "meta") is None
    assert await screened.get("key#x", "meta") is not None


async def stored(*pairs: tuple[str, str]) -> AsyncIterator[tuple[str, str]]:
    for pair in pairs:
        yield pair


async def test_the_keys_in_the_table(cache_table: Table, clock: FakeClock) -> None:
    """Entries by scope and key, without leases and links."""
    store = DynamoStore(cache_table, clock)
    await store.put("acme#x", kept_of(key_of("a"), clock.now()))
    await store.link("acme#x", key_of("b"), key_of("a"), clock.now() + 9)
    assert [pair async for pair in keys_of(cache_table)] == [("acme#x", key_of("a"))]


class Counting(LocalStore):
    reads = 0

    async def get(self, scope: str, key: str, *, strong: bool = False) -> Kept | None:
        self.reads += 1
        return await super().get(scope, key, strong=strong)


async def test_known_keys_save_reads(clock: FakeClock) -> None:
    """A key that the filter does not know is a miss without a read; one that it knows is found; what this process
    stored since is known too."""
    store = Counting(clock)
    keys = KnownKeys(clock, Filters(clock, Memory()))
    await store.put("acme", kept_of(query_of("stored").key, clock.now()))
    assert await keys.rebuild(stored(("acme", query_of("stored").key))) == 1
    room = CacheRoom(clock, CacheOptions(), near_of(clock, "lru", 9, 99_999), store, known=keys)
    store.reads = 0
    asked = await room.look(query_of("never stored"), plan_of())
    assert isinstance(asked, Miss)
    assert store.reads == 0
    assert isinstance(await room.look(query_of("stored"), plan_of()), Hit)
    await keys.saw("acme", query_of("stored since").key)
    await room.look(query_of("stored since"), plan_of())
    assert store.reads == 2


async def test_blobs_in_the_bucket(moto_aws: Aws, bucket: str) -> None:
    """Bytes come back as they went; what is not there is None; no bucket is trouble."""
    blobs: Blobs = Bucket(moto_aws, bucket)
    await blobs.put("filters/x", b"\x00\xff")
    assert [await blobs.get("filters/x"), await blobs.get("filters/y")] == [b"\x00\xff", None]
    with pytest.raises(StoreError):
        await Bucket(moto_aws, "no-such-bucket").put("x", b"")
