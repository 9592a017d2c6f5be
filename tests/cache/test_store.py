"""What every store owes, and that memory and DynamoDB agree, whatever is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewise.aws import Aws, Table
from edgewise.cache import codec
from edgewise.cache.dynamodb import DynamoStore
from edgewise.cache.local import LocalStore
from edgewise.cache.port import Store, StoreError
from edgewise.cache.s3 import Bucket, Spill
from edgewise.chat import Answer
from edgewise.clock import FakeClock
from tests.cache.parts import answer_of, entry_of, kept_of, key_of

KEY = key_of("a")
MakeStore = Callable[[], Store]


@pytest.fixture(params=["local", "dynamodb"])
def store(request: pytest.FixtureRequest, clock: FakeClock) -> Store:
    if request.param == "local":
        return LocalStore(clock)
    table: Table = request.getfixturevalue("cache_table")
    bucket: str = request.getfixturevalue("bucket")
    return DynamoStore(table, clock, Spill(Bucket(table.aws, bucket)), spill_bytes=2_000)


class TestEveryStore:
    async def test_gives_back_what_was_put(self, store: Store, clock: FakeClock) -> None:
        """Every field survives, money to the last digit."""
        kept = kept_of(
            KEY,
            clock.now(),
            cost_usd=Decimal("0.000012345678901234567890"),
            tags=("one", "två"),
            text="Où est 巴黎?",
            principals=("acme",),
            latency_ms=12.5,
            namespace="docs",
        )
        assert await store.put("acme", kept) is True
        assert await store.get("acme", KEY) == replace(
            kept, entry=replace(kept.entry, answer=Answer(dict(kept.entry.answer.completion)))
        )

    async def test_never_returns_what_has_expired(self, store: Store, clock: FakeClock) -> None:
        """An expired item that the table still returns is not served, counted, listed or linked to."""
        await store.put("acme", kept_of(KEY, clock.now(), 10))
        await store.link("acme", key_of("text"), KEY, clock.now() + 10)
        await clock.advance(10)
        assert await store.get("acme", KEY) is None
        assert await store.linked("acme", key_of("text")) is None
        assert await store.size("acme") == 0
        assert [pair async for pair in store.walk()] == []
        assert await store.delete("acme", KEY) is False

    async def test_keeps_scopes_apart(self, store: Store, clock: FakeClock) -> None:
        """The same key in two scopes is two entries; clearing one leaves the other, even one whose name contains it."""
        for scope, text in (("acme", "one"), ("acme#", "two"), ("acme#x", "three")):
            await store.put(scope, kept_of(KEY, clock.now(), says=text))
        assert await store.clear("acme") == 1
        assert await store.get("acme", KEY) is None
        assert [await store.size(scope) for scope in ("acme", "acme#", "acme#x")] == [0, 1, 1]

    async def test_large_values_come_back(self, store: Store, clock: FakeClock) -> None:
        """What is too large for an item comes back the same, and a newer small value replaces it."""
        noise = key_of("x") + "".join(key_of(str(n)) for n in range(2_000))
        await store.put("acme", kept_of(KEY, clock.now(), answer=answer_of(noise)))
        found = await store.get("acme", KEY)
        assert found is not None
        assert found.entry.answer.text == noise
        await store.put("acme", kept_of(KEY, clock.now(), says="short"))
        found = await store.get("acme", KEY)
        assert found is not None
        assert found.entry.answer.text == "short"

    async def test_a_late_leader_does_not_overwrite(self, store: Store, clock: FakeClock) -> None:
        """A put of an older generation is dropped; an equal or newer one, and one without a lease, is taken."""
        assert await store.put("acme", kept_of(KEY, clock.now(), gen=7))
        assert not await store.put("acme", kept_of(KEY, clock.now(), gen=6))
        assert await store.put("acme", kept_of(KEY, clock.now(), gen=8))
        assert await store.put("acme", kept_of(KEY, clock.now(), gen=0))

    async def test_an_expired_generation_holds_nobody_up(self, store: Store, clock: FakeClock) -> None:
        """What has expired fences nothing off."""
        await store.put("acme", kept_of(KEY, clock.now(), 5, gen=7))
        await clock.advance(6)
        assert await store.put("acme", kept_of(KEY, clock.now(), gen=1))

    async def test_links_lead_to_the_entry(self, store: Store, clock: FakeClock) -> None:
        """A text key leads to the entry while both live, within its scope only."""
        await store.put("acme", kept_of(KEY, clock.now()))
        await store.link("acme", key_of("text"), KEY, clock.now() + 60)
        found = await store.linked("acme", key_of("text"))
        assert found is not None
        assert found.entry.key == KEY
        assert await store.linked("other", key_of("text")) is None
        await store.delete("acme", KEY)
        assert await store.linked("acme", key_of("text")) is None

    async def test_many_are_put_and_got_as_each_would_be(self, store: Store, clock: FakeClock) -> None:
        """More than a batch of the table's, one of them spilled, one expired; a fence holds nothing up."""
        keys = [key_of(str(n)) for n in range(120)]
        kept = [kept_of(key, clock.now(), 5 if n == 3 else 60, says=str(n)) for n, key in enumerate(keys)]
        noise = "".join(key_of(str(n)) for n in range(500))
        kept[7] = kept_of(keys[7], clock.now(), answer=answer_of(noise))
        await store.put("acme", kept_of(keys[0], clock.now(), gen=9, says="older"))
        await store.put_many("acme", kept)
        await store.put_many("other", kept[:2])
        await clock.advance(5)
        found = await store.get_many("acme", [*keys, key_of("nobody's")])
        assert set(found) == set(keys) - {keys[3]}
        assert found[keys[7]].entry.answer.text == noise and found[keys[0]].entry.answer.text == "0"
        assert found[keys[8]] == await store.get("acme", keys[8])
        assert set(await store.get_many("other", keys)) == set(keys[:2])
        assert await store.get_many("acme", []) == {}


