"""Shorter prompts with the same question: only what a key asks for, and what was saved is told.

Four cuts, each off until asked for. Whitespace: runs of spaces and of empty lines. Duplicates: a long paragraph of a
user's turn that the conversation already had. History: the oldest turns, whole turns at a time, until the rest fits
(a tool's result is never parted from the call it answers). Examples: of the few-shot pairs that a client marks by
OpenAI's convention (system messages named `example_user` and `example_assistant`), those most like the question.

Left alone whatever is asked: the operator's instructions, tools' calls and results, JSON, code in fences, in backticks
and by indentation, what stands in double quotes, and lines that are rows of a table. History goes first, so that what
is dropped for having been said before is still there. Similarity is of words unless an embedder is handed in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from edgewise.chat import ChatRequest, text_of
from edgewise.patterns import later
from edgewise.policy.texts import tokens_of

if TYPE_CHECKING:
    from edgewise.policy.terms import Compress

Message = Mapping[str, Any]
Change = Callable[[str], str]

MIN_DUPLICATE_CHARS = 120
OPERATOR = ("system", "developer")
EXAMPLE = ("example_user", "example_assistant")
_FENCE = later(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z))", re.DOTALL)
_KEPT_SPAN = later(r"(`[^`\n]*`|\"[^\"\n]*\")")
_SPACES = later(r"(?<=\S) {2,}(?=\S)")
# Begun at a run's beginning only: from each place within one, a long run would be read to its end anew.
_TRAILING = later(r"(?<![ \t])[ \t]+(?=\n)")
_BLANKS = later(r"\n{3,}")
_WORD = later(r"\w+")


class Likeness(Protocol):
    """How like `question` each of `texts` is; any scale, more is liker."""

    def likeness(self, question: str, texts: Sequence[str]) -> Sequence[float]: ...


class Words:
    """By shared words, weighed by how few of the texts have them."""

    def likeness(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        asked = set(_WORD.findall(question.lower()))
        bags = [set(_WORD.findall(text.lower())) for text in texts]
        spread = {word: 1 + sum(word in bag for bag in bags) for word in asked}
        return [sum(1 / spread[word] for word in asked & bag) / (1 + len(bag)) ** 0.5 for bag in bags]


def compress(request: ChatRequest, wanted: Compress, likeness: Likeness | None = None) -> tuple[ChatRequest, int]:
    """The shorter request, and about how many tokens that saves; the same object and 0 when nothing was cut."""
    messages: list[Message] = list(request.messages)
    if wanted.examples is not None:
        messages = _select_examples(messages, wanted.examples, likeness or Words())
    if wanted.history_tokens is not None:
        messages = _trim(messages, wanted.history_tokens)
    if wanted.duplicates:
        messages = _drop_duplicates(messages)
    if wanted.whitespace:
        messages = [_with_text(message, _squeeze) for message in messages]
    if messages == request.messages:
        return request, 0
    shorter = replace(request, body={**request.body, "messages": messages})
    return shorter, max(0, tokens_of(request) - tokens_of(shorter))


def _with_text(message: Message, change: Change) -> Message:
    """A user's message with `change` made to its prose: what is between fences, and no JSON document. A text of which
    nothing would be left stays: who asks the same again still asks, and providers refuse empty texts."""

    def prose(text: str) -> str:
        if _is_json(text):
            return text
        pieces = _FENCE.split(text)
        pieces[::2] = [change(piece) for piece in pieces[::2]]
        changed = "".join(pieces)
        return changed if changed.strip() else text

    content = message.get("content")
    if message.get("role") != "user":
        return message
    if isinstance(content, str):
        changed: Any = prose(content)
    elif isinstance(content, list):
        changed = [
            {**part, "text": prose(part["text"])} if isinstance(part.get("text"), str) else part for part in content
        ]
    else:
        return message
    return message if changed == content else {**message, "content": changed}


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    except RecursionError:
        return True  # or as good as: nobody's prose
    return True


def _squeeze(text: str) -> str:
    lines = [line if _is_kept(line) else _squeezed(line) for line in text.split("\n")]
    return _BLANKS.sub("\n\n", _TRAILING.sub("", "\n".join(lines)))


def _is_kept(line: str) -> bool:
    """Code by indentation, and rows of a table: by tabs, by bars, or by more than one run of spaces."""
    return line.startswith("    ") or "\t" in line or line.lstrip()[:1] == "|" or len(_SPACES.findall(line)) > 1


def _squeezed(line: str) -> str:
    pieces = _KEPT_SPAN.split(line)
    pieces[::2] = [_SPACES.sub(" ", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _drop_duplicates(messages: list[Message]) -> list[Message]:
    """Without the long paragraphs that stand, word for word, in an earlier one of `messages`."""
    seen: set[str] = set()
    kept = []
    for message in messages:
        kept.append(_with_text(message, lambda text: _fresh(text, seen)))
        for text in text_of(message.get("content")).split("\n\n"):
            if len(key := " ".join(text.split())) >= MIN_DUPLICATE_CHARS:
                seen.add(key)
    return kept


def _fresh(text: str, seen: set[str]) -> str:
    return "\n\n".join(part for part in text.split("\n\n") if " ".join(part.split()) not in seen)


def _turns(messages: list[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The operator's messages at the head, and the conversation in turns, each from a user's message on."""
    at = 0
    while at < len(messages) and messages[at].get("role") in OPERATOR:
        at += 1
    turns: list[list[Message]] = []
    for message in messages[at:]:
        if message.get("role") == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return messages[:at], turns


def _trim(messages: list[Message], most: int) -> list[Message]:
    head, turns = _turns(messages)
    sizes = [tokens_of(ChatRequest({"messages": turn})) for turn in turns]
    kept, total = len(turns), 0
    while kept > 0 and (kept == len(turns) or total + sizes[kept - 1] <= most):
        kept -= 1
        total += sizes[kept]
    # What the operator says in the middle of a conversation holds from there on.
    said = [message for turn in turns[:kept] for message in turn if message.get("role") in OPERATOR]
    return head + said + [message for turn in turns[kept:] for message in turn]


def _select_examples(messages: list[Message], most: int, likeness: Likeness) -> list[Message]:
    """Keep the `most` example pairs whose question is most like the last one, in their own order."""
    pairs = [
        (at, at + 1)
        for at in range(len(messages) - 1)
        if messages[at].get("name") == EXAMPLE[0] and messages[at + 1].get("name") == EXAMPLE[1]
    ]
    if len(pairs) <= most:
        return messages
    question = next((text_of(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), "")
    scores = likeness.likeness(question, [text_of(messages[first].get("content")) for first, _ in pairs])
    best = sorted(range(len(pairs)), key=lambda number: (-scores[number], number))[:most]
    gone = {at for number, pair in enumerate(pairs) if number not in best for at in pair}
    return [message for at, message in enumerate(messages) if at not in gone]
