"""What an operator may change of the catalogue while it runs, and who hears of it when."""

from __future__ import annotations

from typing import Any

import pytest

from edgewise.aws import Table
from edgewise.background import Background
from edgewise.clock import FakeClock
from edgewise.errors import InvalidRequest
from edgewise.routing.catalog import Catalog
from edgewise.routing.dynamodb import OverrideTable
from edgewise.routing.overrides import REFRESH_S, Overrides, checked
from tests.routing.casting import ROWS, Stage, catalog, request


async def test_changes_are_kept_as_they_were_given(state_table: Table) -> None:
    table, row = OverrideTable(state_table), {"quality": 0.83, "price": {"i": "1", "o": "2"}, "auto": False}
    await table.save("openai/own", row)
    assert await table.all() == {"openai/own": row}
    await table.drop("openai/own")
    assert await table.all() == {}


@pytest.mark.parametrize(
    ("name", "row", "field"),
    [
        ("nameless", {"tier": "large"}, "model"),
        ("a/b", {}, None),
        ("a/b", {"color": "red"}, "color"),
        ("a/b", {"tier": "gigantic"}, "tier"),
        ("a/b", {"quality": 1.2}, "quality"),
        ("a/b", {"quality": True}, "quality"),
        ("a/b", {"context": "many"}, "context"),
        ("a/b", {"price": {"i": "1"}}, "price"),
        ("a/b", {"price": {"i": "-1", "o": "1"}}, "price"),
        ("a/b", {"price": {"i": "NaN", "o": "1"}}, "price"),
        ("a/b", {"price": {"i": "1", "o": "1", "x": "1"}}, "price"),
        ("a/b", {"capabilities": ["flying"]}, "capabilities"),
        ("a/b", {"auto": "yes"}, "auto"),
    ],
)
def test_what_no_model_can_be_is_refused_by_name(name: str, row: dict[str, Any], field: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(name, row)
    assert caught.value.param == field


def test_every_field_has_a_value_that_passes() -> None:
    row = {"tier": "large", "context": 1000, "output": 10, "quality": 0.5, "latency_ms": 10, "auto": True,
           "capabilities": ["tools"], "price": None, "owned_by": "us"}  # fmt: skip
    assert checked("a/b", row) == row


async def test_a_change_is_looked_for_once_a_minute_behind_a_request(clock: FakeClock) -> None:
    rows: dict[str, dict[str, Any]] = {}
    looked = []

    async def load() -> dict[str, dict[str, Any]]:
        looked.append(clock.now())
        return dict(rows)

    def make(later: Any) -> Catalog:
        return catalog({**ROWS, **{name: {**ROWS[name], **row} for name, row in later.items()}})

    stage, background = Stage(clock=clock), Background()
    stage.room.overrides = Overrides(clock, background, load, make)

    async def tier_now() -> str:
        choice = await stage.choose(request(model="small/mini"))
        await background.drain()
        return choice.steps[0].models[0].tier

    before = stage.room.catalog
    assert await tier_now() == "small" and stage.room.catalog is before
    rows["small/mini"] = {"tier": "huge"}
    assert await tier_now() == "small" and len(looked) == 1
    await clock.advance(REFRESH_S)
    assert await tier_now() == "small", "the request that notices does not wait"
    assert await tier_now() == "huge" and len(looked) == 2
    other = Stage(clock=clock)
    other.room.overrides = stage.room.overrides
    assert (await other.choose(request(model="small/mini"))).steps[0].models[0].tier == "huge", "one look serves both"
    again = stage.room.catalog
    await clock.advance(REFRESH_S)
    await tier_now()
    assert stage.room.catalog is again, "the same rows make no new catalogue"
