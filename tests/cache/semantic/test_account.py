"""The account: what serving may cost, whatever changes; what an alarm does, and that it passes."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.aws import Table
from edgewise.cache.semantic.account import (
    MOST,
    REST_UNJUDGED_S,
    Account,
    Event,
    Rehearsed,
    Rested,
    Served,
    opened,
    rehearsal,
    settled,
)
from edgewise.cache.semantic.dynamodb import DynamoEvidence
from edgewise.cache.semantic.shadow import EvidenceStore, Licences, LocalEvidence
from edgewise.clock import FakeClock

DAY_S = 86_400.0
EVENTS = st.one_of(
    st.builds(Served, st.integers(0, 40), st.sampled_from([None, True, False]), st.floats(0.12, 1.0)),
    st.builds(Rehearsed, st.booleans()),
    st.just(Rested()),
)


def life(bound: float, wrong_share: list[float], seed: int) -> tuple[int, int, Account]:
    """(hits, wrong ones, account) when a would-be hit is wrong with the share of its place."""
    chance, account, hits, wrong = random.Random(seed), opened(bound), 0, 0
    for at, share in enumerate(wrong_share):
        is_wrong = chance.random() < share
        if account.rest > 0:
            account = settled(account, Rehearsed(is_wrong), bound, at)
            continue
        hits, wrong = hits + 1, wrong + is_wrong
        read = chance.random() < account.judged
        account = settled(account, Served(1, is_wrong if read else None, account.judged), bound, at)
    return hits, wrong, account


@pytest.mark.parametrize("bound", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("after", [0.3, 1.0])
def test_an_abrupt_change_does_not_break_the_bound(bound: float, after: float) -> None:
    """Wrong at half the bound, and from one moment on at a third or always: what was served keeps the bound but for the
    one wrong answer with which serving goes on after an alarm."""
    over = 0
    for seed in range(60):
        hits, wrong, _ = life(bound, [bound / 2] * 1500 + [after] * 1500, seed)
        over += wrong > bound * hits + 1
    assert over <= 3


def test_a_change_is_heard_of_while_there_is_still_a_balance() -> None:
    hits, wrong, account = life(0.02, [0.0] * 3000 + [1.0] * 500, seed=1)
    assert account.rest > 0 and wrong < 0.5 * 0.02 * hits


def test_labels_grow_far_slower_than_hits() -> None:
    """A bound kept with room to spare needs few labels."""
    account, labels = opened(0.02), 0.0
    for at in range(10_000):
        labels += account.judged
        account = settled(account, Served(1), 0.02, at)
    assert labels < 2000
    assert account.judged == pytest.approx(6 / MOST)


@pytest.mark.parametrize("bound", [0.02, 0.05, 0.1])
def test_a_false_alarm_passes(bound: float) -> None:
    """Two wrong answers at the very start, and then none: serving goes on, and nearly everything is served."""
    hits, wrong, account = life(bound, [1.0, 1.0] + [0.0] * 1000, seed=0)
    assert wrong <= 2 and account.rest == 0
    assert hits > 1000 - 3 * rehearsal(bound)


def test_a_wrong_rehearsal_makes_the_rest_longer() -> None:
    resting = Account(rest=10.0, since=5.0)
    assert settled(resting, Rehearsed(True), 0.05, 9.0).rest == 10.0 + rehearsal(0.05)
    assert settled(resting, Rehearsed(False), 0.05, 9.0).rest == 9.0
    assert settled(Account(rest=1.0, since=5.0), Rehearsed(False), 0.05, 9.0).balance >= 1.0


@given(st.lists(EVENTS, max_size=60), st.floats(0.005, 0.3))
def test_an_account_stays_within_its_limits(events: list[Event], share: float) -> None:
    account = opened(share)
    for at, event in enumerate(events):
        before, account = account, settled(account, event, share, float(at))
        assert account.balance <= MOST and 0 < account.judged <= 1 and account.rest >= 0
        assert account.hits >= before.hits and account.since >= before.since
        assert account.rest > 0 or account.balance >= 1 - 1e-6


@given(st.integers(0, 50), st.integers(0, 50))
def test_hits_may_be_told_of_together_or_one_by_one(a: int, b: int) -> None:
    together = settled(opened(0.05), Served(a + b), 0.05, 0.0)
    apart = settled(settled(opened(0.05), Served(a), 0.05, 0.0), Served(b), 0.05, 0.0)
    assert apart.balance == pytest.approx(together.balance) and apart.hits == together.hits


class TestStores:
    """One contract for the store in memory and the one that processes share."""

    @pytest.fixture(params=["memory", "table"])
    def two(self, request: pytest.FixtureRequest, clock: FakeClock) -> tuple[EvidenceStore, EvidenceStore]:
        """The same store as two processes see it."""
        if request.param == "memory":
            one = LocalEvidence(clock, 30 * DAY_S)
            return one, one
        table: Table = request.getfixturevalue("state_table")
        return DynamoEvidence(table, clock, 30 * DAY_S), DynamoEvidence(table, clock, 30 * DAY_S)

    async def test_no_event_of_two_processes_is_lost(self, two: tuple[EvidenceStore, EvidenceStore]) -> None:
        await asyncio.gather(*(store.settle("n", 0.02, Served(3), 0.02) for store in two for _ in range(3)))
        kept = await two[0].account("n", 0.02)
        assert kept is not None and kept.hits == 18
        assert await two[1].account("n", 0.05) is None

    async def test_an_alarm_of_one_process_rests_the_other_and_both_recover(
        self, two: tuple[EvidenceStore, EvidenceStore], clock: FakeClock
    ) -> None:
        here, there = two
        clock.time += 100
        for _ in range(2):
            await here.settle("n", 0.1, Served(1, True), 0.1)
        raised = await there.account("n", 0.1)
        assert raised is not None and raised.rest > 0 and raised.since == clock.now()
        for turn in range(int(rehearsal(0.1))):
            await (here, there)[turn % 2].settle("n", 0.1, Rehearsed(False), 0.1)
        again = await here.account("n", 0.1)
        assert again is not None and again.rest == 0 and again.since == raised.since

    async def test_a_confirmation_is_seen_by_all(
        self, two: tuple[EvidenceStore, EvidenceStore], clock: FakeClock
    ) -> None:
        assert await two[0].confirmed("n", "key") == 0
        await two[0].confirm("n", "key")
        assert await two[1].confirmed("n", "key") == pytest.approx(clock.now())

    async def test_without_a_judge_a_rest_ends_by_itself(
        self, two: tuple[EvidenceStore, EvidenceStore], clock: FakeClock
    ) -> None:
        clock.time += 100
        licences = Licences(clock, two[0], None)
        for _ in range(2):
            await licences.told("n", 0.02, wrong=True, chance=1.0)
        assert (await licences.account("n", 0.02)).rest > 0
        clock.time += REST_UNJUDGED_S + 1
        later = await Licences(clock, two[1], None).account("n", 0.02)
        assert later.rest == 0 and later.balance >= 1
