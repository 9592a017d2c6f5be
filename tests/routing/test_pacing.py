"""A window's budget is kept by a price that all processes come to, whoever spent the money."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.aws import Table
from edgewise.background import Background
from edgewise.clock import FakeClock
from edgewise.routing.dynamodb import SpentTable
from edgewise.routing.pacing import MOST, Pacing, dearest, price_of
from tests.routing.casting import Stage, request

DAY = 86_400.0
SHARES = st.floats(0, 1)


@given(SHARES, SHARES, SHARES)
def test_more_spent_is_never_cheaper_and_on_pace_is_free(spent: float, more: float, elapsed: float) -> None:
    low, high = sorted((spent, more))
    assert 0 <= price_of(low, elapsed) <= price_of(high, elapsed) <= MOST
    assert price_of(elapsed * 0.999, elapsed) == 0 or elapsed > 0.98


def test_the_tightest_of_several_budgets_sets_the_price() -> None:
    assert dearest([(0.1, 0.5), (0.9, 0.5)]) == price_of(0.9, 0.5) > 0
    assert dearest([]) == 0


class Counter:
    """Implements `pacing.Spent` in memory."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    async def add(self, window: str, usd: float, keep_s: float) -> float:
        self.sums[window] = self.sums.get(window, 0.0) + usd
        return self.sums[window]


async def test_eight_processes_pace_one_budget_over_a_day_of_uneven_traffic(clock: FakeClock) -> None:
    """Half a cent for a dear answer, a fiftieth of one for a cheap: unpaced, a day would cost half as much again. Most
    requests come by day, each to whichever process is free; nobody is there to spend what the night leaves."""
    clock.time = 1_800_000_000.0 // DAY * DAY
    counter, background, dice = Counter(), Background(), random.Random(3)
    houses = [Pacing(clock, 50.0, DAY, counter, background) for _ in range(8)]
    dear, spent_by = 0, []
    for minute in range(1440):
        load = 1 + math.sin((minute / 1440 - 0.25) * 2 * math.pi)
        for _ in range(round(14 * load)):
            house = dice.choice(houses)
            gain = 0.1 * dice.random() * 2
            best = gain > (12 + house.price) * (0.005 - 0.0002)
            dear += best
            house.spend(0.005 if best else 0.0002)
        await background.drain()
        await clock.advance(60)
        if minute == 719:
            spent_by.append(sum(counter.sums.values()))
    total = sum(counter.sums.values())
    assert 42 <= total <= 51, "the budget is used, and hardly passed"
    assert 18 <= spent_by[0] <= 35, "neither half of the day has it all"
    assert dear > 5000


async def test_what_others_spent_counts_and_a_new_window_begins_at_nothing(
    state_table: Table, clock: FakeClock
) -> None:
    table, background = SpentTable(state_table, clock), Background()
    clock.time = 1_800_000_000.0 // DAY * DAY + DAY / 10
    one, other = (Pacing(clock, 10.0, DAY, table, background) for _ in range(2))
    one.spend(6.0)
    await background.drain()
    assert one.price > 0 and other.price == 0
    other.spend(0.0)
    await background.drain()
    assert other.spent_usd == pytest.approx(6.0) and other.price == one.price
    await clock.advance(DAY)
    assert one.price == 0
    one.spend(0.1)
    await background.drain()
    assert one.spent_usd == pytest.approx(0.1)


async def test_a_key_that_runs_ahead_is_routed_cheaper_where_it_asked_for_that() -> None:
    asked = request(routing={"pace": True, "prefer": "best"})
    on, ahead = [await Stage().choose(asked, paces=((spent, 0.3),)) for spent in (0.29, 0.9)]
    assert ahead.expected.cost_usd is not None and on.expected.cost_usd is not None
    assert ahead.expected.cost_usd < on.expected.cost_usd
    assert ahead.features["shadow_price"] > 0 == on.features["shadow_price"]
    free = await Stage().choose(request(routing={"prefer": "best"}), paces=((0.9, 0.3),))
    assert free.expected.cost_usd == on.expected.cost_usd
