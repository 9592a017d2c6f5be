"""What the assembled gateway leaves behind can be used: log lines are explained and replayed, kept answers teach."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgewise.assemble.edge import around
from edgewise.assemble.house import build
from edgewise.cli import distill, route
from edgewise.settings import Settings
from tests.assemble.test_gateway import ROOT, Gateway, told
from tests.assemble.test_learning import ROWS

runner = CliRunner()
QUESTION = "What is the capital of Portugal? [[script text=Lisbon.]]"


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    # The command line is told of the deployment's models as the deployment is.
    monkeypatch.setenv("EDGEWISE_MODEL_OVERRIDES", json.dumps(ROWS))
    application = around(build(Settings(root_key=ROOT, scripted_model=True, model_overrides=ROWS)))
    async with application.router.lifespan_context(application):
        yield Gateway(application)


async def test_log_lines_are_replayed_and_explained(
    gateway: Gateway, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    for n in range(6):
        routing = {"strategy": "simple", "prefer": "best" if n % 2 else "cheap"}
        await gateway.say(f"How many of {n + 10} apples are left?", ROOT, "auto", routing=routing)
    got = await gateway.say("Prove it, step by step.", ROOT, "auto:cascading")
    await gateway.say("hello", ROOT, "nobody/knows")
    log = tmp_path / "gateway.log"
    log.write_bytes(capfdbinary.readouterr().out)

    said = runner.invoke(route.app, ["replay", str(log), "--strategy", "cascading", "--json"])
    replayed = json.loads(said.stdout)
    assert (replayed["decisions"], replayed["skipped"]) == (7, 1)
    assert 0 < replayed["changed_share"] < 1 and replayed["expected_usd_per_1k"] > 0
    assert set(replayed["models"]) <= {"scripted/weak", "scripted/other", "scripted/strong"}

    said = runner.invoke(route.app, ["explain", got.headers["x-request-id"], "--log", str(log), "--json"])
    explained = json.loads(said.stdout)
    assert explained["strategy"] == explained["logged"]["strategy"] == "cascading"
    assert explained["logged"]["model"] == told(got, "model") and explained["considered"]
    steps = [model for step in explained["steps"] for model in step["models"]]
    assert told(got, "model") in steps
    assert runner.invoke(route.app, ["explain", "req_nobody", "--log", str(log)]).exit_code == 1
    assert runner.invoke(route.app, ["explain", got.headers["x-request-id"], "--log", str(log)]).exit_code == 0


@pytest.mark.parametrize("shape", ["openai", "bedrock"])
async def test_kept_answers_whose_requests_consented_teach(gateway: Gateway, tmp_path: Path, shape: str) -> None:
    key, other = await gateway.new_key(), await gateway.new_key("bolt")
    consent = {"tags": ["distill"]}
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    taught = {"model": "scripted/strong", "messages": turns, "cache": consent}
    assert (await gateway.call("POST", "/chat/completions", key, taught)).status == 200
    await gateway.say(QUESTION.replace("Portugal", "Spain"), key, "scripted/weak", cache=consent)
    await gateway.say(QUESTION.replace("Portugal", "Italy"), other, "scripted/strong")
    exported = await gateway.call("GET", "/admin/cache/entries", ROOT)
    (tmp_path / "kept.jsonl").write_bytes(exported.body)
    out = tmp_path / "lessons.jsonl"
    said = runner.invoke(distill.app, ["export", str(tmp_path / "kept.jsonl"), str(out), "--format", shape, "--json"])
    counted = json.loads(said.stdout)
    assert counted == {"written": 1, "left_out": {"small model": 1, "no consent": 1}}
    (row,) = [json.loads(line) for line in out.read_bytes().split(b"\n") if line]
    said_of = [(message["role"], message["content"]) for message in row["messages"]]
    if shape == "openai":
        assert said_of == [("system", "Be brief."), ("user", QUESTION), ("assistant", "Lisbon.")]
    else:
        assert said_of == [("user", [{"text": QUESTION}]), ("assistant", [{"text": "Lisbon."}])]
        assert (row["schemaVersion"], row["system"]) == ("bedrock-conversation-2024", [{"text": "Be brief."}])
