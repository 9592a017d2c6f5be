"""The stand-in for AWS keeps what is written to it, however many write at once and whichever transactions fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from edgewise.api.app import app
from edgewise.assemble.house import House, build
from edgewise.local.stack import Stack
from edgewise.policy.desk import KeyDesk
from edgewise.policy.room import ROOT
from edgewise.policy.terms import Terms
from edgewise.settings import Settings
from tests.api.client import Client

PRICED = {"scripted/echo": {"price": {"i": "1000", "o": "1000"}, "output": 20}}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    stack = await asyncio.to_thread(Stack.start)
    settings = Settings.from_env(
        {**stack.environment, "EDGEWISE_ROOT_KEY": "ew_root_of_the_stack", "EDGEWISE_SCRIPTED_MODEL": "true"}
    )
    built = build(settings.model_copy(update={"model_overrides": PRICED, "request_log": False}))
    yield built
    await built.background.drain()
    await built.close()
    stack.stop()


async def test_fifty_at_once_under_two_budgets_spend_what_they_spend(house: House) -> None:
    """Two budgets are one transaction, and many of fifty are refused: a failed transaction must undo nobody's write."""
    budgets = [{"per": "day", "usd": "0.5"}, {"per": "month", "usd": "0.9"}]
    desk = KeyDesk(house.policy, house.clock)
    form = Terms.model_validate({"budgets": budgets})
    row, key = await desk.create(ROOT, tenant="acme", name="many", terms=form, expires_at=None)
    client = Client(app(house.rooms, house.settings), key)

    async def ask(number: int) -> Any:
        body = {
            "model": "scripted/echo",
            "messages": [{"role": "user", "content": f"word {number}"}],
            "max_completion_tokens": 20,
        }
        return await client.ask("POST", "/v1/chat/completions", body)

    async with asyncio.timeout(60):
        got = await asyncio.gather(*(ask(number) for number in range(50)))
    assert {each.status for each in got} == {200, 429}
    spent = sum((Decimal(each.headers["x-edgewise-cost-usd"]) for each in got if each.status == 200), Decimal(0))
    told = await desk.budgets_of(row)
    assert [Decimal(str(each["used_usd"])) for each in told] == [spent, spent] and 0 < spent <= Decimal("0.5")
    # Each answer that was made was kept as well, in the other table.
    again = [await ask(number) for number, each in enumerate(got) if each.status == 200]
    assert {each.headers["x-edgewise-cache"] for each in again} == {"hit"}
