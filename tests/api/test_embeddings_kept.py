"""Embeddings that were made before: each text of a list is an entry of its own, and only the others are paid for."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from edgewise.api.app import app
from edgewise.cache.build import near_of, room_of
from edgewise.cache.local import LocalStore
from edgewise.cache.options import CacheOptions
from edgewise.clock import Deadline, FakeClock
from edgewise.price import Price
from edgewise.settings import Settings
from edgewise.words import CachePolicy, Model
from tests.api.client import Client
from tests.fakes import KEY, FakePolicy, FakeRecord, rooms

MODEL = Model("fake", "embed-1", price=Price(Decimal(1), Decimal(0)))


class Counted:
    """An embedder that tells what it was asked, and whose tokens are bytes."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def __call__(self, body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
        self.asked.append(body["input"])
        given = (
            body["input"]
            if isinstance(body["input"], list) and not isinstance(body["input"][0], int)
            else [body["input"]]
        )
        vectors: list[Any] = [[float(len(one)), 0.5] for one in given]
        if body.get("encoding_format") == "base64":
            vectors = [base64.b64encode(struct.pack("<2f", *vector)).decode() for vector in vectors]
        tokens = sum(len(one) for one in given)
        return {
            "data": [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


class Shop:
    """A gateway with a real cache room in memory, and what its rooms saw."""

    def __init__(self, clock: FakeClock, **policy: Any) -> None:
        self.clock = clock
        self.embed: Any = Counted()
        self.policy = FakePolicy(keys={KEY: "acme", "ew_bolt": "bolt"}, **policy)
        self.record = FakeRecord()
        cache = room_of(clock, CacheOptions(), near_of(clock, "lru", 100, 10**6), LocalStore(clock))
        house = rooms(clock=clock, cache=cache, policy=self.policy, record=self.record)
        find = lambda name: (MODEL, self.embed)  # noqa: E731
        self.client = Client(app(house, Settings(), embedders=find))

    async def ask(self, given: Any, key: str = KEY, headers: dict[str, str] | None = None, **rest: Any) -> Any:
        self.client.key = key
        body = {"model": "embed-1", "input": given, **rest}
        return await self.client.ask("POST", "/v1/embeddings", body, headers=headers)


def told(got: Any, *names: str) -> tuple[str | None, ...]:
    return tuple(got.headers.get(f"x-edgewise-{name}") for name in names)


async def test_only_what_was_never_embedded_is_asked_for_and_charged(clock: FakeClock) -> None:
    shop = Shop(clock)
    first = await shop.ask(["one", "three"])
    assert told(first, "cache", "cache-reason", "cost-usd") == ("miss", "absent", "0.000008")
    some = await shop.ask(["three", "seven", "one"])
    assert shop.embed.asked == [["one", "three"], ["seven"]]
    assert [row["embedding"][0] for row in some.json["data"]] == [5.0, 5.0, 3.0]
    assert some.json["usage"] == {"prompt_tokens": 13, "total_tokens": 13}
    assert told(some, "cache", "cache-reason", "cost-usd", "saved-usd") == (
        "miss", "2 of 3 cached", "0.000005", "0.000008",
    )  # fmt: skip
    every = await shop.ask(["one", "seven"])
    assert told(every, "cache", "cost-usd", "saved-usd") == ("hit", "0", "0.000008")
    assert len(shop.embed.asked) == 2 and len(shop.policy.holds) == len(shop.policy.settled) == 2
    assert shop.policy.holds[1].worst_usd == Decimal(5) / 1_000_000
    assert [(n.cache, n.cost_usd, n.saved_usd) for n in shop.record.notes] == [
        ("miss", Decimal("0.000008"), None),
        ("miss", Decimal("0.000005"), Decimal("0.000008")),
        ("hit", Decimal(0), Decimal("0.000008")),
    ]
    assert shop.record.notes[2].model == "fake/embed-1" and shop.policy.closed == 3


async def test_a_single_text_and_one_in_a_list_are_one_entry(clock: FakeClock) -> None:
    shop = Shop(clock)
    await shop.ask("alone")
    assert shop.embed.asked == ["alone"]
    again = await shop.ask(["alone", "alone"])
    assert len(again.json["data"]) == 2 and told(again, "cache") == ("hit",)
    await shop.ask(["twice", "twice"])
    assert shop.embed.asked[1:] == [["twice"]]


async def test_tokens_are_inputs_of_their_own(clock: FakeClock) -> None:
    shop = Shop(clock)
    await shop.ask([1, 2, 3])
    await shop.ask([[1, 2, 3], [4]])
    assert shop.embed.asked == [[1, 2, 3], [[4]]]


@pytest.mark.parametrize(
    "change",
    [
        {"dimensions": 2},
        {"input": "One"},
        {"key": "ew_bolt"},
        {"cache": {"namespace": "n"}},
    ],
)
async def test_whatever_may_change_the_vector_or_whose_it_is_makes_another_entry(
    change: dict[str, Any], clock: FakeClock
) -> None:
    shop = Shop(clock)
    await shop.ask("one")
    await shop.ask(**{"given": change.pop("input", "one"), **change})
    assert len(shop.embed.asked) == 2
    await shop.ask("one", user="somebody")
    assert len(shop.embed.asked) == 2


@pytest.mark.parametrize("first", ["base64", "float", None])
async def test_both_encodings_are_of_one_entry_and_come_back_as_they_went_out(
    first: str | None, clock: FakeClock
) -> None:
    """SDKs ask for base64, plain requests for numbers; it is the same vector."""
    shop, other = Shop(clock), Shop(clock)
    await shop.ask("one", encoding_format=first)
    for encoding in ("base64", "float", None):
        kept, fresh = await shop.ask("one", encoding_format=encoding), await other.ask("one", encoding_format=encoding)
        assert told(kept, "cache") == ("hit",) and kept.json["data"] == fresh.json["data"]
    assert len(shop.embed.asked) == 1


@pytest.mark.parametrize(
    ("asked", "calls", "word"),
    [
        ({"cache": {"no-cache": True}}, 2, "bypass"),
        ({"headers": {"cache-control": "no-cache"}}, 2, "bypass"),
        ({"headers": {"cache-control": "max-age=1"}}, 2, "miss"),
        ({"cache": {"use-cache": False}}, 2, "bypass"),
        ({}, 1, "hit"),
    ],
)
async def test_the_client_s_cache_control_holds(asked: Any, calls: int, word: str, clock: FakeClock) -> None:
    shop = Shop(clock)
    await shop.ask("one")
    clock.time += 5
    assert told(await shop.ask("one", **asked), "cache") == (word,)
    assert len(shop.embed.asked) == calls


async def test_only_if_cached_and_no_store(clock: FakeClock) -> None:
    shop = Shop(clock)
    got = await shop.ask(["one"], headers={"cache-control": "only-if-cached"})
    assert got.status == 504 and shop.embed.asked == [] and shop.policy.closed == 1
    await shop.ask("one", headers={"cache-control": "no-store"})
    assert told(await shop.ask("one"), "cache") == ("miss",)
    assert (await shop.ask("one", cache={"ttl": "soon"})).error["param"] == "cache.ttl"


async def test_an_entry_that_has_expired_is_asked_for_again(clock: FakeClock) -> None:
    shop = Shop(clock)
    await shop.ask("one", cache={"ttl": 10})
    clock.time += 10
    assert told(await shop.ask("one"), "cache", "cache-reason")[0] == "miss"
    assert len(shop.embed.asked) == 2


async def test_a_shared_namespace_waits_for_its_quorum_and_tells_nothing(clock: FakeClock) -> None:
    shop = Shop(clock, cache=CachePolicy(namespace="faq", shared=True))
    own = [await shop.ask("one") for _ in range(2)]
    other = await shop.ask("one", key="ew_bolt")
    assert len(shop.embed.asked) == 2
    assert {told(got, "cache", "cost-usd", "saved-usd", "cache-key") for got in (*own, other)} == {
        ("shared", None, None, None)
    }
    assert len({str(got.json["usage"]) for got in (*own, other)}) == 1


async def test_an_answer_of_the_wrong_length_is_no_answer(clock: FakeClock) -> None:
    shop = Shop(clock)

    async def short(body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
        return {"data": [], "usage": {"prompt_tokens": 1}}

    shop.embed = short
    assert (await shop.ask("one")).status == 502
    assert len(shop.policy.settled) == 1
