"""Anthropic's answer in OpenAI's words, whole or event by event.

Text blocks are joined to `content`; `tool_use` becomes `tool_calls`, numbered from 0 whatever the block's own number;
thinking becomes `reasoning_content`, and beside it `thinking_blocks` keeps the signed blocks, which a next turn must
bring back. OpenAI counts cached and written tokens as part of the prompt, Anthropic beside it, so they are added.

A stream is whole when `message_stop` has come. Its counts are cumulative: the last one told is the true one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgewise.chat import Answer, Chunk, Usage, chunk, completion, usage_chunk
from edgewise.provider.reading import dumped
from edgewise.provider.refusal import in_band

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def finish_reason(stop_reason: Any) -> str:
    """OpenAI's reason; an unknown one counts as a plain stop."""
    return _FINISH.get(str(stop_reason), "stop")


def usage_of(told: Mapping[str, Any]) -> Usage:
    """Counts from Anthropic's `usage`."""
    cached = int(told.get("cache_read_input_tokens") or 0)
    written = int(told.get("cache_creation_input_tokens") or 0)
    by_age = told.get("cache_creation") or {}
    details = told.get("output_tokens_details") or {}
    return Usage(
        prompt_tokens=int(told.get("input_tokens") or 0) + cached + written,
        completion_tokens=int(told.get("output_tokens") or 0),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=int(details.get("thinking_tokens") or 0),
        cache_write_1h_tokens=int(by_age.get("ephemeral_1h_input_tokens") or 0),
    )


def tier_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's `service_tier` from Anthropic's `usage`; nothing where it does not say."""
    tier = told.get("service_tier")
    return {"service_tier": "default" if tier == "standard" else tier} if tier else {}


def answer_of(told: Mapping[str, Any], *, id: str, created: int) -> Answer:
    """The whole answer. `id` and `created` are ours: Anthropic's ids have another form, and it tells no time."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    texts, thoughts, calls, blocks = [], [], [], []
    for block in told.get("content") or ():
        match block.get("type"):
            case "text":
                texts.append(block.get("text") or "")
            case "thinking":
                thoughts.append(block.get("thinking") or "")
                blocks.append(block)
            case "redacted_thinking":
                blocks.append(block)
            case "tool_use":
                function = {"name": block.get("name"), "arguments": dumped(block.get("input") or {})}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
    message["content"] = "".join(texts) if texts or not calls else None
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if blocks:
        message["thinking_blocks"] = blocks
    if calls:
        message["tool_calls"] = calls
    finish = finish_reason(told.get("stop_reason"))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    counts = told.get("usage") or {}
    whole = completion([choice], id=id, created=created, model=str(told.get("model", "")), usage=usage_of(counts))
    return Answer(whole | tier_of(counts))


class AnswerStream:
    """Takes Anthropic's events one by one; gives chunks. `whole` once the message has ended."""

    def __init__(self, *, id: str, created: int, model: str) -> None:
        self._head: dict[str, Any] = {"id": id, "created": created, "model": model}
        self._usage: dict[str, Any] = {}
        self._finish: str | None = None
        self._calls = -1
        self._block: dict[str, Any] = {}
        self._has_arguments = False
        self.whole = False

    def chunks(self, event: Mapping[str, Any]) -> Iterator[Chunk]:
        """The chunks that `event` becomes, often one, sometimes none. Raises `UpstreamError` for an error event."""
        match event.get("type"):
            case "content_block_delta":
                yield from self._delta(event["delta"])
            case "message_start":
                self._head["model"] = event["message"].get("model") or self._head["model"]
                self._usage |= event["message"].get("usage") or {}
                yield self._chunk({"role": "assistant", "content": "", "refusal": None})
            case "content_block_start":
                yield from self._start(event["content_block"])
            case "content_block_stop":
                yield from self._stop()
            case "message_delta":
                self._usage |= {key: value for key, value in (event.get("usage") or {}).items() if value is not None}
                self._finish = finish_reason(event["delta"].get("stop_reason"))
                yield chunk({}, **self._head, finish_reason=self._finish)
            case "message_stop":
                self.whole = self._finish is not None
                yield usage_chunk(usage_of(self._usage).wire(), **self._head) | tier_of(self._usage)
            case "error":
                raise in_band(event.get("error"))

    def _chunk(self, delta: dict[str, Any]) -> Chunk:
        return chunk(delta, **self._head)

    def _start(self, block: Mapping[str, Any]) -> Iterator[Chunk]:
        self._block = dict(block)
        match block.get("type"):
            case "tool_use":
                self._calls += 1
                self._has_arguments = False
                function = {"name": block.get("name"), "arguments": ""}
                call = {"index": self._calls, "id": block.get("id"), "type": "function", "function": function}
                yield self._chunk({"tool_calls": [call]})
            case "text" if block.get("text"):
                yield self._chunk({"content": block["text"]})

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Chunk]:
        match delta.get("type"):
            case "text_delta":
                yield self._chunk({"content": delta["text"]})
            case "input_json_delta" if delta.get("partial_json"):
                self._has_arguments = True
                function = {"arguments": delta["partial_json"]}
                yield self._chunk({"tool_calls": [{"index": self._calls, "function": function}]})
            case "thinking_delta":
                self._block["thinking"] = self._block.get("thinking", "") + delta["thinking"]
                yield self._chunk({"reasoning_content": delta["thinking"]})
            case "signature_delta":
                self._block["signature"] = self._block.get("signature", "") + delta["signature"]

    def _stop(self) -> Iterator[Chunk]:
        block, self._block = self._block, {}
        if block.get("type") in ("thinking", "redacted_thinking"):
            yield self._chunk({"thinking_blocks": [block]})
        elif block.get("type") == "tool_use" and not self._has_arguments:
            # A tool without arguments streams none; OpenAI's clients parse what they get, and '' is no JSON.
            function = {"arguments": dumped(block.get("input") or {})}
            yield self._chunk({"tool_calls": [{"index": self._calls, "function": function}]})
