"""Shorter prompts with the same question: only what a key asks for, and what was saved is told.

Four cuts, each off until asked for. Whitespace: runs of spaces and of empty lines outside code. Duplicates: a long
paragraph that the conversation already had. History: the oldest turns, whole turns at a time, until the rest fits
(a tool's result is never parted from the call it answers). Examples: of the few-shot pairs that a client marks by
OpenAI's convention (system messages named `example_user` and `example_assistant`), those most like the question.

The last user turn and the operator's own instructions are never cut. Similarity is of words unless an embedder is
handed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from edgewise.chat import ChatRequest, text_of
from edgewise.policy.texts import tokens_of

if TYPE_CHECKING:
    from edgewise.policy.terms import Compress

Message = Mapping[str, Any]

MIN_DUPLICATE_CHARS = 120
EXAMPLE = ("example_user", "example_assistant")
_FENCE = re.compile(r"(```.*?(?:```|\Z))", re.DOTALL)
_SPACES = re.compile(r"(?<=\S)[ \t]{2,}")
_TRAILING = re.compile(r"[ \t]+(?=\n)")
_BLANKS = re.compile(r"\n{3,}")
_WORD = re.compile(r"\w+")


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
    if wanted.duplicates:
        messages = _drop_duplicates(messages)
    if wanted.whitespace:
        messages = [_with_text(message, _squeeze) for message in messages]
    if wanted.history_tokens is not None:
        messages = _trim(messages, wanted.history_tokens)
    if messages == request.messages:
        return request, 0
    shorter = replace(request, body={**request.body, "messages": messages})
    return shorter, max(0, tokens_of(request) - tokens_of(shorter))


def _with_text(message: Message, change: Any) -> Message:
    content = message.get("content")
    if isinstance(content, str):
        changed: Any = change(content)
    elif isinstance(content, list):
        changed = [
            {**part, "text": change(part["text"])} if isinstance(part.get("text"), str) else part for part in content
        ]
    else:
        return message
    return message if changed == content else {**message, "content": changed}


def _squeeze(text: str) -> str:
    pieces = _FENCE.split(text)
    for at in range(0, len(pieces), 2):
        pieces[at] = _BLANKS.sub("\n\n", _TRAILING.sub("", _SPACES.sub(" ", pieces[at])))
    return "".join(pieces)


def _drop_duplicates(messages: list[Message]) -> list[Message]:
    """Without the paragraphs that an earlier message already had; the last turn keeps all of its own words."""
    seen: set[str] = set()

    def fresh(text: str) -> str:
        kept = []
        for paragraph in text.split("\n\n"):
            key = " ".join(paragraph.split())
            if len(key) >= MIN_DUPLICATE_CHARS and key in seen:
                continue
            seen.add(key)
            kept.append(paragraph)
        return "\n\n".join(kept)

    return [_with_text(message, fresh) if message.get("role") != "assistant" else message for message in messages]


def _turns(messages: list[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The operator's messages at the head, and the conversation in turns, each from a user's message on."""
    at = 0
    while at < len(messages) and messages[at].get("role") in ("system", "developer"):
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
    return head + [message for turn in turns[kept:] for message in turn]


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
