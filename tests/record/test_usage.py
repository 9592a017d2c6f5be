"""Usage and feedback over HTTP, over sums that any number of processes add to."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.aws import Table
from edgewise.clock import FakeClock
from edgewise.errors import Unavailable
from edgewise.jobs.batch import request_id
from edgewise.record.dynamodb import DynamoFeedback, DynamoRollups
from edgewise.record.emf import metrics_of
from edgewise.record.feedback import KEEP_S, SKEW_S, Feedback, FeedbackStore, Heard, MemoryFeedback, Opinion, may_exist
from edgewise.record.histogram import bucket, percentile
from edgewise.record.rollups import EVERYBODY, Cell, MemoryRollups, Rollups, RollupStore, Sums, total
from tests.policy.house import PolicyHouse
from tests.record.test_room import a_note


@given(st.lists(st.floats(1, 3_000_000), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_is_within_a_tenth(values: list[float], share: float) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket(value)] = counts.get(bucket(value), 0) + 1
    found = percentile(counts, share)
    true = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert found is not None and abs(found / true - 1) < 0.05


@pytest.fixture(params=["memory", "dynamodb"])
def store(request: pytest.FixtureRequest) -> RollupStore:
    if request.param == "memory":
        return MemoryRollups()
    table: Table = request.getfixturevalue("state_table")
    return DynamoRollups(table, FakeClock())


async def test_two_processes_add_to_one_sum(store: RollupStore) -> None:
    clock = FakeClock()
    both = [Rollups(store, clock, lambda work: work.close()) for _ in range(2)]
    for number in range(10):
        note = a_note(latency_ms=100.0 + number, first_ms=5.0)
        both[number % 2](note, metrics_of(note))
    await asyncio.gather(*(each.flush() for each in both))
    now = int(clock.now())
    for tenant in ("acme", EVERYBODY):
        for span in ("minute", "hour"):
            cells = await store.read(tenant, span, now - 3600, now + 1)
            told = total(cells).told(60)
            assert (told["requests"], told["tokens_in"], told["cost_usd"]) == (10, 100, "0.000045")
            assert abs(told["latency_ms"]["p50"] / 104 - 1) < 0.05
            # A tenth of a second each, ten of them in a minute; 150 tokens for 45 millionths of a dollar.
            assert (told["concurrency"], told["usd_per_1k_tokens"]) == (0.0174, "0.000300")
    assert await store.read("umbrella", "minute", 0, now + 1) == []


class Moody(MemoryRollups):
    """A store that takes nothing while it is `down`."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.asked = True, 0

    async def add(self, cell: Cell, sums: Sums, expires_at: int) -> None:
        self.asked += 1
        if self.down:
            raise Unavailable("throttled")
        await super().add(cell, sums, expires_at)


async def test_sums_that_the_store_does_not_take_wait_for_it() -> None:
    """They are not asked for one by one meanwhile: a request's end waits for this."""
    clock, moody, failures = FakeClock(), Moody(), list[Exception]()
    rollups = Rollups(moody, clock, lambda work: work.close(), failed=failures.append)
    for number in range(3):
        note = a_note(model=f"openai/{number}")
        rollups(note, metrics_of(note))
        await rollups.flush()
    assert (moody.asked, len(failures)) == (3, 3)
    moody.down = False
    await rollups.flush()
    await rollups.flush()
    cells = await moody.read("acme", "minute", 0, int(clock.now()) + 1)
    assert total(cells).told(60)["requests"] == 3


async def test_a_call_beside_a_request_that_cost_nothing_leaves_nothing_to_write(store: RollupStore) -> None:
    failures: list[Exception] = []
    rollups = Rollups(store, FakeClock(), lambda work: work.close(), failed=failures.append)
    note = a_note(route="judge", cost_usd=Decimal(0), usage=None, first_ms=None)
    rollups(note, metrics_of(note))
    await rollups.flush()
    assert not failures


async def test_a_key_sees_its_own_usage_and_an_administrator_everybodys() -> None:
    house = PolicyHouse()
    one, two = await house.key(tenant="acme"), await house.key(tenant="umbrella")
    for _ in range(3):
        await house.chat(one["key"])
    await house.chat(two["key"])
    own = (await house.client(one["key"]).ask("GET", "/v1/usage")).json
    assert own["total"]["requests"] == 3 and own["tenant"] == "acme"
    every = (await house.client().ask("GET", "/admin/stats")).json
    assert every["total"]["requests"] >= 4
    assert (await house.client(one["key"]).ask("GET", "/admin/stats")).status == 403
    tenant = (await house.client().ask("GET", "/admin/stats", query=b"tenant=umbrella&span=hour")).json
    assert tenant["total"]["requests"] == 1 and tenant["by_key"][0]["key_id"] == two["id"]


