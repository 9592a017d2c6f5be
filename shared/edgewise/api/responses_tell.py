"""A chat answer as a `response` object, whole or as its events.

The events of one response, in order: created, in_progress; for each output item: added, its parts' or arguments'
deltas, done; then completed, incomplete or failed. Every event has a number, and there is no [DONE]. The object that
ends the stream is the object that a request without `stream` would have got.

Pure but for the ids and the time, which the clock gives; shared by everything that answers the Responses API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewise.chat import Answer, Chunk, Usage
from edgewise.clock import Clock
from edgewise.errors import ContentRefused, EdgewiseError, RateLimited, UpstreamRateLimited

Event = dict[str, Any]
Token = Callable[[str], str]
"""Makes the id of an output item, by its prefix."""
_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response says of its request, and what stands for a field that the request left out."""


def _echo(body: Mapping[str, Any]) -> dict[str, Any]:
    echoed = {name: usual if body.get(name) is None else body[name] for name, usual in _ECHOED.items()}
    if echoed["service_tier"] == "auto":
        echoed["service_tier"] = "default"
    if echoed["user"] is None:
        del echoed["user"]
    wished, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    return {
        **echoed,
        "text": {"format": {"type": "text"}, **wished},
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "tools": [
            {"strict": None, "parameters": None, **tool} if tool.get("type") == "function" else tool
            for tool in body.get("tools") or ()
        ],
    }


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def new(body: Mapping[str, Any], clock: Clock, *, id: str | None = None, status: str = "in_progress") -> dict[str, Any]:
    """A response to the create request `body`, without output yet; `usage` comes when it is known."""
    return {
        "id": id or clock.token("resp_"),
        "object": "response",
        "created_at": int(clock.now()),
        "status": status,
        "background": body.get("background") is True,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": body["model"],
        "output": [],
        **_echo(body),
    }


@dataclass(slots=True)
class _Item:
    """One output item on its way: `wire` is what it is so far."""

    index: int
    wire: dict[str, Any]
    pieces: list[str] = field(default_factory=list)
    part: str = ""
    """The kind of the open content part: 'output_text', 'refusal' or '' for a call."""
    logprobs: list[Any] = field(default_factory=list)


