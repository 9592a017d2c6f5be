"""Verdicts as evidence: asked for where they pay and decide something, charged, and never the end of a request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import EdgewiseError, UpstreamUnavailable
from edgewise.routing.evidence import Confidence
from edgewise.routing.judging import JUDGE, LONGEST_CHARS, SELF_CHECK, after, decides, passing, put
from edgewise.routing.knowing import Counts
from edgewise.words import Choice, Live, Model
from tests.routing.casting import ROWS, Stage, answer, request

TEXT = "Explain why the sky is blue."
JUDGED = {"strategy": "confidence", "judge": "other/flash", "prefer": "best"}
ROWS_ALONE = {name: ROWS[name] for name in ("small/mini", "big/opus")}


def stage(*verdicts: str | EdgewiseError, judge: str = "other/flash", rows: Any = ROWS) -> Stage:
    """The small model answers in prose; `verdicts` are what the judge says, one after the other."""
    words = iter(verdicts)
    found = Stage(rows=rows)
    answered: set[str] = set()

    def script(model: Model) -> Any:
        if model.name == judge and (model.name != "small/mini" or model.name in answered):
            return next(words)
        answered.add(model.name)
        return f"from {model.name}"

    found.caller.script = script
    return found


async def confident(stage: Stage, **routing: Any) -> tuple[Choice, Live]:
    rows = {**JUDGED, "models": ["small/mini", "big/opus"], **routing}
    return await stage.ask(request(TEXT, routing=rows))


async def test_an_answer_that_its_judge_passes_is_kept_on_its_word() -> None:
    given = stage("yes")
    choice, live = await confident(given)
    assert live.model.name == "small/mini" and live.confidence_source == "judge"
    assert live.confidence == pytest.approx(0.885, abs=0.01)
    assert [attempt.role for attempt in given.trail] == ["answer", "judge"]
    assert "judge by other/flash" in choice.reason and "kept on judge" in live.reason


async def test_an_answer_that_its_judge_fails_goes_to_the_strong_model() -> None:
    given = stage("no")
    _, live = await confident(given)
    assert live.model.name == "big/opus"
    assert [(a.model.name, a.role) for a in given.trail] == [
        ("small/mini", "answer"), ("other/flash", "judge"), ("big/opus", "answer"),
    ]  # fmt: skip


async def test_a_model_may_check_itself() -> None:
    given = stage("no", judge="small/mini", rows=ROWS_ALONE)
    _, live = await confident(given, judge="self")
    assert live.model.name == "big/opus" and "self-check 0.3" in live.reason
    assert [(a.model.name, a.role) for a in given.trail][1] == ("small/mini", "judge")


@pytest.mark.parametrize("verdict", [UpstreamUnavailable("down"), "I would say that it depends"])
async def test_a_judge_that_says_nothing_is_no_evidence(verdict: str | EdgewiseError) -> None:
    given = stage(verdict)
    _, live = await confident(given)
    assert live.model.name == "small/mini" and live.confidence_source == "prior"


async def test_a_judge_that_is_not_there_fails_no_request() -> None:
    given = stage()
    choice, live = await confident(given, judge="nobody/knows")
    assert choice.steps[0].grader is None and live.answer is not None


async def test_a_judge_that_the_key_may_not_use_is_not_asked() -> None:
    asked = request(TEXT, routing={**JUDGED, "models": ["small/mini", "big/opus"]})
    choice = await Stage().choose(asked, models=("auto", "small/*", "big/*"))
    assert choice.steps[0].grader is None


async def test_what_a_verdict_can_cost_is_held_before_the_call() -> None:
    plain, judged = [
        (await Stage().choose(request(TEXT, routing={**JUDGED, "models": ["small/mini", "big/opus"], "judge": judge})))
        for judge in (None, "other/flash")
    ]
    assert plain.worst_usd is not None and judged.worst_usd is not None and judged.worst_usd > plain.worst_usd
    assert judged.steps[0].grader in judged.models


async def test_no_verdict_is_asked_for_that_costs_more_than_it_brings() -> None:
    """At a thousand points a dollar, a judge of the strong model's price is not worth asking."""
    choice = await Stage().choose(
        request(
            TEXT, routing={**JUDGED, "models": ["small/mini", "big/opus"], "judge": "big/opus", "cost_weight": 1000}
        )
    )
    assert all(step.grader is None for step in choice.steps)


