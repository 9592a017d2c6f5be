"""The bound: no licence above it, however often one looks; evidence fades; a noisy judge is allowed for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.cache.semantic.bound import CUTS, PRIOR, Evidence, Rule, cells_of, licence, log_wealth


def passes(wrong_share: float, bound: float, seed: int, labels: int = 400) -> bool:
    """Whether a licence is ever given while labels of one score come in, looked at after each."""
    chance, evidence = random.Random(seed), Evidence()
    rule = Rule(bound)
    for _ in range(labels):
        evidence.see({"topic": 0.96}, chance.random() < wrong_share)
        if licence(evidence, rule, prior=()).cuts:
            return True
    return False


def test_looking_after_every_label_does_not_break_the_bound() -> None:
    """Wrong just above the bound: a licence in at most alpha of the runs, peeking or not."""
    false = sum(passes(0.11, 0.1, seed) for seed in range(150))
    assert false / 150 <= 0.1


def test_good_answers_earn_a_licence() -> None:
    assert sum(passes(0.01, 0.1, seed) for seed in range(20)) >= 19


def test_without_evidence_only_the_prior_serves() -> None:
    assert licence(Evidence(), Rule(0.02), prior=()).cuts == {}
    cuts = licence(Evidence(), Rule(0.02)).cuts
    assert set(cuts) == {"same"} and cuts["same"] >= dict(PRIOR["same"])[0.02]


def test_wrong_answers_revoke_the_prior() -> None:
    evidence = Evidence()
    for _ in range(6):
        evidence.see({"same": 0.75, "topic": 0.99}, wrong=True)
    kept = licence(evidence, Rule(0.02), prior=("same", "topic")).cuts
    assert kept.get("same", 1.0) > 0.75 and kept.get("topic", 1.0) > 0.99


@given(st.floats(0.005, 0.2), st.floats(0.005, 0.2))
def test_a_looser_bound_never_serves_less(a: float, b: float) -> None:
    tight, loose = sorted((a, b))
    first, second = licence(Evidence(), Rule(tight)).cuts, licence(Evidence(), Rule(loose)).cuts
    assert all(second.get(name, 2.0) <= cut for name, cut in first.items())


def test_an_unreliable_judge_is_allowed_for() -> None:
    assert Rule(0.02, false_alarm=0.05, missed=0.1).reported == pytest.approx(0.02 * 0.9 + 0.98 * 0.05)


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.005, 0.3))
def test_wealth_grows_with_right_answers_and_shrinks_with_wrong_ones(right: int, wrong: int, share: float) -> None:
    here = log_wealth(right, wrong, share)
    assert log_wealth(right + 1, wrong, share) > here > log_wealth(right, wrong + 1, share)


def test_evidence_fades_by_half() -> None:
    evidence = Evidence(at=100.0)
    evidence.see({"same": 0.9}, wrong=False)
    evidence.fade(1100.0, half_life_s=1000.0)
    assert evidence.total() == pytest.approx(0.5)


def test_cells_are_read_by_cut() -> None:
    strictest = CUTS["same"][0]
    assert cells_of({"same": strictest, "topic": 0.0}) == {"same": 0}
    assert cells_of({"same": 0.0}) == {}
