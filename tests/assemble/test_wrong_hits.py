"""A wrong hit that is reported by its request alone: found from any process, by its own tenant only."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edgewise.assemble.house import build
from edgewise.aws import Item, Table
from edgewise.clock import FakeClock
from tests.api.client import Got
from tests.assemble.test_gateway import ROOT, Gateway, told
from tests.assemble.test_meaning import QUESTION, REWORDED, Opened, settings


@pytest.fixture
async def two(
    moto_url: str, cache_table: Table, state_table: Table, bucket: str
) -> AsyncIterator[tuple[Opened, Opened]]:
    """Two processes of one deployment."""
    found = [Opened(build(settings(moto_url, cache_table, state_table, bucket))) for _ in range(2)]
    one, other = (each.gateway.app for each in found)
    async with one.router.lifespan_context(one), other.router.lifespan_context(other):
        yield found[0], found[1]


async def said(opened: Opened, text: str, key: str = ROOT) -> Got:
    got = await opened.gateway.say(text, key)
    await opened.house.background.drain(within_s=5)
    return got


async def reported(gateway: Gateway, hit: Got, key: str = ROOT) -> bool:
    """Whether the report took the entry away."""
    opinion = {"request_id": hit.headers["x-request-id"], "score": -1, "reason": "wrong_hit"}
    got = await gateway.call("POST", "/feedback", key, opinion)
    assert got.status == 200
    return bool(got.json["effects"] == ["removed"])


def rows(table: Table, kind: str) -> AsyncIterator[Item]:
    return table.scan(filter="begins_with(pk, :kind)", values={":kind": kind})


async def bounds(table: Table) -> dict[str, int]:
    """Labels of wrong hits that are on record, by namespace."""
    found: dict[str, int] = {}
    async for item in rows(table, "bound#"):
        if item["sk"].startswith("week#"):
            found[item["pk"]] = sum(int(v) for name, v in item.items() if name.endswith(".1"))
    return found


async def test_a_hit_by_meaning_is_found_wherever_it_is_reported_and_teaches(
    two: tuple[Opened, Opened], state_table: Table
) -> None:
    one, other = two
    key = await one.gateway.new_key("acme")
    await said(one, QUESTION, key)
    hit = await said(one, REWORDED, key)
    assert told(hit, "cache-kind") == "semantic"
    note = one.notes[-1]
    assert note.features["namespace"] == "acme/default" and note.features["same"] > 0.5
    assert await reported(other.gateway, hit, key)
    labels = await bounds(state_table)
    assert labels["bound#acme/default"] > 0 and labels["bound#*"] > 0
    assert told(await said(other, QUESTION, key), "cache") == "miss"


async def test_another_tenants_report_changes_nothing(two: tuple[Opened, Opened], state_table: Table) -> None:
    one, other = two
    mine, theirs = await one.gateway.new_key("acme"), await one.gateway.new_key("bolt")
    await said(one, QUESTION, mine)
    hit = await said(one, REWORDED, mine)
    for each in (one, other):
        assert not await reported(each.gateway, hit, theirs)
    assert await bounds(state_table) == {}
    assert told(await said(other, QUESTION, mine), "cache") == "hit"


async def test_an_exact_hit_writes_nothing_for_it(two: tuple[Opened, Opened], state_table: Table) -> None:
    """It is found in its own process by the request, elsewhere by its cache key."""
    one, _ = two
    await said(one, QUESTION)
    assert told(await said(one, QUESTION), "cache-kind") == "exact"
    await said(one, REWORDED)
    assert len([item async for item in rows(state_table, "hit#")]) == 1


async def test_a_hit_that_is_long_ago_is_forgotten(two: tuple[Opened, Opened], state_table: Table) -> None:
    one, other = two
    await said(one, QUESTION)
    hit = await said(one, REWORDED)
    (row,) = [item async for item in rows(state_table, "hit#")]
    await state_table.put({**row, "expires_at": int(FakeClock().time) - 10**9})
    assert not await reported(other.gateway, hit)
    assert told(await said(other, QUESTION), "cache") == "hit"
