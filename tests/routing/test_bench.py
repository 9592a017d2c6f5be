"""The benchmark's own arithmetic, and its bars on recorded data where that is at hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


OURS = ("complexity", "learned@200", "learned@400", "learned@1500")


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
    assert sum(zero["hybrid"]["splits"]["net_saving"]) / 10 >= 0.5 and min(zero["hybrid"]["splits"]["points"]) >= -1
    for name in ("complexity", "cascading", "agreement", "learned", "hybrid"):
        assert zero[name]["refused"] or zero[name]["over_mix"] > 0, name
        assert min(zero[name]["splits"]["over_mix"]) >= -0.5, name
    for name, rows in sets.items():
        for label, row in rows.items():
            if label in OURS and not row["refused"]:
                assert row.get("apgr", 1.0) > 0.5, (name, label)


MODELS = ("gemini-1.5-flash", "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06")


def recorded(folder: Path, rights: Callable[[int], Sequence[bool]], *, answers: bool, count: int = 400) -> list[str]:
    """Arguments for a set of the recorded shape, of Chinese and English questions, with gaps as such files have."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [f"如果{n}个工人每天砌砖，三天一共砌多少块？" if n % 2 else f"What is {n}?" for n in range(count)]
    asked = [{"task": "逻辑", "qid": n, "question": text} for n, text in enumerate(texts)]
    rows = []
    for n in range(count):
        for model, right in zip((*MODELS, "nobody-knows-1"), (*rights(n), True), strict=True):
            row = {
                "task": "逻辑",
                "qid": n,
                "model": model,
                "correct": right,
                "out_tokens": 40 + n % 30 if n % 7 else None,
            }
            said = "" if n % 50 == 0 else "right" if right else f"{model} {n}"
            rows.append(row | ({"answer": said} if answers else {}))
    pq.write_table(pa.Table.from_pylist(rows), folder / "odd_outcomes.parquet")
    (folder / "odd_questions.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in asked))
    return ["--outcomes", str(folder / "odd_outcomes.parquet"), "--questions", str(folder / "odd_questions.jsonl")]


def report(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    from bench import routing
    from bench.routes import outcome_bench

    monkeypatch.setattr(outcome_bench, "SPLITS", 2)
    monkeypatch.setattr(outcome_bench, "CONTROLS", 1)
    monkeypatch.setattr(speed, "measure", dict)
    assert routing.main([*arguments, "--json", str(folder / "r.json")]) == 0
    found: dict[str, Any] = json.loads((folder / "r.json").read_text())["sets"]["odd"]
    return found


def test_where_routing_cannot_pay_it_refuses_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(1)
    chances = dice.random((400, 3)) < (0.3, 0.35, 0.9)
    given = recorded(tmp_path, lambda n: [bool(right) for right in chances[n]], answers=False)
    found = report(given, tmp_path, monkeypatch)
    for name in ("complexity", "cascading", "learned", "hybrid"):
        assert found[name]["refused"] and found[name]["net_saving"] == 0.0, name


def test_where_cheap_models_agree_on_what_is_right_it_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(2)
    chances = dice.random((400, 3)) < (0.8, 0.8, 0.9)
    given = recorded(tmp_path, lambda n: [bool(right) for right in chances[n]], answers=True)
    found = report(given, tmp_path, monkeypatch)["hybrid"]
    assert not found["refused"] and found["net_saving"] > 0.4 and found["points"] > -2 and found["over_mix"] > 0


@pytest.mark.parametrize("count", [6, 40])
def test_a_few_questions_are_no_ground_to_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    given = recorded(tmp_path, lambda n: (n % 3 > 0, n % 4 > 0, n % 5 > 0), answers=True, count=count)
    assert report(given, tmp_path, monkeypatch)["hybrid"]["refused"]