@pytest.mark.parametrize("query", [b"span=day", b"since=x", b"since=0", b"until=99999999999999", b"since=-1"])
async def test_a_span_that_cannot_be_is_refused(query: bytes) -> None:
    got = await PolicyHouse().client().ask("GET", "/v1/usage", query=query)
    assert got.status == 400 and got.error["param"] in ("span", "since", "until")


@pytest.fixture(params=["memory", "dynamodb"])
def opinions(request: pytest.FixtureRequest) -> FeedbackStore:
    if request.param == "memory":
        return MemoryFeedback()
    return DynamoFeedback(request.getfixturevalue("state_table"))


async def test_an_opinion_given_twice_is_one(opinions: FeedbackStore) -> None:
    heard: list[Opinion] = []
    signals: list[str] = []

    async def hook(opinion: Opinion) -> None:
        heard.append(opinion)

    async def broken(_: Opinion) -> None:
        raise ValueError

    feedback = Feedback(opinions, lambda name, _: signals.append(name), [broken, hook])
    opinion = Opinion("req_1", "acme", "k_1", -1.0, "wrong_hit", "", 1_800_000_000.0)
    assert (await feedback.give(opinion)).news
    assert not (await feedback.give(opinion)).news
    assert (await feedback.give(Opinion("req_1", "acme", "k_1", 1.0, at=1_800_000_001.0))).news
    assert [each.score for each in heard] == [-1.0, 1.0]
    assert signals.count("FeedbackCount") == 2


async def test_of_many_who_say_the_same_at_once_one_brings_news(opinions: FeedbackStore) -> None:
    feedback = Feedback(opinions, lambda *_: None)
    opinion = Opinion("req_2", "acme", "k_1", 0.5, "", "", 1_800_000_000.0)
    heard = await asyncio.gather(*(feedback.give(opinion) for _ in range(20)))
    assert sum(each.news for each in heard) == 1


async def test_an_opinion_says_what_it_did() -> None:
    """Of every hook that knew what it is about; one that is no news did nothing."""

    async def removes(_: Opinion) -> Literal["removed"]:
        return "removed"

    async def learns(_: Opinion) -> Literal["learned"] | None:
        return None

    feedback = Feedback(MemoryFeedback(), lambda *_: None, [removes, learns])
    opinion = Opinion("req_3", "acme", "k_1", -1.0, "wrong_hit", "", 1_800_000_000.0)
    assert await feedback.give(opinion) == Heard(True, ("removed",))
    assert await feedback.give(opinion) == Heard(False)


def test_whether_a_request_may_have_been_made_is_told_by_its_identifier(clock: FakeClock) -> None:
    now = clock.now()
    made, line = clock.token("req_"), request_id("batch_1", 7)
    for known, at in ((made, now), (made, now - SKEW_S), (made, now + KEEP_S), (line, now), (line, now + 2 * KEEP_S)):
        assert may_exist(known, at)
    for unknown, at in (
        ("nonsense", now),
        ("req_x", now),
        (clock.token("chatcmpl-"), now),
        (made + "a", now),
        ("req_" + "z" * 24, now),
        (made, now - SKEW_S - 1),
        (made, now + KEEP_S + 1),
    ):
        assert not may_exist(unknown, at), unknown


async def test_feedback_is_taken_over_http() -> None:
    house = PolicyHouse()
    made = await house.key(tenant="acme")
    request_id = (await house.chat(made["key"])).headers["x-request-id"]
    client = house.client(made["key"])
    got = await client.ask("POST", "/v1/feedback", {"request_id": request_id, "rating": "down", "reason": "wrong"})
    said = {"object": "feedback", "request_id": request_id, "score": -1.0, "changed": True, "effects": []}
    assert got.json == said
    assert house.opinions[0].tenant == "acme"
    again = await client.ask("POST", "/v1/feedback", {"request_id": request_id, "rating": "down", "reason": "wrong"})
    assert again.json["changed"] is False and len(house.opinions) == 1
    told = (await client.ask("GET", "/v1/usage")).json["total"]
    assert (told["feedback"], told["feedback_score"]) == (1, -1.0)
    unknown = await client.ask("POST", "/v1/feedback", {"request_id": "req_invented", "score": -1})
    assert (unknown.status, unknown.json["error"]["param"]) == (404, "request_id") and len(house.opinions) == 1
    for form in (
        {},
        {"request_id": request_id},
        {"request_id": request_id, "score": 2},
        {"request_id": request_id, "score": True},
        {"request_id": request_id, "score": 1, "rating": "up"},
        {"request_id": "a b", "score": 1},
        {"request_id": request_id, "score": 1, "reason": "x"},
        {"request_id": request_id, "score": 1, "more": 1},
    ):
        assert (await client.ask("POST", "/v1/feedback", form)).status == 400, form
