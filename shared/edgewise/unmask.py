"""Puts redacted text back into an answer: placeholders become what they stood for, in whole answers and in streams.

A placeholder is `⟨KIND_N⟩`-like text that policy put in the place of personal data before the model saw it. A stream
cuts text anywhere, so the last characters that could be the beginning of a placeholder are held back until more has
come or the choice has ended. Pure: no I/O, no clock; what goes in is never changed.

Restored are the texts that a person reads and the arguments that a tool gets (where the original is escaped as JSON,
since it stands inside a JSON string there).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from edgewise.chat import Answer, Chunk

TEXTS = ("content", "refusal", "reasoning_content")


class Unmask:
    """One per answer. `masked` maps each placeholder to its original."""

    __slots__ = ("_held", "_json", "_longest", "_pattern", "_plain", "_starts")

    def __init__(self, masked: Mapping[str, str]) -> None:
        self._plain = dict(masked)
        self._json = {mark: json.dumps(text, ensure_ascii=False)[1:-1] for mark, text in masked.items()}
        self._pattern = re.compile("|".join(re.escape(mark) for mark in sorted(masked, key=len, reverse=True)))
        self._longest = max(map(len, masked), default=0)
        self._starts = {mark[:length] for mark in masked for length in range(1, len(mark))}
        self._held: dict[tuple[Any, ...], str] = {}

    def answer(self, answer: Answer) -> Answer:
        """A whole answer with its text restored."""
        return Answer(
            {
                **answer.completion,
                "choices": [{**c, "message": self._message(c.get("message") or {})} for c in answer.choices],
            }
        )

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {
            name: self._text(message[name]) for name in TEXTS if isinstance(message.get(name), str)
        }
        if message.get("tool_calls"):
            changed["tool_calls"] = [self._call(call) for call in message["tool_calls"]]
        return {**message, **changed}

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for kind, name, table in (("function", "arguments", self._json), ("custom", "input", self._plain)):
            body = call.get(kind)
            if isinstance(body, Mapping) and isinstance(body.get(name), str):
                changed[kind] = {**body, name: self._text(body[name], table)}
        return {**call, **changed}

    def _text(self, text: str, table: Mapping[str, str] | None = None) -> str:
        table = self._plain if table is None else table
        return self._pattern.sub(lambda found: table[found.group()], text)

    def chunk(self, piece: Chunk) -> list[Chunk]:
        """The chunks to send for `piece`: itself with its text restored, after what its end sets free."""
        before: list[Chunk] = []
        choices = []
        for choice in piece.get("choices") or ():
            index = choice.get("index") or 0
            delta = self._delta(index, choice.get("delta") or {})
            if choice.get("finish_reason") is not None:
                before.extend({**piece, "choices": [late]} for late in self._release(index))
            choices.append({**choice, "delta": delta})
        return [*before, {**piece, "choices": choices} if choices else piece]

    def _delta(self, index: int, delta: Mapping[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for name in TEXTS:
            if isinstance(delta.get(name), str):
                changed[name] = self._flow((index, name), delta[name], self._plain)
        if delta.get("tool_calls"):
            changed["tool_calls"] = [self._call_delta(index, call) for call in delta["tool_calls"]]
        return {**delta, **changed}

    def _call_delta(self, index: int, call: Mapping[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for kind, name, table in (("function", "arguments", self._json), ("custom", "input", self._plain)):
            body = call.get(kind)
            if isinstance(body, Mapping) and isinstance(body.get(name), str):
                place = (index, "tool_calls", call.get("index") or 0, kind, name)
                changed[kind] = {**body, name: self._flow(place, body[name], table)}
        return {**call, **changed}

    def _flow(self, place: tuple[Any, ...], text: str, table: Mapping[str, str]) -> str:
        """What of the text at `place` can go out now."""
        text = self._text_but_tail(place, self._held.pop(place, "") + text)
        return self._text(text, table)

    def _text_but_tail(self, place: tuple[Any, ...], text: str) -> str:
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-length:]
            if tail in self._starts and not self._crosses(text, len(text) - length):
                self._held[place] = tail
                return text[:-length]
        return text

    def _crosses(self, text: str, at: int) -> bool:
        """Whether a whole placeholder lies across `at`, so that text from there on is no new beginning."""
        return any(found.start() < at < found.end() for found in self._pattern.finditer(text))

    def _release(self, index: int) -> list[dict[str, Any]]:
        """The held tails of a choice that has ended, each as a choice of its own."""
        late = []
        for place in [place for place in self._held if place[0] == index]:
            text = self._held.pop(place)
            if len(place) == 2:
                delta: dict[str, Any] = {place[1]: text}
            else:
                delta = {"tool_calls": [{"index": place[2], place[3]: {place[4]: text}}]}
            late.append({"index": index, "delta": delta, "logprobs": None, "finish_reason": None})
        return late
