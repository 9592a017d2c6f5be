"""A chat answer as an Anthropic message, whole or as its events.

The events of one message, in order: message_start; for each block, numbered from 0: content_block_start, its deltas,
content_block_stop; then message_delta with the reason and the counts, and message_stop. An error is an event of its
own, after which nothing comes. There is no [DONE].

Anthropic counts cached and written tokens beside the prompt, chat as a part of it, so they are taken out again. Which
of the client's sequences stopped an answer chat does not say, so it is a plain end of turn.

Pure but for the id, which is handed in. Source: https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from edgewise.chat import Answer, Chunk, Usage
from edgewise.errors import EdgewiseError

Event = dict[str, Any]
_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_of(error: EdgewiseError, request_id: str) -> dict[str, Any]:
    """An error's body."""
    kind = _ERRORS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def whole(answer: Answer, id: str) -> dict[str, Any]:
    """The message for a whole answer. Only the first choice is told: a message is one answer."""
    choice = answer.choices[0] if answer.choices else {}
    return {
        **_opening(id, answer.model),
        "content": list(_blocks(choice.get("message") or {})),
        "stop_reason": _REASONS.get(str(choice.get("finish_reason")), "end_turn"),
        "usage": usage_of(answer.usage or Usage()),
    }


def _opening(id: str, model: str) -> dict[str, Any]:
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_of(Usage()),
    }


def _blocks(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    signed = message.get("thinking_blocks") or ()
    yield from signed
    if not signed and message.get("reasoning_content"):
        yield {"type": "thinking", "thinking": message["reasoning_content"], "signature": ""}
    if said := message.get("content") or message.get("refusal"):
        yield {"type": "text", "text": said}
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        yield {
            "type": "tool_use",
            "id": call.get("id"),
            "name": function.get("name"),
            "input": _input(function.get("arguments")),
        }


def _input(arguments: Any) -> dict[str, Any]:
    """A call's arguments as the object that they should be; what is none is shown under a name of its own."""
    try:
        read = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        read = arguments
    return read if isinstance(read, dict) else {"arguments": read}


class Telling:
    """Chunks in, events out."""

    def __init__(self, id: str, model: str) -> None:
        self._id = id
        self._model = model
        self._begun = False
        self._index = -1
        self._open = ""
        """What the open block is: 'text', 'thinking', a call's number, or '' for none."""
        self._reason = "end_turn"
        self._usage = Usage()

    def add(self, chunk: Chunk) -> list[Event]:
        """The events that `chunk` brings."""
        events: list[Event] = []
        if not self._begun:
            self._begun = True
            events.append({"type": "message_start", "message": _opening(self._id, chunk.get("model") or self._model)})
        if (usage := Usage.of(chunk.get("usage"))) is not None:
            self._usage = usage
        for choice in chunk.get("choices") or ():
            if choice.get("index") or 0:
                continue
            events += self._delta(choice.get("delta") or {})
            if choice.get("finish_reason") is not None:
                self._reason = _REASONS.get(choice["finish_reason"], "end_turn")
        return events

    def _delta(self, delta: Mapping[str, Any]) -> list[Event]:
        events: list[Event] = []
        if thought := delta.get("reasoning_content"):
            events += self._say("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            events.append(self._piece({"type": "thinking_delta", "thinking": thought}))
        for block in delta.get("thinking_blocks") or ():
            events += self._signed(block)
        if text := delta.get("content") or delta.get("refusal"):
            events += self._say("text", {"type": "text", "text": ""})
            events.append(self._piece({"type": "text_delta", "text": text}))
        for call in delta.get("tool_calls") or ():
            events += self._call(call)
        return events

    def _signed(self, block: Mapping[str, Any]) -> list[Event]:
        """A thought that is whole: its text has been told, its signature ends it."""
        if block.get("type") == "redacted_thinking":
            return [*self._say("redacted", dict(block)), *self._close()]
        told: list[Event] = []
        if self._open != "thinking":
            told = self._say("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            told.append(self._piece({"type": "thinking_delta", "thinking": block.get("thinking") or ""}))
        signature = self._piece({"type": "signature_delta", "signature": block.get("signature") or ""})
        return [*told, signature, *self._close()]

    def _call(self, call: Mapping[str, Any]) -> list[Event]:
        function = call.get("function") or {}
        block: dict[str, Any] = {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": {}}
        events = self._say(f"call {call.get('index') or 0}", block)
        if arguments := function.get("arguments"):
            events.append(self._piece({"type": "input_json_delta", "partial_json": arguments}))
        return events

    def _say(self, what: str, block: dict[str, Any]) -> list[Event]:
        """The events that open `block`, unless it is open."""
        if self._open == what:
            return []
        closed = self._close()
        self._open = what
        self._index += 1
        return [*closed, {"type": "content_block_start", "index": self._index, "content_block": block}]

    def _piece(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close(self) -> list[Event]:
        if not self._open:
            return []
        self._open = ""
        return [{"type": "content_block_stop", "index": self._index}]

    def end(self) -> list[Event]:
        """The events after the last chunk of a whole stream."""
        opening = self.add({}) if not self._begun else []
        delta = {"stop_reason": self._reason, "stop_sequence": None}
        return [
            *opening,
            *self._close(),
            {"type": "message_delta", "delta": delta, "usage": usage_of(self._usage)},
            {"type": "message_stop"},
        ]
