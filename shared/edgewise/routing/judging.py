"""A model's verdict on a cheap answer, as evidence: when it is worth asking for, and what it says.

Self-check: the model that answered is shown its answer again. Judge: another model is shown it. Either reads the
question and the answer and says one word (`edgewise.grading`), so a verdict costs its input. It is asked for only

- where the plan with it is worth more than the plan without (`scorer.py`: its price, its errors and its time counted),
- where the answer's own looks leave it open, and either word would decide otherwise than the other,
- and where the deadline leaves time for it and for the strong model.

A judge that fails, or says neither word, is no evidence. How often verdicts err is a prior here, for no public set
records them; what own shadow traffic shows corrects it (`knowing.Counts`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from edgewise.chat import Answer, ChatRequest, text_of
from edgewise.grading import one_word
from edgewise.routing.evidence import Confidence
from edgewise.words import Model, Usd

JUDGE, SELF_CHECK = "judge", "self-check"
SELVES = frozenset({"self", "self-check", "self_check"})
"""How a request asks for a self-check in place of a model's name."""
PASSES: dict[str, tuple[float, float]] = {JUDGE: (0.9, 0.35), SELF_CHECK: (0.95, 0.65)}
"""Share of good answers that pass, and of bad ones that pass too. A model is easily content with itself."""
SETTLED = frozenset({"agreement", "disagreement", "majority"})
"""Evidence that a verdict would add nothing to."""
BROKEN = 0.2
"""Confidence up to which an answer is broken, whatever a judge says."""
RUBRIC_TOKENS = 90
LONGEST_CHARS = 12_000
PROMPT = """Below are a request and an answer to it.
Is the answer correct, complete and in the form that was asked for? Reply with one word: yes or no.

Request:
{asked}

Answer:
{answer}"""


@dataclass(frozen=True, slots=True)
class Grader:
    """Who would grade one candidate's answer to this request, and what that costs. None is unknown."""

    model: Model
    source: str
    cost_usd: Usd | None
    worst_usd: Usd | None
    latency_ms: float


def source_of(grader: Model, answered: Model) -> str:
    return SELF_CHECK if grader.name == answered.name else JUDGE


def passing(quality: float, source: str) -> tuple[float, float]:
    """(share of answers that pass, share of those that are good) of a model that is right in `quality` of them."""
    good, bad = PASSES[source]
    share = quality * good + (1 - quality) * bad
    return share, quality * good / share if share > 0 else 0.0


def after(prior: Confidence, yes: float, source: str) -> Confidence:
    """Confidence in an answer after a verdict that says yes by `yes`, 0 to 1."""
    good, bad = PASSES[source]
    value = prior.value
    passed = value * good / max(1e-9, value * good + (1 - value) * bad)
    failed = value * (1 - good) / max(1e-9, value * (1 - good) + (1 - value) * (1 - bad))
    return Confidence(yes * passed + (1 - yes) * failed, source)


def decides(prior: Confidence, source: str, at_least: float) -> bool:
    """Whether yes would keep the answer and no would not: otherwise nothing is learned for the money."""
    if prior.source in SETTLED or prior.value <= BROKEN:
        return False
    return after(prior, 0.0, source).value < at_least <= after(prior, 1.0, source).value


def put(grader: Model, request: ChatRequest, answer: Answer) -> ChatRequest:
    """The request that puts an answer to its grader. Long texts are cut in the middle."""
    turns = [f"{m.get('role', 'user')}: {text_of(m.get('content'))}" for m in request.messages]
    said = answer.text or json.dumps([call.get("function") for call in answer.tool_calls], ensure_ascii=False)
    return one_word(grader, PROMPT.format(asked=_cut("\n".join(turns)), answer=_cut(said)))


def _cut(text: str) -> str:
    half = LONGEST_CHARS // 2
    return text if len(text) <= LONGEST_CHARS else f"{text[:half]}\n[…]\n{text[-half:]}"
