"""What an audit of the judge says, that each of its limits is on the side that keeps the bound, and what the bound is
worth where the rates that were declared are not the judge's."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.cache.semantic.account import Rehearsed, Served, Terms, opened, settled
from edgewise.cache.semantic.audit import Rate, Tally, at_least, at_most, false_alarms, misses, needed
from edgewise.cache.semantic.bound import CUTS, Evidence, Rule, licence

RATES = st.floats(0, 0.49)
BOUNDS = st.sampled_from([0.01, 0.02, 0.05, 0.1])


def test_limits_are_those_of_clopper_and_pearson() -> None:
    """Closed forms at the ends; in between figures that statistics packages print."""
    assert at_most(0, 180, 0.025) == pytest.approx(1 - 0.025 ** (1 / 180))
    assert at_least(180, 180, 0.025) == pytest.approx(0.025 ** (1 / 180))
    assert (at_least(0, 180, 0.025), at_most(180, 180, 0.025), at_most(0, 0, 0.025)) == (0.0, 1.0, 1.0)
    assert at_most(5, 180, 0.025) == pytest.approx(0.0636306, abs=1e-6)
    assert at_least(5, 180, 0.025) == pytest.approx(0.0090796, abs=1e-6)


@pytest.mark.parametrize("share", [0.003, 0.02, 0.1, 0.37])
@pytest.mark.parametrize("of", [7, 60, 120])
def test_a_limit_is_wrong_no_more_often_than_it_says(of: int, share: float) -> None:
    """Summed over all that can be seen, not sampled."""
    chances = [math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(of + 1)]
    assert sum(chance for k, chance in enumerate(chances) if at_most(k, of, 0.025) < share) <= 0.025
    assert sum(chance for k, chance in enumerate(chances) if at_least(k, of, 0.025) > share) <= 0.025


def test_a_word_that_is_neither_counts_where_it_does_no_harm() -> None:
    same, different = Tally(), Tally()
    for said in (True, True, False, None):
        same.count(said)
        different.count(said)
    assert false_alarms(same, 0.95).share == 0.25 and misses(different, 0.95).share == 0.75


def test_what_is_needed_for_less_is_just_enough() -> None:
    seen = Rate(5, 180, at_most(5, 180, 0.025))
    count = needed(seen, 0.04, 0.95)
    assert count is not None and at_most(round(5 / 180 * count), count, 0.025) <= 0.04
    assert at_most(round(5 / 180 * (count - 40)), count - 40, 0.025) > 0.04
    assert needed(seen, 5 / 180, 0.95) is None


@given(BOUNDS, RATES, RATES, st.floats(0, 0.4), st.integers(0, 400), st.integers(0, 12))
def test_fewer_false_alarms_and_more_misses_than_true_are_the_safe_side(
    bound: float, alarm: float, missed: float, by: float, right: int, wrong: int
) -> None:
    """Declared on that side, whatever was seen: no cut is looser, and the account bears no more and rests no less."""
    true = Rule(bound, false_alarm=alarm, missed=missed)
    safe = Rule(bound, false_alarm=alarm * (1 - by), missed=missed + (0.5 - missed) * by)
    assert safe.reported <= true.reported
    evidence = Evidence()
    evidence.see({"same": CUTS["same"][3], "topic": CUTS["topic"][3]}, False, right)
    evidence.see({"same": CUTS["same"][3], "topic": CUTS["topic"][3]}, True, wrong)
    loosest, cuts = licence(evidence, true, prior=()).cuts, licence(evidence, safe, prior=()).cuts
    assert cuts.keys() <= loosest.keys() and all(cuts[name] >= loosest[name] for name in cuts)
    hard, soft = Terms(safe.reported), Terms(true.reported)
    strict, easy = opened(hard), opened(soft)
    for event in [Served(right, False), *[Served(1, True)] * wrong]:
        strict, easy = settled(strict, event, hard, 1.0), settled(easy, event, soft, 1.0)
        assert strict.balance <= easy.balance + 1e-9 and strict.rest >= easy.rest - 1e-9


@given(st.floats(0, 1), RATES, RATES, st.floats(0, 0.9), st.floats(0, 0.9))
def test_can_t_tell_never_hides_wrong_matches(
    share: float, alarm: float, missed: float, silent: float, silent_wrong: float
) -> None:
    """However much oftener the judge can't tell of wrong matches: counted as the audit counts it, what the rule reckons
    with is no more than the share of labels that say wrong."""
    told_wrong, told_right = share * (1 - silent_wrong), (1 - share) * (1 - silent)
    labels = told_wrong * (1 - missed) + told_right * alarm
    counted = Rule(share, false_alarm=(1 - silent) * alarm, missed=silent_wrong + (1 - silent_wrong) * missed)
    reckoned = share * (1 - counted.missed) + (1 - share) * counted.false_alarm
    assert labels / max(told_wrong + told_right, 1e-12) >= reckoned - 1e-9


def served(rule: Rule, share: float, alarm: float, missed: float, seed: int, requests: int = 3000) -> tuple[int, int]:
    """(hits, wrong ones) of would-be hits that are wrong with `share`, under a judge of those true rates."""
    chance, terms, hits, wrong = random.Random(seed), Terms(rule.reported), 0, 0
    account = opened(terms)
    for at in range(requests):
        is_wrong = chance.random() < share
        said_wrong = chance.random() >= missed if is_wrong else chance.random() < alarm
        if account.rest > 0:
            account = settled(account, Rehearsed(said_wrong), terms, at)
            continue
        hits, wrong = hits + 1, wrong + is_wrong
        read = chance.random() < account.judged
        account = settled(account, Served(1, said_wrong if read else None, account.judged), terms, at)
    return hits, wrong


def test_false_alarms_that_nobody_declared_make_serving_rest() -> None:
    """It fails closed: at 2 % a judge that calls one right answer in ten wrong stops nearly all and has no licence."""
    found = [served(Rule(0.02), 0.0, alarm=0.1, missed=0.0, seed=seed) for seed in range(20)]
    told = [served(Rule(0.02, false_alarm=0.1), 0.0, alarm=0.1, missed=0.0, seed=seed) for seed in range(20)]
    assert sum(hits for hits, _ in found) < 0.1 * sum(hits for hits, _ in told)
    evidence = Evidence()
    evidence.see({"same": 1.0, "topic": 1.0}, False, 1800)
    evidence.see({"same": 1.0, "topic": 1.0}, True, 200)
    assert licence(evidence, Rule(0.02)).cuts == {}
    assert licence(evidence, Rule(0.02, false_alarm=0.1)).cuts != {}


@pytest.mark.parametrize(("declared", "factor"), [(0.1, 1.5), (0.4, 1.0)])
def test_misses_that_nobody_declared_widen_the_bound_by_their_share_and_no_more(declared: float, factor: float) -> None:
    """Truly 40 %: declared 10 %, licences go up to one and a half times the bound; declared as is, up to it."""
    for share, allowed in ((0.5 * factor * 0.05, True), (1.05 * factor * 0.05, False)):
        evidence = Evidence()
        evidence.see({"same": 1.0, "topic": 1.0}, True, 5000 * share * (1 - 0.4))
        evidence.see({"same": 1.0, "topic": 1.0}, False, 5000 * (1 - share * (1 - 0.4)))
        assert bool(licence(evidence, Rule(0.05, missed=declared), prior=()).cuts) is allowed


def test_a_false_alarm_rate_that_is_too_high_is_what_breaks_the_bound() -> None:
    """Why it is a lower limit, and 0 unless audited on traffic: 5 % declared of a judge that raises none."""
    hits, wrong = served(Rule(0.02, false_alarm=0.05), share=0.06, alarm=0.0, missed=0.0, seed=1)
    assert wrong > 2 * 0.02 * hits
