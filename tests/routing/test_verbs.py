"""`edgewise route` and `edgewise distill`, and what they stand on."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgewise.cli import distill, route
from tests.routing.casting import Stage, answer, request

runner = CliRunner()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEWISE_ROUTING", raising=False)


def test_explain_tells_the_plan_and_what_it_was_weighed_against() -> None:
    said = runner.invoke(route.app, ["explain", "How many primes are below 100?", "--json"])
    told = json.loads(said.stdout)
    assert said.exit_code == 0
    assert told["steps"] and told["reason"] and len(told["considered"]) > 2
    assert told["expected"]["cost_usd"] is not None and told["prices_as_of"]


def test_explain_is_for_people_too() -> None:
    said = runner.invoke(route.app, ["explain", "Say hello", "--strategy", "cascading"])
    assert said.exit_code == 0 and "cascading" in said.stdout


def test_explain_says_what_is_wrong() -> None:
    said = runner.invoke(route.app, ["explain", "Say hello", "--model", "nobody/knows"])
    assert said.exit_code == 1


@pytest.mark.parametrize(
    "wrong", ['[{"name": "no name", "base_url": "x", "api_key": "s3cret"}]', '[{"api_key": "s3cret"']
)
def test_a_setting_that_is_wrong_is_told_in_a_line(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWISE_UPSTREAMS", wrong)
    said = runner.invoke(route.app, ["explain", "Say hello"])
    assert (said.exit_code, len(said.stderr.splitlines())) == (2, 1)
    assert "setting" in said.stderr and "s3cret" not in said.output


async def test_a_logged_decision_is_replayed_through_another_strategy(tmp_path: Path) -> None:
    stage = Stage()
    log = tmp_path / "log.jsonl"
    lines: list[dict[str, Any]] = []
    for number in range(5):
        asked = request(f"How many of {number}00 apples are left?", model="auto:cheap", routing={"strategy": "simple"})
        choice = await stage.choose(asked)
        lines.append({"edgewise.features": dict(choice.features), "gen_ai.response.model": "small/mini"})
    known = [{**line, "edgewise.features": {**line["edgewise.features"], "candidates": KNOWN}} for line in lines]
    log.write_text("\n".join([*(json.dumps(line) for line in known), "not json", "{}"]))
    said = runner.invoke(route.app, ["replay", str(log), "--strategy", "smart-cascade", "--json"])
    told = json.loads(said.stdout)
    assert (told["decisions"], told["skipped"], told["changed_share"]) == (5, 2, 1.0)
    assert told["expected_usd_per_1k"] > 0
    assert runner.invoke(route.app, ["replay", str(log), "--strategy", "nonsense"]).exit_code == 2


KNOWN = ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "openai/gpt-5.4"]


def entry(question: str | None, said: str, **fields: Any) -> dict[str, Any]:
    return {
        "text": question,
        "answer": dict(answer(said, **fields.pop("message", {})).completion),
        "provider": "openai",
        "model": "gpt-5.4",
        "tags": ["distill"],
        "status": 200,
        **fields,
    }


def exported(tmp_path: Path, *entries: dict[str, Any]) -> Path:
    path = tmp_path / "cache.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in entries))
    return path


def test_only_good_answers_of_large_models_with_consent_teach(tmp_path: Path) -> None:
    source = exported(
        tmp_path,
        entry("What is 2 and 2?", "4"),
        entry("What  is 2 and 2? ", "Four."),
        entry("Anything else?", "yes", tags=[]),
        entry("And small?", "yes", model="gpt-5-nano"),
        entry("And refused?", "I'm sorry, but I can't help with that."),
        entry("And cut?", "It is", message={"finish": "length"}),
        entry(None, "no question"),
        entry("And failed?", "x", status=400),
    )
    out = tmp_path / "train.jsonl"
    said = runner.invoke(distill.app, ["export", str(source), str(out), "--json"])
    assert said.exit_code == 0
    told = json.loads(said.stdout)
    assert told["written"] == 1
    assert told["left_out"] == {
        "repeated": 1, "no consent": 1, "small model": 1, "refusal": 1, "truncated": 1, "no question": 2,
    }  # fmt: skip
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]


def test_bedrock_has_a_shape_of_its_own(tmp_path: Path) -> None:
    source = exported(tmp_path, entry("Was ist 2\u2028und 2?", "4"))
    out = tmp_path / "train.jsonl"
    asked = ["export", str(source), str(out), "--format", "bedrock", "--system", "Be brief."]
    assert runner.invoke(distill.app, asked).exit_code == 0
    (row,) = [json.loads(line) for line in out.read_bytes().split(b"\n") if line]
    assert row["schemaVersion"] == "bedrock-conversation-2024"
    assert row["messages"][1] == {"role": "assistant", "content": [{"text": "4"}]}
    assert row["system"] == [{"text": "Be brief."}]


def test_an_unknown_shape_is_refused(tmp_path: Path) -> None:
    asked = ["export", str(exported(tmp_path)), str(tmp_path / "o"), "--format", "other"]
    assert runner.invoke(distill.app, asked).exit_code == 2
