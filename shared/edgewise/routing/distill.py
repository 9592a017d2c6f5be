"""From large to small: accepted answers of large models as a fine-tuning file for a small one.

Reads exported cache entries. An answer is taken when its tenant consented (a tag on the entry, set with the request,
by which the conversation is kept beside the answer), it comes from a model of at least the asked tier, and nothing
about it is amiss: whole, not refused, not filtered, not unsure. A conversation teaches with its system message and its
earlier turns, as it was answered; one with tools or images is left out. Each counts once; the better model's answer
wins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgewise.chat import Answer, ChatRequest, text_of
from edgewise.routing import evidence
from edgewise.routing.catalog import Catalog
from edgewise.routing.complexity import normalised
from edgewise.words import TEACHES, TIERS, Tier

Format = Literal["openai", "bedrock"]
Turn = tuple[str, str]
"""Role and text."""
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
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
    """One conversation, its last turn the user's, with the answer worth learning."""

    turns: tuple[Turn, ...]
    answer: str
    rank: float


def lessons(
    entries: Iterable[Mapping[str, Any]], catalog: Catalog, counts: Counts, *, least: Tier = "large", tag: str = TEACHES
) -> list[Lesson]:
    """The lessons in exported entries, one a question, in the order of their first sight."""
    found: dict[str, Lesson] = {}
    for entry in entries:
        lesson = _lesson(entry, catalog, counts, least, tag)
        if lesson is None:
            continue
        key = "\0".join(f"{role} {normalised(text)}" for role, text in lesson.turns)
        if key in found:
            counts.leave("repeated")
            if lesson.rank <= found[key].rank:
                continue
        found[key] = lesson
    counts.taken = len(found)
    return list(found.values())


def _lesson(entry: Mapping[str, Any], catalog: Catalog, counts: Counts, least: Tier, tag: str) -> Lesson | None:
    turns, answer = turns_of(entry), Answer(entry.get("answer") or {})
    name = f"{entry.get('provider', '')}/{entry.get('model', '')}"
    model = next(iter(catalog.find(name)), None)
    if tag not in (entry.get("tags") or ()):
        counts.leave("no consent")
    elif turns is None or entry.get("status", 200) != 200:
        counts.leave("no question")
    elif model is None or TIERS.index(model.tier) < TIERS.index(least):
        counts.leave("small model")
    elif (seen := _confidence(turns[-1][1], answer)).source in AMISS or not answer.text.strip():
        counts.leave(seen.source)
    else:
        return Lesson(turns, answer.text, model.quality or 0.0)
    return None


def turns_of(entry: Mapping[str, Any]) -> tuple[Turn, ...] | None:
    """What was asked, as plain turns; None when it was not kept, or is not text alone, or doesn't end with a user."""
    messages = entry.get("messages")
    if messages is None:
        messages = [{"role": "user", "content": entry.get("text")}]
    turns = []
    for message in messages:
        role, content = ROLES.get(str(message.get("role"))), message.get("content")
        plain = isinstance(content, str) or (
            isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content)
        )
        text = text_of(content).strip()
        if role is None or not plain or not text or message.get("tool_calls"):
            return None
        turns.append((role, text))
    return tuple(turns) if turns and turns[-1][0] == "user" else None


def _confidence(question: str, answer: Answer) -> evidence.Confidence:
    request = ChatRequest({"messages": [{"role": "user", "content": question}]})
    return evidence.own(request, answer, base=0.9, usual_log_length=None)


def rows(found: Iterable[Lesson], shape: Format, system: str | None = None) -> Iterator[str]:
    """JSON lines: OpenAI's chat fine-tuning shape, or Bedrock's conversation shape (bedrock-conversation-2024).

    system  put before the conversations that have no system message of their own
    """
    for lesson in found:
        turns = [*lesson.turns, ("assistant", lesson.answer)]
        if system and all(role != "system" for role, _ in turns):
            turns.insert(0, ("system", system))
        if shape == "openai":
            row: dict[str, Any] = {"messages": [{"role": role, "content": text} for role, text in turns]}
        else:
            said = [{"role": role, "content": [{"text": text}]} for role, text in turns if role != "system"]
            row = {"schemaVersion": "bedrock-conversation-2024", "messages": said}
            if steering := [{"text": text} for role, text in turns if role == "system"]:
                row["system"] = steering
        yield json.dumps(row, ensure_ascii=False)
