"""`edgewise cache audit` over a whole gateway: what it asks, what it counts, and the settings that it prints."""

from __future__ import annotations

import asyncio
import io
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgewise.assemble.edge import around
from edgewise.assemble.house import build
from edgewise.assemble.judging import BEFORE
from edgewise.chat import ChatRequest
from edgewise.cli import audit
from edgewise.cli.main import main
from edgewise.settings import Settings, Upstream
from tests import fakes
from tests.assemble.test_gateway import ROOT
from tests.assemble.test_judging import Pair, quoted
from tests.cli.test_warm import serving

REFUSED = "(refused)"


@dataclass
class Lab:
    """A provider whose writer answers and whose judge says what the test wants."""

    says: Callable[[Pair], str] = lambda _: "no"
    writes: Callable[[str], str] = "The answer to {}".format
    verdicts: list[Pair] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})
            return
        raw, more = b"", True
        while more:
            part = await receive()
            raw, more = raw + part["body"], part.get("more_body", False)
        said = self.answer(ChatRequest(json.loads(raw)))
        answer = {"error": {"message": "too long"}} if said == REFUSED else fakes.saying(said).completion
        told = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": 400 if said == REFUSED else 200, "headers": headers})
        await send({"type": "http.response.body", "body": told})

    def answer(self, request: ChatRequest) -> str:
        text = request.messages[-1]["content"]
        if not text.startswith(BEFORE):
            self.questions.append(text)
            return self.writes(text)
        self.verdicts.append(quoted(request))
        return self.says(self.verdicts[-1])


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    provider = Lab()
    async with serving(provider) as url:
        price = {"price": {"i": "1", "o": "2"}, "capabilities": []}
        settings = Settings(
            root_key=ROOT,
            request_log=False,
            upstreams=(Upstream(name="lab", base_url=f"{url}/v1", models=("judge", "writer")),),
            model_overrides={"lab/judge": price, "lab/writer": price},
        )
        async with serving(around(build(settings))) as gateway:
            monkeypatch.setenv("EDGEWISE_URL", gateway)
            monkeypatch.setenv("EDGEWISE_KEY", ROOT)
            monkeypatch.setenv("EDGEWISE_CACHE_JUDGE_MODEL", "lab/judge")
            yield provider


async def audited(*words: str) -> int:
    def run() -> int:
        try:
            return main(["cache", "audit", *words])
        except SystemExit as done:
            return int(done.code or 0)

    return await asyncio.to_thread(run)


def listed(folder: Path, same: int, different: int, *others: dict[str, Any], **more: str) -> str:
    rows = [{"a": f"What is {n}?", "b": f"Tell me what {n} is.", "same_answer": True, **more} for n in range(same)]
    rows += [{"a": f"What is {n}?", "b": f"What is {n} of?", "same_answer": False, **more} for n in range(different)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *others]))
    return str(folder / "pairs.jsonl")


def says(pair: Pair) -> str:
    """Two false alarms in forty, one wrong match in eighty let pass, and one that it can't tell."""
    asked = pair[0]
    if asked.startswith("Tell"):
        return "no" if asked.split()[3] in ("3", "7") else "yes"
    return {"5": "yes", "6": "Perhaps."}.get(asked.split()[2], "no")


