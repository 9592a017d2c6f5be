"""Converse's answer in OpenAI's words, whole or event by event.

The same rules as for Anthropic's: text joined, tools numbered from 0, reasoning beside its signed blocks, cached and
written tokens counted as part of the prompt. A stream is whole when both `messageStop` and the counts (`metadata`)
have come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgewise.chat import Answer, Chunk, Usage, chunk, completion, usage_chunk
from edgewise.provider.reading import dumped

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
MALFORMED = frozenset({"malformed_model_output", "malformed_tool_use"})
"""Stop reasons of an answer that the model spoilt: another attempt may do."""


def finish_reason(stop_reason: Any) -> str:
    """OpenAI's reason; an unknown one counts as a plain stop."""
    return _FINISH.get(str(stop_reason), "stop")


def usage_of(told: Mapping[str, Any]) -> Usage:
    cached = int(told.get("cacheReadInputTokens") or 0)
    written = int(told.get("cacheWriteInputTokens") or 0)
    return Usage(
        prompt_tokens=int(told.get("inputTokens") or 0) + cached + written,
        completion_tokens=int(told.get("outputTokens") or 0),
        cached_tokens=cached,
        cache_write_tokens=written,
    )


def answer_of(told: Mapping[str, Any], *, id: str, created: int, model: str) -> Answer:
    """The whole answer; `id`, `created` and `model` are ours, Converse tells none."""
    texts, thoughts, calls, blocks = [], [], [], []
    for block in told["output"]["message"]["content"]:
        if "text" in block:
            texts.append(block["text"])
        elif "toolUse" in block:
            use = block["toolUse"]
            function = {"name": use["name"], "arguments": dumped(use.get("input") or {})}
            calls.append({"id": use["toolUseId"], "type": "function", "function": function})
        elif "reasoningText" in block.get("reasoningContent", {}):
            thought = block["reasoningContent"]["reasoningText"]
            thoughts.append(thought.get("text") or "")
            blocks.append(_thinking(thought))
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": None,
    }
    if thoughts:
        message |= {"reasoning_content": "".join(thoughts), "thinking_blocks": blocks}
    if calls:
        message["tool_calls"] = calls
    finish = finish_reason(told.get("stopReason"))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return Answer(completion([choice], id=id, created=created, model=model, usage=usage_of(told.get("usage") or {})))


def _thinking(thought: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "thinking", "thinking": thought.get("text") or "", "signature": thought.get("signature") or ""}


class AnswerStream:
    """Takes Converse's events one by one; gives chunks."""

    def __init__(self, *, id: str, created: int, model: str) -> None:
        self._head: dict[str, Any] = {"id": id, "created": created, "model": model}
        self._calls = -1
        self._open_call = False
        self._has_arguments = False
        self._thought: dict[str, str] = {}
        self.stop_reason: str | None = None
        self.counted = False

    @property
    def whole(self) -> bool:
        return self.stop_reason is not None and self.counted

    def chunks(self, event: Mapping[str, Any]) -> Iterator[Chunk]:
        """The chunks that `event` becomes."""
        if "contentBlockDelta" in event:
            yield from self._delta(event["contentBlockDelta"]["delta"])
        elif "messageStart" in event:
            yield self._chunk({"role": "assistant", "content": "", "refusal": None})
        elif "contentBlockStart" in event:
            yield from self._start(event["contentBlockStart"].get("start") or {})
        elif "contentBlockStop" in event:
            yield from self._stop()
        elif "messageStop" in event:
            self.stop_reason = str(event["messageStop"]["stopReason"])
            yield chunk({}, **self._head, finish_reason=finish_reason(self.stop_reason))
        elif "metadata" in event:
            self.counted = True
            yield usage_chunk(usage_of(event["metadata"].get("usage") or {}).wire(), **self._head)

    def _chunk(self, delta: dict[str, Any]) -> Chunk:
        return chunk(delta, **self._head)

    def _start(self, start: Mapping[str, Any]) -> Iterator[Chunk]:
        if "toolUse" not in start:
            return
        self._calls += 1
        self._open_call, self._has_arguments = True, False
        use = start["toolUse"]
        function = {"name": use["name"], "arguments": ""}
        call = {"index": self._calls, "id": use["toolUseId"], "type": "function", "function": function}
        yield self._chunk({"tool_calls": [call]})

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Chunk]:
        if "text" in delta:
            yield self._chunk({"content": delta["text"]})
        elif "toolUse" in delta:
            if text := delta["toolUse"].get("input"):
                self._has_arguments = True
                yield self._chunk({"tool_calls": [{"index": self._calls, "function": {"arguments": text}}]})
        elif "reasoningContent" in delta:
            thought = delta["reasoningContent"]
            for key in ("text", "signature"):
                if key in thought:
                    self._thought[key] = self._thought.get(key, "") + thought[key]
            if thought.get("text"):
                yield self._chunk({"reasoning_content": thought["text"]})

    def _stop(self) -> Iterator[Chunk]:
        if self._open_call and not self._has_arguments:
            yield self._chunk({"tool_calls": [{"index": self._calls, "function": {"arguments": "{}"}}]})
        self._open_call = False
        if self._thought:
            yield self._chunk({"thinking_blocks": [_thinking(self._thought)]})
            self._thought = {}