async def test_a_broken_answer_needs_no_judge() -> None:
    given = stage("yes")
    given.caller.script = lambda m: answer("cut", finish="length") if m.name == "small/mini" else "fine"
    _, live = await confident(given)
    assert [attempt.role for attempt in given.trail] == ["answer", "answer"] and live.model.name == "big/opus"


async def test_without_time_for_a_verdict_there_is_none() -> None:
    given = stage("yes")
    rows = {**JUDGED, "models": ["small/mini", "big/opus"]}
    _, live = await given.ask(request(TEXT, routing=rows), within_s=4.0)
    assert "other/flash" not in given.caller.asked and live.answer is not None


async def test_a_held_back_stream_is_judged_too() -> None:
    given = stage("yes")
    _, live = await given.ask(request(TEXT, routing={**JUDGED, "models": ["small/mini", "big/opus"]}, stream=True))
    assert live.chunks is not None and live.confidence_source == "judge"


async def test_hybrid_weighs_the_verdict_as_a_plan_of_its_own() -> None:
    asked = request(TEXT, routing={"judge": "other/flash"})
    labels = [row["plan"] for row in (await Stage().choose(asked)).considered]
    assert any("(judge)" in label for label in labels)


async def test_what_was_seen_of_a_kind_of_evidence_decides_who_answers() -> None:
    """The same looks, once trusted and once known to mislead on this traffic."""
    trusted, misled = stage(), stage()
    misled.room.knowing.counts.seen["small/mini prior"] = (30, 300)
    (_, kept), (_, gone) = [await confident(given, judge=None) for given in (trusted, misled)]
    assert (kept.model.name, gone.model.name) == ("small/mini", "big/opus")
    assert "prior 0.16 < 0.60" in gone.reason


SHARES = st.floats(0.01, 0.99)


@given(SHARES, st.sampled_from([JUDGE, SELF_CHECK]))
def test_a_verdict_moves_confidence_its_own_way(prior: float, source: str) -> None:
    held = Confidence(prior, "prior")
    no, yes = after(held, 0.0, source), after(held, 1.0, source)
    assert no.value <= prior <= yes.value and yes.source == source
    share, right = passing(prior, source)
    assert share * right + (1 - share) * no.value == pytest.approx(prior), "verdicts redistribute, they don't create"


@pytest.mark.parametrize(
    ("prior", "asked"),
    [(Confidence(0.75, "prior"), True), (Confidence(0.99, "prior"), False), (Confidence(0.1, "refusal"), False),
     (Confidence(0.954, "agreement"), False), (Confidence(0.3, "length"), False)],
)  # fmt: skip
def test_a_verdict_is_asked_for_only_where_it_decides(prior: Confidence, asked: bool) -> None:
    assert decides(prior, JUDGE, 0.6) is asked


def test_long_texts_are_cut_in_the_middle() -> None:
    sent = put(Model("p", "m"), request("a" * 50_000), answer("b" * 50_000)).messages[0]["content"]
    assert len(sent) < 2 * LONGEST_CHARS + 1000 and "[…]" in sent


def test_confidence_is_drawn_towards_what_was_seen() -> None:
    counts = Counts()
    for number in range(300):
        counts.add("m", "judge", number % 2 == 0)
    assert counts.calibrated("m", "judge", 0.9) == pytest.approx(0.536, abs=0.01)
    assert counts.calibrated("m", "prior", 0.9) == pytest.approx(0.9)