_CALLS = {
    "function": ("function_call", "fc_", "arguments", "response.function_call_arguments"),
    "custom": ("custom_tool_call", "ctc_", "input", "response.custom_tool_call_input"),
}
_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Telling:
    """Chunks in, events out; `response` is the object so far and, after `end` or `failed`, as it stays."""

    def __init__(
        self, body: Mapping[str, Any], clock: Clock, *, id: str | None = None, token: Token | None = None
    ) -> None:
        self._clock = clock
        self._token = token or clock.token
        self._number = -1
        self._open: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._reason: str | None = None
        self.response = new(body, clock, id=id)

    def begin(self) -> list[Event]:
        return [
            self._event("response.created", response=dict(self.response)),
            self._event("response.in_progress", response=dict(self.response)),
        ]

    def add(self, chunk: Chunk) -> list[Event]:
        """The events that `chunk` brings. Only the first choice is told: a response has one answer."""
        if chunk.get("model"):
            self.response["model"] = chunk["model"]
        if (usage := Usage.of(chunk.get("usage"))) is not None:
            self.response["usage"] = usage_of(usage)
        events: list[Event] = []
        for choice in chunk.get("choices") or ():
            if choice.get("index") or 0:
                continue
            self._reason = choice.get("finish_reason") or self._reason
            delta = choice.get("delta") or {}
            if delta.get("content"):
                logprobs = (choice.get("logprobs") or {}).get("content") or []
                events += self._text("output_text", delta["content"], logprobs)
            if delta.get("refusal"):
                events += self._text("refusal", delta["refusal"], [])
            for call in delta.get("tool_calls") or ():
                events += self._call(call)
        return events

    def end(self) -> list[Event]:
        """The events after the last chunk of a whole answer."""
        events = self._close()
        cut = _REASONS.get(self._reason or "")
        self.response["status"] = "incomplete" if cut else "completed"
        if cut:
            self.response["incomplete_details"] = {"reason": cut}
        else:
            self.response["completed_at"] = int(self._clock.now())
        return [*events, self._event(f"response.{self.response['status']}", response=dict(self.response))]

    def failed(self, error: EdgewiseError) -> list[Event]:
        """The event after which nothing comes. Before `begin` it is a bare error: there is no response to fail."""
        if self._number < 0:
            return [self._event("error", code=error.code, message=error.message, param=error.param)]
        self.response["status"] = "failed"
        self.response["error"] = error_of(error)
        return [self._event("response.failed", response=dict(self.response))]

    def _event(self, kind: str, **rest: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **rest}

    def _item(self, wire: dict[str, Any]) -> tuple[_Item, Event]:
        item = _Item(len(self.response["output"]), wire)
        self.response["output"] = [*self.response["output"], wire]
        self._open = item
        return item, self._event("response.output_item.added", output_index=item.index, item=dict(wire))

    def _text(self, part: str, text: str, logprobs: list[Any]) -> list[Event]:
        events: list[Event] = []
        item = self._open
        if item is None or item.part != part:
            events += self._close()
            message = {"id": self._token("msg_"), "type": "message", "role": "assistant"}
            item, added = self._item({**message, "status": "in_progress", "content": []})
            item.part = part
            events += [added, self._part_event(item, "added", _content(part, "", []))]
        item.pieces.append(text)
        item.logprobs += logprobs
        told: dict[str, Any] = {"delta": text, "logprobs": logprobs} if part == "output_text" else {"delta": text}
        return [*events, self._at(f"response.{part}.delta", item, content_index=0, **told)]

    def _call(self, call: Mapping[str, Any]) -> list[Event]:
        index = call.get("index") or 0
        events: list[Event] = []
        item = self._calls.get(index)
        if item is None:
            events += self._close()
            kind = call.get("type") or ("custom" if "custom" in call else "function")
            wire_type, prefix, text_name, _ = _CALLS.get(kind, _CALLS["function"])
            named = call.get(kind) or {}
            item, added = self._item(
                {
                    "id": self._token(prefix),
                    "type": wire_type,
                    "status": "in_progress",
                    "call_id": call.get("id") or self._token("call_"),
                    "name": named.get("name") or "",
                    text_name: "",
                }
            )
            self._calls[index] = item
            events.append(added)
        kind = "custom" if item.wire["type"] == "custom_tool_call" else "function"
        _, _, text_name, name = _CALLS[kind]
        piece = (call.get(kind) or {}).get(text_name)
        if piece:
            item.pieces.append(piece)
            events.append(self._at(f"{name}.delta", item, delta=piece))
        return events

    def _at(self, kind: str, item: _Item, **rest: Any) -> Event:
        return self._event(kind, item_id=item.wire["id"], output_index=item.index, **rest)

    def _part_event(self, item: _Item, what: str, part: dict[str, Any]) -> Event:
        return self._at(f"response.content_part.{what}", item, content_index=0, part=part)

    def _close(self) -> list[Event]:
        """The events that end the open item."""
        item, self._open = self._open, None
        if item is None:
            return []
        text = "".join(item.pieces)
        wire = item.wire
        wire["status"] = "incomplete" if self._reason in _REASONS else "completed"
        if not item.part:
            kind = "custom" if wire["type"] == "custom_tool_call" else "function"
            _, _, text_name, name = _CALLS[kind]
            wire[text_name] = text
            named = {"name": wire["name"]} if kind == "function" else {}
            done = [self._at(f"{name}.done", item, **named, **{text_name: text})]
        else:
            part = _content(item.part, text, item.logprobs)
            wire["content"] = [part]
            told = {"text": text, "logprobs": item.logprobs} if item.part == "output_text" else {"refusal": text}
            done = [
                self._at(f"response.{item.part}.done", item, content_index=0, **told),
                self._part_event(item, "done", part),
            ]
        return [*done, self._event("response.output_item.done", output_index=item.index, item=dict(wire))]


def _content(part: str, text: str, logprobs: list[Any]) -> dict[str, Any]:
    if part == "refusal":
        return {"type": part, "refusal": text}
    return {"type": part, "text": text, "annotations": [], "logprobs": logprobs}


def error_of(error: EdgewiseError) -> dict[str, Any]:
    """An error as a failed response holds it; its codes are a closed list."""
    if isinstance(error, RateLimited | UpstreamRateLimited):
        code = "rate_limit_exceeded"
    else:
        code = "invalid_prompt" if isinstance(error, ContentRefused) or error.status < 500 else "server_error"
    return {"code": code, "message": error.message}


def whole(body: Mapping[str, Any], answer: Answer, clock: Clock, *, id: str | None = None) -> dict[str, Any]:
    """The response object for a whole answer."""
    telling = Telling(body, clock, id=id)
    for piece in _as_chunks(answer):
        telling.add(piece)
    telling.end()
    return telling.response


def _as_chunks(answer: Answer) -> Iterator[Chunk]:
    """The answer as one delta; the calls are numbered, as they are in a stream."""
    for choice in answer.choices[:1]:
        calls = [{"index": number, **call} for number, call in enumerate(answer.tool_calls)]
        yield {
            "model": answer.model,
            "usage": answer.completion.get("usage"),
            "choices": [{**choice, "delta": {**choice["message"], "tool_calls": calls}}],
        }
