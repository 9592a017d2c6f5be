"""One candidate: what the licence and the account make of it, and what the judge's word does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.cache.semantic.account import MOST, POOR, Account, Rehearsed, Served
from edgewise.cache.semantic.bound import PRIOR, Licence
from edgewise.cache.semantic.serving import SURER, WITHHELD, allowed, chance, heard, withheld
from edgewise.cache.semantic.verifier import Finding

RICH, NEW, OWING = Account(balance=MOST), Account(), Account(balance=-0.5, alarms=1)
LICENCE = Licence({"topic": 0.9})
JUST, SURE, REPEAT = Finding(0.6, 0.91), Finding(0.6, 0.98), Finding(0.6, 0.5, repeat=True)


def why(finding: Finding, account: Account, *, suspect: bool = False) -> str | None:
    return withheld(finding, LICENCE, account, suspect=suspect)


def test_a_veto_forbids_even_a_repeat() -> None:
    assert allowed(Finding(0.9, 0.99, "number_swap", repeat=True), LICENCE) is None
    assert allowed(REPEAT, Licence({})) == "repeat" and allowed(JUST, LICENCE) == "topic"


def test_what_an_alarm_cost_is_earned_by_what_is_surer() -> None:
    assert why(JUST, RICH) is None and why(JUST, NEW) is None and why(JUST, OWING) == "unsure"
    assert why(SURE, OWING) is None and why(REPEAT, OWING) is None
    assert why(JUST, replace(OWING, balance=POOR)) is None


def test_rest_and_suspicion_keep_back_everything() -> None:
    assert why(SURE, Account(balance=MOST, rest=3.0)) == "resting"
    assert why(SURE, RICH, suspect=True) == "unconfirmed"


@given(st.floats(0.3, 0.999), st.floats(0.0, 3.0))
def test_surer_is_stricter_but_never_than_the_strictest_of_the_prior(cut: float, surer: float) -> None:
    licence, top = Licence({"topic": cut}), PRIOR["topic"][0][1]
    assert licence.allows({"topic": max(cut, top)}, surer) == "topic"
    assert licence.allows({"topic": cut - 1e-6}, surer) is None


def test_what_is_kept_back_is_judged_and_what_is_far_away_is_not() -> None:
    assert [chance(JUST, OWING, reason, 0.1) for reason in WITHHELD] == [1.0] * len(WITHHELD)
    assert chance(JUST, RICH, None, 0.1) == pytest.approx(RICH.judged)
    assert chance(JUST, None, "unlicensed", 0.1) == 0.1
    assert chance(Finding(0.1, 0.2), None, "unlicensed", 1.0) == 0.0


def test_the_account_hears_of_hits_and_while_it_rests_of_what_would_be_one() -> None:
    resting = Account(rest=3.0)
    assert heard(RICH, None, right=False, chance=0.5) == Served(0, wrong=True, chance=0.5)
    assert heard(resting, "resting", right=False, chance=1.0) == Rehearsed(wrong=True)
    assert heard(resting, "unconfirmed", right=True, chance=1.0) == Rehearsed(wrong=False)
    assert heard(resting, "unconfirmed", right=False, chance=1.0) is None
    assert heard(NEW, "unsure", right=False, chance=1.0) is None
    assert SURER > 0