async def test_a_value_without_a_bucket_is_refused(cache_table: Table, clock: FakeClock) -> None:
    """Too large for an item and no bucket: StoreError, which the room counts."""
    store = DynamoStore(cache_table, clock, None, spill_bytes=10)
    with pytest.raises(StoreError):
        await store.put("acme", kept_of(KEY, clock.now()))


async def test_a_spilled_value_that_is_gone_is_a_miss(cache_table: Table, bucket: str, clock: FakeClock) -> None:
    """The bucket's lifecycle may be ahead of the table's."""
    store = DynamoStore(cache_table, clock, Spill(Bucket(cache_table.aws, bucket)), spill_bytes=10)
    await store.put("acme", kept_of(KEY, clock.now()))
    s3 = cache_table.aws.client("s3")
    for found in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        assert found["Key"].startswith("spill/")
        s3.delete_object(Bucket=bucket, Key=found["Key"])
    assert await store.get("acme", KEY) is None


async def test_what_is_removed_leaves_nothing_in_the_bucket(cache_table: Table, bucket: str, clock: FakeClock) -> None:
    """Who purges an answer wants it gone, not some day."""
    store = DynamoStore(cache_table, clock, Spill(Bucket(cache_table.aws, bucket)), spill_bytes=10)
    await store.put("acme", kept_of(KEY, clock.now()))
    assert await store.delete("acme", KEY)
    left = cache_table.aws.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    assert [found["Key"] for found in left if KEY in found["Key"]] == []


async def test_an_unreachable_table_is_a_store_error(clock: FakeClock) -> None:
    """Every verb translates AWS's errors at the seam."""
    from edgewise.aws import AwsOptions

    options = AwsOptions(
        region="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        access_key_id="test",
        secret_access_key="test",
        max_attempts=1,
        connect_timeout_s=0.2,
    )
    aws = Aws(options)
    store = DynamoStore(Table(aws, "none"), clock)
    verbs: list[Coroutine[Any, Any, Any]] = [
        store.get("a", KEY),
        store.put("a", kept_of(KEY, clock.now())),
        store.delete("a", KEY),
        store.clear("a"),
        store.size("a"),
        store.link("a", KEY, KEY, 0),
        store.linked("a", KEY),
        store.get_many("a", [KEY]),
        store.put_many("a", [kept_of(KEY, clock.now())]),
    ]
    for verb in verbs:
        with pytest.raises(StoreError):
            await verb
    aws.close()


def test_what_is_not_an_entry_is_a_store_error(clock: FakeClock) -> None:
    """Bytes that are cut, foreign or of another format are trouble, never an answer."""
    packed = codec.pack(kept_of(KEY, clock.now()))
    assert codec.unpack(packed).entry.key == KEY
    import zstandard

    foreign = [b"", b"x", packed[:-5], zstandard.compress(b"{}"), zstandard.compress(b'{"format":99}')]
    for bad in foreign:
        with pytest.raises(StoreError):
            codec.unpack(bad)


