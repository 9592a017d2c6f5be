"""From large to small: accepted answers of large models as a fine-tuning file for a small one.

Reads exported cache entries. An answer is taken when its tenant consented (a tag on the entry, set with the request),
its question's text was kept, it comes from a model of at least the asked tier, and nothing about it is amiss: whole,
not refused, not filtered, not unsure. Each question counts once; the better model's answer wins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgewise.chat import Answer, ChatRequest
from edgewise.routing import evidence
from edgewise.routing.catalog import Catalog
from edgewise.routing.complexity import normalised
from edgewise.words import TIERS, Tier

Format = Literal["openai", "bedrock"]
CONSENT = "distill"
"""The tag by which a request allows its answer to teach."""
AMISS = frozenset({"unsure", "refusal", "truncated", "empty", "content-filter", "schema", "tool-call", "length"})


@dataclass(slots=True)
class Counts:
    """What was taken, and why the rest was not."""

    taken: int = 0
    left: dict[str, int] = field(default_factory=dict)

    def leave(self, reason: str) -> None:
        self.left[reason] = self.left.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """One question with the answer worth learning. `tokens` about how long it is."""

    question: str
    answer: str
    model: str
    rank: float


def lessons(
    entries: Iterable[Mapping[str, Any]], catalog: Catalog, counts: Counts, *, least: Tier = "large", tag: str = CONSENT
) -> list[Lesson]:
    """The lessons in exported entries, one a question, in the order of their first sight."""
    found: dict[str, Lesson] = {}
    for entry in entries:
        lesson = _lesson(entry, catalog, counts, least, tag)
        if lesson is None:
            continue
        key = normalised(lesson.question)
        if key in found:
            counts.leave("repeated")
            if lesson.rank <= found[key].rank:
                continue
        found[key] = lesson
    counts.taken = len(found)
    return list(found.values())


def _lesson(entry: Mapping[str, Any], catalog: Catalog, counts: Counts, least: Tier, tag: str) -> Lesson | None:
    question, answer = entry.get("text"), Answer(entry.get("answer") or {})
    name = f"{entry.get('provider', '')}/{entry.get('model', '')}"
    model = next(iter(catalog.find(name)), None)
    if tag not in (entry.get("tags") or ()):
        counts.leave("no consent")
    elif not isinstance(question, str) or not question.strip() or entry.get("status", 200) != 200:
        counts.leave("no question")
    elif model is None or TIERS.index(model.tier) < TIERS.index(least):
        counts.leave("small model")
    elif (seen := _confidence(question, answer)).source in AMISS or not answer.text.strip():
        counts.leave(seen.source)
    else:
        return Lesson(question, answer.text, name, model.quality or 0.0)
    return None


def _confidence(question: str, answer: Answer) -> evidence.Confidence:
    request = ChatRequest({"messages": [{"role": "user", "content": question}]})
    return evidence.own(request, answer, base=0.9, usual_log_length=None)


def rows(found: Iterable[Lesson], shape: Format, system: str | None = None) -> Iterator[str]:
    """JSON lines: OpenAI's chat fine-tuning shape, or Bedrock's conversation shape (bedrock-conversation-2024)."""
    for lesson in found:
        if shape == "openai":
            messages = [{"role": "system", "content": system}] if system else []
            messages += [
                {"role": "user", "content": lesson.question},
                {"role": "assistant", "content": lesson.answer},
            ]
            yield json.dumps({"messages": messages}, ensure_ascii=False)
            continue
        row: dict[str, Any] = {
            "schemaVersion": "bedrock-conversation-2024",
            "messages": [
                {"role": "user", "content": [{"text": lesson.question}]},
                {"role": "assistant", "content": [{"text": lesson.answer}]},
            ],
        }
        if system:
            row["system"] = [{"text": system}]
        yield json.dumps(row, ensure_ascii=False)
