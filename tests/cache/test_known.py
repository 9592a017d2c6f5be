"""Bloom filters: never a wrong no, a wrong yes as rarely as asked, and staleness that costs only what it may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.aws import Aws
from edgewise.cache.bloom import Bloom
from edgewise.cache.build import near_of
from edgewise.cache.known import Blobs, Filters, KnownIds, KnownKeys, screened
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
        known = KnownIds(clock, Filters(clock, Memory()), "batches")
        old, gone = id_at(clock.now() - 9_000, "a" * 18), id_at(clock.now() - 9_000, "b" * 18)
        await known.rebuild(each([old]))
        assert not await known.rules_out(old)
        assert await known.rules_out(gone)
        assert not await known.rules_out(id_at(clock.now() - 10, "new" * 6))
        assert not await known.rules_out(id_at(clock.now() + 60, "new" * 6))
        assert await known.rules_out(id_at(clock.now() + 9_999))
        assert await known.rules_out("batch_' OR 1=1")

    async def test_a_lookup_behind_it(self, clock: FakeClock) -> None:
        """`screened` asks only for what may be there."""
        asked: list[str] = []

        async def get(id: str) -> str | None:
            asked.append(id)
            return id

        known = KnownIds(clock, Filters(clock, Memory()), "batches")
        await known.rebuild(each([]))
        find = screened(get, known)
        fresh = id_at(clock.now())
        assert [await find(fresh), await find(id_at(clock.now() - 9_000)), await find("nonsense")] == [
            fresh,
            None,
            None,
        ]
        assert asked == [fresh]

    async def test_without_a_filter_everything_well_formed_is_looked_up(self, clock: FakeClock) -> None:
        """None was built yet, it cannot be read, or it is nonsense."""
        blobs = Memory()
        old = id_at(clock.now() - 9_000)
        assert not await KnownIds(clock, Filters(clock, blobs), "batches").rules_out(old)
        blobs.blobs["filters/ids/batches"] = b"nonsense"
        assert not await KnownIds(clock, Filters(clock, blobs), "batches").rules_out(old)
        blobs.broken = True
        assert not await KnownIds(clock, Filters(clock, blobs), "batches").rules_out(old)

    async def test_read_again_every_ten_minutes(self, clock: FakeClock) -> None:
        """And not at every request."""
        blobs = Memory()
        known = KnownIds(clock, Filters(clock, blobs), "batches")
        for _ in range(5):
            await known.rules_out(id_at(clock.now() - 9_000))
        assert blobs.reads == 1
        await clock.advance(601)
        await known.rules_out(id_at(clock.now() - 9_000))
        assert blobs.reads == 2


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
    assert await keys.rebuild(store) == 1
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
