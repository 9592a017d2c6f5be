"""AWS failing in every call: requests are served or refused with a clear error, and policy fails closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from edgewise.assemble import house as houses
from edgewise.assemble.edge import around
from edgewise.aws import Aws, Table
from edgewise.clock import FakeClock
from edgewise.errors import Unavailable
from edgewise.policy.bans import Ban
from edgewise.policy.dynamodb import DynamoBans, DynamoKeys, DynamoMinutes
from edgewise.policy.dynamodb_tills import DynamoTills
from edgewise.policy.keys import KeyRow, TenantRow
from edgewise.policy.limits import Counts
from edgewise.policy.terms import Terms
from edgewise.policy.tills import Till
from edgewise.record.dynamodb import DynamoFeedback, DynamoRollups
from edgewise.record.feedback import Opinion
from edgewise.record.rollups import Cell, Sums
from edgewise.settings import Settings
from tests.api.client import Client, Got
from tests.faults import FAULTS, Fails, FaultyAws

TILLS = [Till("budget#t", "a", 10), Till("budget#t", "b", 10)]
ROW = KeyRow("k", "t", "n", "abcd", {"0" * 64: None}, Terms(), 0.0)
OPINION = Opinion("r", "t", "k", 1.0, at=1.0)


def sites(table: Table) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every call that policy and record make."""
    clock = FakeClock()
    keys, tills, minutes, bans = (
        DynamoKeys(table, clock),
        DynamoTills(table, clock),
        DynamoMinutes(table),
        DynamoBans(table),
    )
    rollups, feedback = DynamoRollups(table, clock), DynamoFeedback(table)
    return {
        "key by digest": lambda: keys.by_digest("0" * 64),
        "key by id": lambda: keys.by_id("k"),
        "save key": lambda: keys.save(ROW, new=True),
        "list keys": lambda: keys.of_tenant("t"),
        "tenant": lambda: keys.tenant("t"),
        "save tenant": lambda: keys.save_tenant(TenantRow("t")),
        "take": lambda: tills.take(TILLS[:1], [1], "h", 2.0),
        "take several": lambda: tills.take(TILLS, [1, 1], "h", 2.0),
        "give": lambda: tills.give(TILLS[0], 1, 1, "h"),
        "used": lambda: tills.used(TILLS, 1.0),
        "sweep": lambda: tills.sweep(TILLS[0], 1.0),
        "minute": lambda: minutes.add("k", 1, Counts(1, 1), Counts(1, 1)),
        "read minute": lambda: minutes.read("k", 1),
        "ban": lambda: bans.put(Ban("key:k", "", 0.0, 1.0)),
        "lift": lambda: bans.lift("key:k"),
        "bans": lambda: bans.all(0.0),
        "strike": lambda: bans.strike("key:k", 1, 5),
        "roll up": lambda: rollups.add(Cell("minute", 0, "t", "k", "m"), Sums({"requests": 1}), 1),
        "read sums": lambda: rollups.read("t", "hour", 0, 1),
        "feedback": lambda: feedback.put(OPINION, 10),
    }


SITES = list(sites(Table(Aws(), "t")))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("site", SITES)
async def test_every_call_site_says_unavailable_and_nothing_else(site: str, fault: str) -> None:
    with pytest.raises(Unavailable) as caught:
        await sites(Table(FaultyAws(fault), "t"))[site]()
    assert caught.value.status == 503 and caught.value.headers["retry-after"] == "1"


class Stack:
    """The whole gateway over moto, with AWS that can be made to fail."""

    def __init__(self, aws: FaultyAws, house: houses.House) -> None:
        self.aws = aws
        self.house = house
        self.app = around(house)

    async def ask(self, key: str, method: str, path: str, body: Any = None) -> Got:
        got = await Client(self.app, key).ask(method, path, body)
        await self.house.background.drain(5)
        return got


ROOT = "ew_root_for_tests_only"
CHAT = {"model": "scripted/echo", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def stack(
    monkeypatch: pytest.MonkeyPatch, moto_aws: Aws, state_table: Table, cache_table: Table, bucket: str
) -> AsyncIterator[Stack]:
    aws = FaultyAws("throttle", lambda *_: False, moto_aws)
    monkeypatch.setattr(houses, "aws_of", lambda *_: aws)
    settings = Settings(
        root_key=ROOT,
        scripted_model=True,
        request_log=False,
        state_table=state_table.name,
        cache_table=cache_table.name,
        bucket=bucket,
    )
    stack = Stack(aws, houses.build(settings))
    async with stack.app.router.lifespan_context(stack.app):
        yield stack


async def _session(stack: Stack, key: str) -> list[Got]:
    """What a client and an administrator do in a day."""
    word = stack.house.clock.token("w")
    fresh = {**CHAT, "messages": [{"role": "user", "content": word}]}
    asked: list[tuple[str, str, str, Any]] = [
        (key, "POST", "/v1/chat/completions", fresh),
        (key, "POST", "/v1/chat/completions", fresh),
        (key, "POST", "/v1/chat/completions", {**fresh, "stream": True}),
        (ROOT, "POST", "/v1/chat/completions", CHAT),
        (key, "GET", "/v1/models", None),
        (key, "GET", "/v1/usage", None),
        (key, "POST", "/v1/feedback", {"request_id": stack.house.clock.token("req_"), "rating": "up"}),
        (ROOT, "GET", "/admin/keys", None),
        (ROOT, "GET", "/admin/bans", None),
        (ROOT, "GET", "/admin/stats", None),
        (ROOT, "POST", "/admin/keys", {"tenant": "acme"}),
    ]
    return [await stack.ask(*each) for each in asked]


def only(broken: tuple[str, str]) -> Fails:
    return lambda service, operation: (service, operation) == broken


async def test_whichever_operation_fails_each_request_is_served_or_clearly_refused(stack: Stack) -> None:
    terms = {
        "budgets": [{"per": "day", "usd": "5"}, {"per": "month", "usd": "9", "soft": 0.9}],
        "limits": {"requests_per_minute": 10_000, "in_flight": 50},
    }
    made = (await stack.ask(ROOT, "POST", "/admin/keys", {"tenant": "acme", "terms": terms})).json
    well = await _session(stack, made["key"])
    assert [got.status for got in well] == [200] * 10 + [201], [got.body for got in well]
    operations = sorted(set(stack.aws.calls))
    assert len(operations) >= 5
    for fault in ("throttle", "timeout", "internal"):
        for broken in operations:
            stack.aws.fault = fault
            stack.aws.fails = only(broken)
            stack.house.policy.desk.ring.forget()
            for got in await asyncio.wait_for(_session(stack, made["key"]), 60):
                assert got.status in (200, 201, 503), (fault, broken, got.status, got.body)
                if got.status == 503:
                    assert got.error["code"].startswith(("policy_", "service_"))
    stack.aws.fails = lambda *_: False
    assert [got.status for got in await _session(stack, made["key"])] == [200] * 10 + [201]


async def test_with_no_table_at_all_the_root_key_is_served_and_no_other(stack: Stack) -> None:
    made = (await stack.ask(ROOT, "POST", "/admin/keys", {"tenant": "acme"})).json
    stack.aws.fails = lambda *_: True
    stack.house.policy.desk.ring.forget()
    assert (await stack.ask(ROOT, "POST", "/v1/chat/completions", CHAT)).status == 200
    got = await stack.ask(made["key"], "POST", "/v1/chat/completions", CHAT)
    assert (got.status, got.error["code"]) == (503, "policy_unavailable") or got.error["code"] == "policy_busy"
