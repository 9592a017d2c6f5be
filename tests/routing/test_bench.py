"""The benchmark's own arithmetic, and its bars on recorded data where that is at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from bench.routes import metrics, peers, speed


def test_a_random_score_recovers_half_the_gap_and_an_oracle_more() -> None:
    dice = np.random.default_rng(0)
    weak = (dice.random(20_000) < 0.6).astype(float)
    strong = (dice.random(20_000) < 0.8).astype(float)
    assert metrics.apgr(dice.random(20_000), weak, strong) == pytest.approx(0.5, abs=0.03)
    assert metrics.apgr(strong - weak + 1e-9 * dice.random(20_000), weak, strong) > 0.9
    assert metrics.cpt(dice.random(20_000), weak, strong, 0.5) == pytest.approx(0.5, abs=0.06)


def test_saving_is_read_off_the_curve_and_is_negative_when_dearer() -> None:
    quality, cost = np.array([0.6, 0.8]), np.array([1.0, 10.0])
    assert metrics.saving_at(quality, cost, 0.8, 10.0, 1.0) == 0.0
    assert metrics.saving_at(quality, cost, 0.8, 10.0, 0.875) == pytest.approx(1 - 5.5 / 10)
    assert metrics.saving_at(np.array([0.8]), np.array([12.0]), 0.8, 10.0, 1.0) == pytest.approx(-0.2)
    assert np.isnan(metrics.saving_at(np.array([0.7]), np.array([1.0]), 0.8, 10.0, 1.0))


def test_the_keyword_rule_calls_an_exam_question_simple() -> None:
    exam = "Find the degree for the given field extension Q(sqrt(2), sqrt(3)) over Q.\nA. 0\nB. 4\nC. 2\nD. 6"
    assert peers.litellm_tier(exam) == 0


async def test_dressing_a_question_up_does_not_change_its_route() -> None:
    assert len(speed.DRESSES) >= 5
    assert await speed.dressed(speed.hosted(), speed.TEXTS[:25]) == 1.0


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_bars_are_met_on_recorded_outcomes(data: Path, tmp_path: Path) -> None:
    from bench.routing import main

    assert main(["--data", str(data), "--json", str(tmp_path / "r.json")]) == 0
    sets = json.loads((tmp_path / "r.json").read_text())["sets"]
    mmlu, gsm, zero = sets["routellm_mmlu"], sets["routellm_gsm8k"], sets["zeroeval"]
    assert mmlu["learned@200"]["apgr"] >= 0.615 and mmlu["learned@1500"]["apgr"] >= 0.64
    assert gsm["complexity"]["apgr"] >= 0.60 and gsm["learned@400"]["apgr"] >= 0.63
    assert abs(mmlu["permuted labels (control)"]["apgr"] - 0.5) <= 0.02
    assert zero["hybrid"]["net_saving"] >= 0.47 and zero["hybrid"]["points"] >= -0.5
