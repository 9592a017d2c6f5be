"""One specification for every till, and the stored one held against the one in memory, step by step."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewise.aws import Aws, AwsError, Table
from edgewise.clock import FakeClock
from edgewise.errors import Unavailable
from edgewise.policy.dynamodb_tills import CONFLICT_TRIES, MARK_S, TIDY_HOLDS, DynamoTills
from edgewise.policy.tills import Full, MemoryTills, Taken, Till, Tills, take_swept

DAY = Till("budget#acme", "key#k#day#2027-01-15", cap=100, keep_until=1_900_000_000)
EVER = Till("budget#acme", "tenant#forever#ever", cap=150)
NOW, LATER = 1_800_000_000.0, 1_800_000_960.0


@pytest.fixture(params=["memory", "dynamodb"])
def tills(request: pytest.FixtureRequest) -> Tills:
    if request.param == "memory":
        return MemoryTills()
    return DynamoTills(request.getfixturevalue("state_table"), Quick())


async def test_what_fits_is_taken_and_what_does_not_changes_nothing(tills: Tills) -> None:
    assert isinstance(await tills.take([DAY], [100], "a", LATER), Taken)
    assert await tills.take([DAY], [1], "b", LATER) == Full(0, 100)
    assert await tills.used([DAY], NOW) == [100]


async def test_more_than_the_cap_never_fits(tills: Tills) -> None:
    assert await tills.take([DAY], [101], "a", LATER) == Full(0, 0)


async def test_several_tills_are_taken_all_or_none(tills: Tills) -> None:
    assert isinstance(await tills.take([DAY, EVER], [80, 80], "a", LATER), Taken)
    assert await tills.take([EVER, DAY], [50, 50], "b", LATER) == Full(1, 80)
    assert await tills.used([DAY, EVER], NOW) == [80, 80]


async def test_giving_back_leaves_what_was_used_and_giving_twice_changes_nothing(tills: Tills) -> None:
    await tills.take([DAY], [80], "a", LATER)
    assert await tills.give(DAY, 80, 30, "a") == 30
    assert await tills.give(DAY, 80, 30, "a") is None
    assert await tills.used([DAY], NOW) == [30]


async def test_taking_twice_under_one_name_takes_once(tills: Tills) -> None:
    """boto3 repeats an update whose answer was lost; the hold tells that it went through."""
    await tills.take([DAY], [60], "a", LATER)
    assert isinstance(await tills.take([DAY], [60], "a", LATER), Taken)
    assert await tills.used([DAY], NOW) == [60]


async def test_a_hold_that_ran_out_comes_back_to_whoever_is_refused_next(tills: Tills) -> None:
    await tills.take([DAY], [90], "crashed", LATER)
    assert await take_swept(tills, [DAY], [50], "b", NOW, LATER) == Full(0, 90)
    assert isinstance(await take_swept(tills, [DAY], [50], "c", LATER, LATER + 960), Taken)
    assert await tills.used([DAY], LATER) == [50]


async def test_a_charge_that_comes_after_its_lease_still_counts(tills: Tills) -> None:
    await tills.take([DAY], [90], "slow", LATER)
    assert await tills.sweep(DAY, LATER) == 1
    assert await tills.give(DAY, 90, 40, "slow") == 40
    assert await tills.give(DAY, 90, 40, "slow") is None
    assert await tills.used([DAY], LATER) == [40]


async def test_holds_that_ran_out_do_not_pile_up_where_nobody_is_ever_refused(state_table: Table) -> None:
    """An item has an end. What is charged late counts all the same, and the marks go in their turn."""
    clock = Quick()
    stored, wide = DynamoTills(state_table, clock), Till("budget#acme", "key#wide", cap=10**9)
    for n in range(TIDY_HOLDS):
        await stored.take([wide], [5], f"dead{n}", clock.now() + 10)
    await clock.sleep(20)
    await stored.take([wide], [5], "alive", clock.now() + 960)
    assert await stored.give(wide, 5, 3, "alive") is not None
    item = await state_table.get(wide.owner, wide.name) or {}
    assert [name for name in item if name.startswith("h_")] == [] and item["used"] == 3
    assert await stored.give(wide, 5, 4, "dead0") == 7
    await clock.sleep(MARK_S)
    await stored.sweep(wide, clock.now())
    item = await state_table.get(wide.owner, wide.name) or {}
    assert [name for name in item if name.startswith("s_")] == []


class Quick(FakeClock):
    """Sleeps pass at once."""

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 5), st.integers(0, 120), st.booleans()),
        st.tuples(st.just("give"), st.integers(0, 5), st.integers(0, 60), st.booleans()),
        st.tuples(st.just("sweep"), st.integers(0, 1), st.just(0), st.booleans()),
    ),
    max_size=14,
)


_runs = itertools.count()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_the_stored_till_does_what_the_one_in_memory_does(state_of_tills: Table, steps: list[Any]) -> None:
    run = next(_runs)
    day, ever = (Till(f"budget#{run}", till.name, till.cap) for till in (DAY, EVER))
    asyncio.run(_agree(MemoryTills(), DynamoTills(state_of_tills, Quick()), [day, ever], steps))


async def _agree(model: MemoryTills, stored: DynamoTills, both: list[Till], steps: list[Any]) -> None:
    held: dict[str, tuple[list[Till], int]] = {}
    for number, (verb, who, amount, wide) in enumerate(steps):
        tills = both if wide else both[:1]
        hold = f"{who}"
        if verb == "take" and hold not in held:
            until = NOW if number % 3 == 0 else LATER
            first = await model.take(tills, [amount] * len(tills), hold, until)
            second = await stored.take(tills, [amount] * len(tills), hold, until)
            assert type(first) is type(second)
            if isinstance(first, Full):
                assert first == second
            else:
                held[hold] = (tills, amount)
        elif verb == "give" and hold in held:
            mine, taken = held.pop(hold)
            for till in mine:
                await model.give(till, taken, amount, hold)
                await stored.give(till, taken, amount, hold)
        elif verb == "sweep":
            assert await model.sweep(both[who], NOW) == await stored.sweep(both[who], NOW)
        assert await model.used(both, NOW) == await stored.used(both, NOW)


class Meeting(Aws):
    """A table whose transactions meet others `times` times before they go through."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "transact_write_items":
            self.left -= 1
            if self.left >= 0:
                raise AwsError("TransactionCanceledException", "", reasons=("None", "TransactionConflict"))
        return {}


async def test_transactions_that_meet_are_tried_again() -> None:
    stored = DynamoTills(Table(Meeting(3), "t"), Quick())
    assert isinstance(await stored.take([DAY, EVER], [1, 1], "a", LATER), Taken)


async def test_and_refused_when_they_never_get_through() -> None:
    stored = DynamoTills(Table(Meeting(CONFLICT_TRIES), "t"), Quick())
    with pytest.raises(Unavailable):
        await stored.take([DAY, EVER], [1, 1], "a", LATER)