_SCOPES = st.sampled_from(["acme", "acme#", "umbrella", "shared:public"])
_KEYS = st.sampled_from([key_of(str(n)) for n in range(3)])
_STEP = st.one_of(
    st.tuples(st.just("put"), _SCOPES, _KEYS, st.integers(1, 20), st.integers(0, 4)),
    st.tuples(st.just("get"), _SCOPES, _KEYS, st.booleans(), st.none()),
    st.tuples(st.just("put many"), _SCOPES, st.lists(_KEYS, unique=True), st.integers(1, 20), st.none()),
    st.tuples(st.just("get many"), _SCOPES, st.lists(_KEYS, unique=True), st.none(), st.none()),
    st.tuples(st.just("delete"), _SCOPES, _KEYS, st.none(), st.none()),
    st.tuples(st.just("link"), _SCOPES, _KEYS, st.integers(1, 20), _KEYS),
    st.tuples(st.just("linked"), _SCOPES, _KEYS, st.none(), st.none()),
    st.tuples(st.just("tick"), st.none(), st.none(), st.integers(1, 15), st.none()),
    st.tuples(st.just("size"), _SCOPES, st.none(), st.none(), st.none()),
    st.tuples(st.just("walk"), st.one_of(st.none(), _SCOPES), st.none(), st.none(), st.none()),
    st.tuples(st.just("clear"), _SCOPES, st.none(), st.none(), st.none()),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, min_size=4, max_size=16))
def test_memory_and_dynamodb_agree(steps: list[Any], cache_table: Table) -> None:
    """As state machines they cannot be told apart: puts, fences, expiry, links, clearing; and no scope sees
    another's entries. Times are whole seconds, as the table's TTL is."""
    asyncio.run(_agree(steps, cache_table))


async def _agree(steps: list[Any], table: Table) -> None:
    clock = FakeClock()
    far = DynamoStore(table, clock)
    near = LocalStore(clock)
    for scope in ("acme", "acme#", "umbrella", "shared:public"):
        await far.clear(scope)
    for verb, scope, key, number, other in steps:
        if verb == "tick":
            clock.time += number
            continue
        seen = [await _step(store, clock, verb, scope, key, number, other) for store in (near, far)]
        assert seen[0] == seen[1], (verb, scope, key, number, other)


async def _step(store: Store, clock: FakeClock, verb: str, scope: Any, key: Any, number: Any, other: Any) -> Any:
    match verb:
        case "put":
            return await store.put(scope, kept_of(key, clock.now(), number, gen=other, says=f"{scope} {number}"))
        case "get":
            found = await store.get(scope, key, strong=number)
            if found is not None:
                life_s = int(found.entry.expires_at - found.entry.created_at)
                assert found.entry.answer.text == f"{scope} {life_s}"
            return found
        case "put many":
            return await store.put_many(
                scope, [kept_of(each, clock.now(), number, says=f"{scope} {number}") for each in key]
            )
        case "get many":
            return await store.get_many(scope, key)
        case "delete":
            return await store.delete(scope, key)
        case "link":
            return await store.link(scope, key, other, clock.now() + number)
        case "linked":
            return await store.linked(scope, key)
        case "size":
            return await store.size(scope)
        case "clear":
            return await store.clear(scope)
        case _:
            return sorted([(of, kept.entry.key, kept.gen) async for of, kept in store.walk(scope)])


def test_entries_are_made_whole() -> None:
    """The builder used above makes an entry that expires when it says."""
    assert entry_of(KEY, 5, 10).expires_at == 15


async def test_the_store_in_this_process_is_bounded(clock: FakeClock) -> None:
    """A gateway without a table asked new questions for a year holds as much as on its first day."""
    store = LocalStore(clock, max_entries=10, max_bytes=1_000_000)
    for number in range(50):
        await store.put("acme", kept_of(key_of(str(number)), clock.now()))
        await store.link("acme", key_of(f"text {number}"), key_of(str(number)), clock.now() + 60)
    assert await store.size("acme") == 10
    assert await store.linked("acme", key_of("text 49")) is not None
    assert await store.linked("acme", key_of("text 1")) is None
