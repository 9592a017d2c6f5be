"""What the loopback upstream says: one answer in OpenAI's, Anthropic's or Bedrock's wire, whole or as events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tests import upstream_converse as converse

if TYPE_CHECKING:
    from tests.upstream import Manner

CREATED = 1_700_000_000
Wire = Literal["openai", "anthropic", "converse"]


def wire_of(path: str) -> Wire:
    """The wire that is spoken at `path`."""
    if path.endswith(("/converse", "/converse-stream")):
        return "converse"
    return "anthropic" if path.endswith("/messages") else "openai"


def text_of(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(p.get("text", "") for p in content if isinstance(p, dict))
    return content if isinstance(content, str) else ""


def words(text: str) -> list[str]:
    """The pieces in which `text` is streamed."""
    return re.findall(r"\S+\s*|\s+", text)


def count(messages: Any) -> int:
    """One token a word."""
    return sum(len(text_of(message.get("content")).split()) for message in messages)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One answer. `events()` gives (label, bytes); a label is the name of the cut that falls just before it."""

    asked: Mapping[str, Any]
    manner: Manner
    wire: Wire
    pieces: tuple[str, ...]

    @classmethod
    def of(cls, path: str, asked: Mapping[str, Any], manner: Manner) -> Spoken:
        text = manner.text
        if text is None:
            turns = [m for m in asked.get("messages", []) if m.get("role") == "user"]
            text = text_of(turns[-1].get("content")) if turns else "Hello."
        pieces = () if manner.tool else tuple(words(text))
        return cls(asked, manner, wire_of(path), pieces)

    @property
    def streams(self) -> bool:
        return bool(self.asked.get("stream"))

    @property
    def model(self) -> str:
        return str(self.asked.get("model", ""))

    @property
    def counts(self) -> tuple[int, int]:
        prompt = count(self.asked.get("messages", [])) + len(text_of(self.asked.get("system")).split())
        return prompt, len(self.pieces) or 7

    def usage(self) -> dict[str, Any]:
        prompt, completion = self.counts
        mine = {"input_tokens": prompt, "output_tokens": completion}
        theirs = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }
        return {**(mine if self.wire == "anthropic" else theirs), **(self.manner.usage or {})}

    def whole(self) -> dict[str, Any]:
        if self.wire == "converse":
            return converse.whole(self)
        return self._anthropic() if self.wire == "anthropic" else self._openai()

    def _openai(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.pieces), "refusal": None}
        if self.manner.tool:
            name, arguments = self.manner.tool
            function = {"name": name, "arguments": arguments}
            message |= {"content": None, "tool_calls": [{"id": "call_up", "type": "function", "function": function}]}
        finish = self.manner.finish or ("tool_calls" if self.manner.tool else "stop")
        return {
            "id": "chatcmpl-upstream",
            "object": "chat.completion",
            "created": CREATED,
            "model": self.model,
            "choices": [
                {"index": i, "message": message, "logprobs": None, "finish_reason": finish}
                for i in range(self.asked.get("n") or 1)
            ],
            "usage": self.usage() if self.manner.with_usage else None,
            **self._served(),
        }

    def _served(self) -> dict[str, Any]:
        return {"service_tier": self.manner.tier} if self.manner.tier else {}

    def _anthropic(self) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": "".join(self.pieces)}]
        if self.manner.tool:
            name, arguments = self.manner.tool
            content = [{"type": "tool_use", "id": "toolu_up", "name": name, "input": json.loads(arguments)}]
        return {
            "id": "msg_upstream",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": self.manner.finish or ("tool_use" if self.manner.tool else "end_turn"),
            "stop_sequence": None,
            "usage": self.usage(),
        }

    def events(self) -> Iterator[tuple[str, bytes]]:
        if self.wire == "converse":
            yield from converse.events(self)
        else:
            yield from self._anthropic_events() if self.wire == "anthropic" else self._openai_events()

    def _event(self, payload: Any, name: str | None = None) -> bytes:
        text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        newline = self.manner.newline
        lines = [b": keep-alive", b""] if self.manner.comments else []
        lines += [b"event: " + name.encode()] if name else []
        return newline.join([*lines, b"data: " + text.encode(), b"", b""])

    def _openai_events(self) -> Iterator[tuple[str, bytes]]:
        head = {
            "id": "chatcmpl-upstream",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": self.model,
            **self._served(),
        }

        def piece(delta: Any, finish: str | None = None, **more: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return self._event({**head, "choices": [choice], **more})

        yield "first", piece({"role": "assistant", "content": None if self.manner.tool else "", "refusal": None})
        if self.manner.tool:
            name, arguments = self.manner.tool
            function: dict[str, Any] = {"name": name, "arguments": ""}
            yield (
                "content",
                piece({"tool_calls": [{"index": 0, "id": "call_up", "type": "function", "function": function}]}),
            )
            for part in re.findall(r".{1,8}", arguments, re.DOTALL):
                yield "content", piece({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
        for number, text in enumerate(self.pieces):
            padding = {"padding": "x" * self.manner.filler_bytes} if number == 0 and self.manner.filler_bytes else {}
            yield "content", piece({"content": text}, **padding)
            if number == 0 and self.manner.in_band_error is not None:
                yield "error", self._event({"error": dict(self.manner.in_band_error)})
                return
        yield "before-finish", piece({}, self.manner.finish or ("tool_calls" if self.manner.tool else "stop"))
        wants = (self.asked.get("stream_options") or {}).get("include_usage")
        if wants and self.manner.with_usage:
            yield "before-usage", self._event({**head, "choices": [], "usage": self.usage()})
        if self.manner.with_done:
            yield "done", self._event("[DONE]")

    def _anthropic_events(self) -> Iterator[tuple[str, bytes]]:
        usage = self.usage()
        start = {**self._anthropic(), "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}

        def event(kind: str, **payload: Any) -> bytes:
            return self._event({"type": kind, **payload}, kind)

        yield "first", event("message_start", message=start)
        if self.manner.tool:
            name, arguments = self.manner.tool
            block: dict[str, Any] = {"type": "tool_use", "id": "toolu_up", "name": name, "input": {}}
            deltas = [
                {"type": "input_json_delta", "partial_json": p}
                for p in ("", *re.findall(r".{1,8}", arguments, re.DOTALL))
            ]
        else:
            block = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": text} for text in self.pieces]
        yield "start", event("content_block_start", index=0, content_block=block)
        yield "ping", event("ping")
        for number, delta in enumerate(deltas):
            yield "content", event("content_block_delta", index=0, delta=delta)
            if number == 0 and self.manner.in_band_error is not None:
                yield "error", event("error", error=dict(self.manner.in_band_error))
                return
        yield "stop", event("content_block_stop", index=0)
        reason = {"stop_reason": self._anthropic()["stop_reason"], "stop_sequence": None}
        ending = {k: v for k, v in usage.items() if k != "input_tokens"}
        yield "before-finish", event("message_delta", delta=reason, usage=ending)
        yield "before-usage", event("message_stop")


def error(path: str, status: int) -> tuple[bytes, dict[str, str]]:
    """The error object that a provider sends with `status`, and the headers beside it."""
    if wire_of(path) == "converse":
        return converse.error(status)
    if wire_of(path) == "anthropic":
        kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(status, "overloaded_error" if status == 529 else "api_error")
        return json.dumps({"type": "error", "error": {"type": kind, "message": f"upstream says {status}"}}).encode(), {}
    kind = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "server_error"
    told = {"message": f"upstream says {status}", "type": kind, "param": None, "code": None}
    return json.dumps({"error": told}).encode(), {}


def other(path: str, asked: Any) -> dict[str, Any]:
    """Models and embeddings."""
    if path.endswith("/embeddings"):
        inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        rows = [{"object": "embedding", "index": i, "embedding": _vector(x, asked)} for i, x in enumerate(inputs)]
        usage = {"prompt_tokens": len(rows), "total_tokens": len(rows)}
        return {"object": "list", "data": rows, "model": asked.get("model"), "usage": usage}
    models = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "upstream"} for name in ("small", "large")
    ]
    return {"object": "list", "data": models}


def _vector(text: Any, asked: Any) -> list[float]:
    """Three numbers, or as many as were asked for: then texts that share words are near."""
    if not asked.get("dimensions"):
        return [float(len(str(text))), 1.0, 0.5]
    found = [0.0] * int(asked["dimensions"])
    for word in words(str(text).lower()):
        found[sum(word.strip("?.,! ").encode()) % len(found)] += 1.0
    return found