async def test_what_the_judge_gets_wrong_is_counted_and_becomes_settings(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exact limits, each on its safe side: 2 of 40 at least, 2 of 80 at most; and what is printed can be set."""
    lab.says = says
    file = listed(tmp_path, 40, 80, answer="It is so.")
    assert await audited(file, "--yes", "--json") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert "120 verdicts, about $" in err and "unknown" not in err
    assert told["false_alarm"] == {"pairs": 40, "yes": 38, "no": 2, "unclear": 0, "share": 0.05, "limit": 0.0061}
    assert told["missed"] == {"pairs": 80, "yes": 1, "no": 78, "unclear": 1, "share": 0.025, "limit": 0.0874}
    assert told["settings"] == {
        "cache_judge_model": "lab/judge",
        "cache_judge_missed": 0.088,
        "cache_judge_false_alarm": 0.006,
    }
    assert told["tighter"]["missed"] == 0.057 and 80 < told["tighter"]["different_pairs"] < 400
    assert {(row["b"], row["said"]) for row in told["mistakes"]} == {
        ("Tell me what 3 is.", False),
        ("Tell me what 7 is.", False),
        ("What is 5 of?", True),
        ("What is 6 of?", None),
    }
    assert float(told["cost_usd"]) == pytest.approx(120 * (5 * 1 + 7 * 2) / 1e6)
    assert lab.questions == [] and len(lab.verdicts) == 120
    assert lab.verdicts[0][2] == "It is so."
    assert Settings.from_env({"EDGEWISE_SETTINGS": json.dumps(told["settings"])}).cache_judge_missed == 0.088

    assert await audited(file, "--yes") == 0
    shown = capsys.readouterr().out
    assert "same answer         40 pairs: 38 yes, 2 no, 0 can't tell; false alarm 5.0%, at least 0.6%" in shown
    assert "different answer    80 pairs: 1 yes, 78 no, 1 can't tell; missed 2.5%, at most 8.7%" in shown
    assert f"EDGEWISE_SETTINGS='{json.dumps(told['settings'])}'" in shown
    assert len(lab.verdicts) == 240, "a verdict is never taken from the cache"


async def test_an_answer_that_is_missing_is_asked_for_once_and_its_cost_is_said_first(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = listed(tmp_path, 3, 3)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert await audited(file, "--answers-by", "lab/writer") == 1
    shown = capsys.readouterr().out
    assert "3 answers, about $" in shown and "6 verdicts, about $" in shown
    assert lab.questions == [] and lab.verdicts == []
    await audited(file, "--answers-by", "lab/writer", "--yes")
    assert sorted(lab.questions) == [f"What is {n}?" for n in range(3)]
    assert {(kept, answer) for _, kept, answer in lab.verdicts} == {
        (text, f"The answer to {text}") for text in lab.questions
    }


async def test_a_judge_that_always_says_yes_gets_no_settings(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.says = lambda _: "yes"
    assert await audited(listed(tmp_path, 50, 50, answer="x"), "--yes") == 1
    shown = capsys.readouterr().out
    assert "missed 100.0%, at most 100.0%" in shown and "No settings" in shown and "EDGEWISE_SETTINGS" not in shown


async def test_without_a_file_the_project_s_own_pairs_are_asked_and_declare_no_false_alarms(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are harder than traffic: what is missed is then too high, which is safe; false alarms would be too."""
    lab.says = says
    monkeypatch.setattr(audit, "OWN_PAIRS", Path(listed(tmp_path, 40, 80, answer="x")))
    assert await audited("--yes", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["false_alarm"]["limit"] > 0 and told["own_pairs"]
    assert told["settings"]["cache_judge_false_alarm"] == 0.0 and told["settings"]["cache_judge_missed"] == 0.088


def test_the_project_s_own_pairs_are_what_its_blocks_say() -> None:
    """A block of bench/pairs is a question, further wordings after '=', look-alikes after '!' and a letter. Two authors
    may have begun with the same question."""
    blocks: defaultdict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for file in sorted((Path(__file__).parents[2] / "bench" / "pairs").glob("*.txt")):
        for block in file.read_text("utf-8").split("\n\n"):
            first, *more = [line for line in block.splitlines() if not line.startswith("#")]
            wordings, lines = blocks[first]
            wordings |= {line[2:].strip() for line in more if line.startswith("=")}
            lines |= {line[2:].strip() for line in more}
    pairs = list(audit._pairs(audit.OWN_PAIRS))
    assert len(pairs) == 416 and sum(pair.same_answer for pair in pairs) == 208
    for pair in pairs:
        wordings, lines = blocks[pair.a]
        assert pair.b in lines and (pair.b in wordings) is pair.same_answer


async def test_calls_that_fail_are_said_counted_and_spoil_no_rate(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither those of the judge nor those for an answer."""
    unanswered, refused = {"a": "A?", "b": "B?", "same_answer": True}, {"a": "C?", "b": "D?", "same_answer": True}
    file = listed(tmp_path, 40, 80, unanswered, {**refused, "answer": "x"}, answer="x")
    lab.says = lambda pair: REFUSED if pair[0] == "D?" else says(pair)
    lab.writes = lambda _: REFUSED
    assert await audited(file, "--yes", "--json", "--answers-by", "lab/writer", "--parallel", "3") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["failed"] == 2 and err.count("edgewise: 400") == 2
    assert json.loads(out)["false_alarm"]["pairs"] == 40


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"a": "x", "b": "y"}', "pair 1 of"),
        ('{"a": "x", "b": 2, "same_answer": true}', "pair 1 of"),
        ('{"a": "x", "b": "y", "same_answer": "yes"}', "pair 1 of"),
        ("[1]", "is not a JSON object"),
    ],
)
async def test_a_line_that_is_no_pair_is_told(
    line: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pairs.jsonl").write_text(line + "\n")
    assert await audited(str(tmp_path / "pairs.jsonl"), "--model", "openai/gpt-4o-mini") == 2
    assert told in capsys.readouterr().err


async def test_no_judge_and_no_pairs_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("EDGEWISE_CACHE_JUDGE_MODEL", raising=False)
    assert await audited() == 2
    assert "EDGEWISE_CACHE_JUDGE_MODEL" in capsys.readouterr().err
    assert await audited("--model", "judge") == 2
    assert "provider/model" in capsys.readouterr().err
    assert await audited(listed(tmp_path, 0, 0), "--model", "lab/judge") == 2
    assert "has no pairs" in capsys.readouterr().err
