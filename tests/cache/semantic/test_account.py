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
    Terms,
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
    chance, account, hits, wrong = random.Random(seed), Account(), 0, 0
    terms = Terms(bound)
    for at, share in enumerate(wrong_share):
        is_wrong = chance.random() < share
        if account.rest > 0:
            account = settled(account, Rehearsed(is_wrong), terms, at)
            continue
        hits, wrong = hits + 1, wrong + is_wrong
        read = chance.random() < account.judged
        account = settled(account, Served(1, is_wrong if read else None, account.judged), terms, at)
    return hits, wrong, account


@pytest.mark.parametrize("bound", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("after", [0.3, 1.0])
def test_an_abrupt_change_does_not_break_the_bound(bound: float, after: float) -> None:
    """Wrong at half the bound, and from one moment on at a third or always: what was served keeps the bound."""
    over = 0
    for seed in range(60):
        hits, wrong, _ = life(bound, [bound / 2] * 3000 + [after] * 1500, seed)
        over += wrong > bound * hits
    assert over <= 3


@pytest.mark.parametrize("bound", [0.02, 0.1])
def test_change_after_change_leaves_no_debt_behind(bound: float) -> None:
    """Nothing is lent: what each of several changes cost has been earned, or is owed and paid back."""
    quiet, loud = [bound / 3] * 2000, [0.5] * 300
    over = sum(wrong > bound * hits for hits, wrong, _ in (life(bound, (quiet + loud) * 4, seed) for seed in range(40)))
    assert over <= 2


def test_once_something_wrong_was_found_every_hit_is_read() -> None:
    rich = Account(balance=MOST)
    assert rich.judged == pytest.approx(6 / MOST)
    found = settled(rich, Served(1, wrong=True, chance=rich.judged), Terms(0.05), 0.0)
    assert found.judged == 1.0 and found.rest == 0.0
    for at in range(12):
        found = settled(found, Served(1, wrong=False), Terms(0.05), float(at))
    assert found.judged < 1.0


def test_a_change_is_heard_of_while_there_is_still_a_balance() -> None:
    hits, wrong, account = life(0.02, [0.0] * 3000 + [1.0] * 500, seed=1)
    assert account.rest > 0 and wrong < 0.5 * 0.02 * hits


def test_labels_grow_far_slower_than_hits() -> None:
    """A bound kept with room to spare needs few labels."""
    account, labels = Account(), 0.0
    for at in range(10_000):
        labels += account.judged
        account = settled(account, Served(1), Terms(0.02), at)
    assert labels < 2600
    assert account.judged == pytest.approx(6 / MOST)


@pytest.mark.parametrize("bound", [0.02, 0.05, 0.1])
def test_a_false_alarm_passes(bound: float) -> None:
    """Two wrong answers at the very start, and then none: serving goes on, in debt, and nearly everything is served."""
    hits, wrong, account = life(bound, [1.0, 1.0] + [0.0] * 1000, seed=0)
    assert wrong <= 2 and account.rest == 0
    assert hits > 1000 - 3 * rehearsal(bound)


def test_a_wrong_rehearsal_makes_the_rest_longer_and_the_past_suspect() -> None:
    resting, terms = Account(balance=-1.5, rest=10.0), Terms(0.05)
    wrong, right = (settled(resting, Rehearsed(each), terms, 9.0) for each in (True, False))
    assert (wrong.rest, wrong.since) == (10.0 + rehearsal(0.05), 9.0)
    assert (right.rest, right.since) == (9.0, 0.0)


def test_what_bleeds_slowly_is_stopped_by_what_it_owes() -> None:
    """Wrong a little more often than the bound, which proves nothing for long: the debt alone ends it."""
    hits, wrong, account = life(0.1, [0.05] * 300 + [0.14] * 6000, seed=3)
    assert wrong <= 0.1 * hits + 3 and account.since > 0


def test_a_rest_forgives_nothing() -> None:
    resting = Account(balance=-1.5, rest=1.0, since=5.0)
    again = settled(resting, Rehearsed(False), Terms(0.05), 9.0)
    assert again.rest == 0 and again.balance == -1.5 and again.poor


@given(st.lists(EVENTS, max_size=60), st.floats(0.005, 0.3))
def test_an_account_stays_within_its_limits(events: list[Event], share: float) -> None:
    account, terms = opened(Terms(share)), Terms(share)
    for at, event in enumerate(events):
        before, account = account, settled(account, event, terms, float(at))
        assert account.balance <= MOST and 0 < account.judged <= 1 and account.rest >= 0
        assert account.since >= before.since
        earned = event.hits * share if isinstance(event, Served) else 0.0
        assert account.balance <= before.balance + earned + 1e-9


@given(st.integers(0, 50), st.integers(0, 50))
def test_hits_may_be_told_of_together_or_one_by_one(a: int, b: int) -> None:
    terms = Terms(0.05)
    together = settled(Account(), Served(a + b), terms, 0.0)
    apart = settled(settled(Account(), Served(a), terms, 0.0), Served(b), terms, 0.0)
    assert apart.balance == pytest.approx(together.balance)


def test_an_alarm_asks_before_the_past_is_suspect() -> None:
    terms, rich = Terms(0.05), Account(balance=MOST)
    for at in range(8):
        rich = settled(rich, Served(1, wrong=True), terms, float(at))
    assert rich.rest == rehearsal(0.05) and rich.since == 0
    assert settled(rich, Rehearsed(True), terms, 9.0).since == 9.0


def test_a_new_account_is_poor_where_it_is_judged() -> None:
    """Without a judge nobody could make it rich, and one report alone raises no alarm."""
    terms = Terms(0.02, judged=False)
    assert opened(Terms(0.02)).poor and not opened(terms).poor
    once = settled(opened(terms), Served(1, wrong=True), terms, 0.0)
    assert once.rest == 0 and settled(once, Served(1, wrong=True), terms, 0.0).rest > 0


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
        await asyncio.gather(*(store.settle("n", 0.02, Served(3), Terms(0.02)) for store in two for _ in range(3)))
        kept = await two[0].account("n", 0.02)
        assert kept is not None and kept.balance == pytest.approx(18 * 0.02)
        assert await two[1].account("n", 0.05) is None

    async def test_an_alarm_of_one_process_rests_the_other_and_both_recover(
        self, two: tuple[EvidenceStore, EvidenceStore], clock: FakeClock
    ) -> None:
        here, there = two
        clock.time += 100
        for _ in range(2):
            await here.settle("n", 0.1, Served(1, True), Terms(0.1))
        raised = await there.account("n", 0.1)
        assert raised is not None and raised.rest == rehearsal(0.1) and raised.since == clock.now()
        for turn in range(int(rehearsal(0.1))):
            await (here, there)[turn % 2].settle("n", 0.1, Rehearsed(False), Terms(0.1))
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
            await licences.told("n", 0.02, Served(0, wrong=True))
        assert (await licences.account("n", 0.02)).rest > 0
        clock.time += REST_UNJUDGED_S + 1
        later = await Licences(clock, two[1], None).account("n", 0.02)
        assert later.rest == 0
