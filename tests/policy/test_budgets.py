"""Money: held before, settled after, exact, never above the cap, and nothing unknown for free."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.clock import FakeClock
from edgewise.errors import NotAllowed, QuotaExceeded, Unavailable
from edgewise.policy.budgets import dollars, picodollars, window_of
from edgewise.policy.dynamodb_tills import DynamoTills
from edgewise.policy.tills import MemoryTills, Till, Tills
from tests.policy.rig import BIG, MINI, Rig, attempt, choice

TEN_CENTS = {"per": "day", "usd": "0.1"}


async def test_a_request_is_charged_what_it_cost_not_what_it_might_have(rig: Rig) -> None:
    plan = await rig.plan(await rig.key(budgets=[TEN_CENTS]))
    hold = await rig.room.reserve(plan, choice("0.1"))
    with pytest.raises(QuotaExceeded):
        await rig.room.reserve(plan, choice("0.0001"))
    await rig.room.settle(hold, [attempt("0.03")])
    await rig.room.reserve(plan, choice("0.07"))
    assert ("BudgetUsedPct", 30.0) in rig.signals


async def test_a_refusal_says_when_to_come_back_and_not_to_retry(rig: Rig) -> None:
    plan = await rig.plan(await rig.key(budgets=[TEN_CENTS]))
    with pytest.raises(QuotaExceeded) as caught:
        await rig.room.reserve(plan, choice("0.2"))
    error = caught.value
    assert error.status == 429 and error.body()["error"]["code"] == "insufficient_quota"
    assert error.headers["x-should-retry"] == "false"
    assert error.headers["x-edgewise-budget-reset"] == "2027-01-16T00:00:00Z"
    assert "$0.1 a day" in error.message


async def test_a_request_that_was_turned_away_costs_nothing(rig: Rig) -> None:
    plan = await rig.plan(await rig.key(budgets=[TEN_CENTS]))
    hold = await rig.room.reserve(plan, choice("0.1"))
    await rig.room.settle(hold, [attempt("0", error="upstream_unavailable", status=503)])
    await rig.room.reserve(plan, choice("0.1"))


@pytest.mark.parametrize("error", ["upstream_timeout", "cancelled"])
async def test_an_attempt_that_broke_off_may_have_cost_the_worst(rig: Rig, error: str) -> None:
    """A client that hangs up before the first byte, again and again, does not get past its budget."""
    plan = await rig.plan(await rig.key(budgets=[TEN_CENTS]))
    hold = await rig.room.reserve(plan, choice("0.06"))
    await rig.room.settle(hold, [attempt(None, error=error, status=499), attempt("0.01")])
    with pytest.raises(QuotaExceeded):
        await rig.room.reserve(plan, choice("0.06"))


async def test_every_attempt_is_charged(rig: Rig) -> None:
    token = await rig.key(budgets=[TEN_CENTS])
    plan = await rig.plan(token)
    hold = await rig.room.reserve(plan, choice("0.1"))
    await rig.room.settle(hold, [attempt("0.02", error="bad"), attempt("0.03"), attempt("0.01", role="judge")])
    assert (await rig.ledger.state(plan.context["lines"]))[0]["used_usd"] == "0.06"


async def test_an_answer_of_unknown_cost_is_charged_the_worst(rig: Rig) -> None:
    plan = await rig.plan(await rig.key(budgets=[TEN_CENTS]))
    hold = await rig.room.reserve(plan, choice("0.08"))
    await rig.room.settle(hold, [attempt(None)])
    with pytest.raises(QuotaExceeded):
        await rig.room.reserve(plan, choice("0.03"))


async def test_an_unknown_price_is_refused_under_a_budget_and_only_there(rig: Rig) -> None:
    with pytest.raises(NotAllowed) as caught:
        await rig.room.reserve(await rig.plan(await rig.key(budgets=[TEN_CENTS])), choice(None))
    assert caught.value.code == "price_unknown"
    assert await rig.room.reserve(await rig.plan(await rig.key()), choice(None)) is None


async def test_a_models_budget_counts_that_model_alone(rig: Rig) -> None:
    plan = await rig.plan(await rig.key(budgets=[{"per": "month", "usd": "0.05", "model": "claude-*"}]))
    assert await rig.room.reserve(plan, choice("9", MINI)) is None
    hold = await rig.room.reserve(plan, choice("0.05", MINI, BIG))
    await rig.room.settle(hold, [attempt("0.9", MINI), attempt("0.01", BIG)])
    assert (await rig.ledger.state(plan.context["lines"]))[0]["used_usd"] == "0.01"


async def test_the_keys_of_a_tenant_share_its_budget(rig: Rig) -> None:
    await rig.tenant("acme", TEN_CENTS)
    one, two = await rig.plan(await rig.key()), await rig.plan(await rig.key())
    other = await rig.plan(await rig.key("umbrella"))
    await rig.room.reserve(one, choice("0.08"))
    with pytest.raises(QuotaExceeded, match="organisation"):
        await rig.room.reserve(two, choice("0.08"))
    assert await rig.room.reserve(other, choice("0.08")) is None


async def test_past_the_soft_share_routing_is_asked_for_cheap(rig: Rig) -> None:
    token = await rig.key(budgets=[{**TEN_CENTS, "soft": 0.5}])
    plan = await rig.plan(token)
    assert not plan.prefer_cheap
    await rig.room.settle(await rig.room.reserve(plan, choice("0.06")), [attempt("0.06")])
    assert (await rig.plan(token)).prefer_cheap


async def test_a_new_day_is_a_new_budget_and_yesterdays_holds_settle_yesterday(rig: Rig) -> None:
    token = await rig.key(budgets=[TEN_CENTS])
    yesterday = await rig.plan(token)
    hold = await rig.room.reserve(yesterday, choice("0.1"))
    await rig.clock.advance(86_400)
    today = await rig.plan(token)
    await rig.room.settle(hold, [attempt("0.1")])
    await rig.room.reserve(today, choice("0.1"))


async def test_concurrent_requests_never_hold_more_than_the_cap(rig: Rig) -> None:
    plan = await rig.plan(await rig.key(budgets=[TEN_CENTS]))

    async def once() -> bool:
        try:
            hold = await rig.room.reserve(plan, choice("0.007"))
        except QuotaExceeded:
            return False
        await rig.room.settle(hold, [attempt("0.007")])
        return True

    assert sum(await asyncio.gather(*(once() for _ in range(50)))) == 14


class Broken(MemoryTills):
    """Tills that take, and then fall silent."""

    async def give(self, till: Till, amount: int, actual: int, hold: str) -> int | None:
        raise Unavailable("gone")


async def test_a_settlement_that_cannot_be_written_stays_held_and_is_counted() -> None:
    rig = Rig(Broken())
    plan = await rig.plan(await rig.key(budgets=[TEN_CENTS]))
    hold = await rig.room.reserve(plan, choice("0.1"))
    settling = asyncio.create_task(rig.room.settle(hold, [attempt("0.01")]))
    for _ in range(5):
        await rig.clock.advance(2)
    await settling
    assert ("SettleFailed", 1) in rig.signals
    with pytest.raises(QuotaExceeded):
        await rig.room.reserve(plan, choice("0.01"))


class Forgetful:
    """Tills that do what they are asked and lose the word of it, the first time that each thing is asked."""

    def __init__(self, inner: Tills) -> None:
        self._inner = inner
        self._lost: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        async def asked(*given: Any) -> Any:
            done = await getattr(self._inner, name)(*given)
            if name not in self._lost:
                self._lost.add(name)
                raise Unavailable("The answer was lost.")
            return done

        return asked


@pytest.fixture(params=["memory", "dynamodb"])
def inner(request: pytest.FixtureRequest) -> Tills:
    if request.param == "memory":
        return MemoryTills()
    return DynamoTills(request.getfixturevalue("state_table"), FakeClock())


async def test_what_is_spent_already_is_charged_once_whatever_room_there_is(inner: Tills) -> None:
    """Also when the store does it and loses the word of it."""
    rig = Rig(inner)
    token = await rig.key(budgets=[TEN_CENTS, {**TEN_CENTS, "model": "claude-*"}])
    lines = (await rig.plan(token)).context["lines"]
    rig.ledger.tills = Forgetful(inner)
    for _ in range(2):
        spending = asyncio.ensure_future(rig.ledger.spend(lines, [attempt("0.07")]))
        while not spending.done():
            await rig.clock.advance(1)
    assert await inner.used([line.till for line in lines], rig.clock.now()) == [picodollars(Decimal("0.14")), 0]
    rig.clock.time += 50 * 86_400
    assert (await inner.used([lines[0].till], rig.clock.now()))[0] == picodollars(Decimal("0.14"))


@given(st.lists(st.decimals("0", "0.01", places=12), max_size=30))
def test_sums_of_picodollars_are_exact(costs: list[Decimal]) -> None:
    assert Decimal(dollars(sum(picodollars(cost) for cost in costs))) == sum(costs, Decimal(0))


def test_rounding_never_spends() -> None:
    assert picodollars(Decimal("0.0000000000001")) == 1


@given(st.floats(1.6e9, 4e9))
def test_now_is_within_its_window(now: float) -> None:
    for per in ("day", "month"):
        window = window_of(per, now)
        assert window.ends_at is not None and now < window.ends_at
        assert window_of(per, window.ends_at - 1) == window
        assert window_of(per, window.ends_at) != window


async def test_how_far_a_budget_is_ahead_of_its_window_is_told_without_a_read(rig: Rig) -> None:
    token = await rig.key(budgets=[TEN_CENTS, {"per": "forever", "usd": "5"}])
    plan = await rig.plan(token)
    assert plan.paces == ()
    await rig.room.settle(await rig.room.reserve(plan, choice("0.1")), [attempt("0.03")])
    ((spent, gone),) = (await rig.plan(token)).paces
    assert spent == pytest.approx(0.3) and gone == pytest.approx(rig.clock.now() % 86_400 / 86_400)
