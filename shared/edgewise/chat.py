"""What a client asks and what a model answers, in OpenAI's own shape.

OpenAI's chat-completion JSON is the one language spoken inside: providers translate into it, the cache stores it,
the edge writes it. A field that this module has never heard of passes through untouched, which is why an answer is
kept as the JSON object itself, with properties for what the rooms read.

A stream is the same answer in pieces: `Folding` puts chunks together, `unfold` takes an answer apart again.
`fold(unfold(a)) == a` up to the fresh id and time, however the text is cut.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Chunk = dict[str, Any]
"""One `chat.completion.chunk` in OpenAI's shape."""
Chunks = AsyncIterator[Chunk]

REPLAY_PIECE_CHARS = 240


@dataclass(frozen=True, slots=True)
class CacheAsk:
    """What the client asked of the cache (RFC 9111 `Cache-Control`, or the body's `cache` object)."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: float | None = None
    ttl_s: float | None = None
    stale_s: float | None = None
    """Seconds past freshness that the client accepts (`max-stale`, `stale-while-revalidate`)."""
    namespace: str | None = None
    tags: tuple[str, ...] = ()
    semantic: bool | None = None
    """False forbids a match by meaning for this request; None leaves it to the key's policy."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat request. `body` is what is forwarded: the client's object without the gateway's own fields
    (`cache`, `routing`) and without `stream` and `stream_options`, which say how to deliver, not what to answer."""

    body: Mapping[str, Any]
    stream: bool = False
    include_usage: bool = False
    obfuscate: bool = False
    """Pad every streamed delta, so that the sizes of packets don't tell what is said."""
    cache: CacheAsk = field(default_factory=CacheAsk)
    routing: Mapping[str, Any] = field(default_factory=dict)
    """The body's `routing` object with `x-edgewise-route-*` headers merged in; see `edgewise.routing`."""

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body.get("messages", [])
        return messages

    @property
    def output_limit(self) -> int | None:
        """`max_completion_tokens` or the older `max_tokens`; None when the client set neither."""
        limit = self.body.get("max_completion_tokens", self.body.get("max_tokens"))
        return int(limit) if limit is not None else None

    @property
    def choices(self) -> int:
        return int(self.body.get("n") or 1)

    @property
    def dry_run(self) -> bool:
        """Only what would be done is asked: nobody is called, and it counts as nobody's traffic."""
        return str(self.routing.get("dry_run")).strip().lower() in ("1", "true", "yes", "on")


def text_of(content: Any) -> str:
    """The text of a message's `content`: a string as it is, text parts joined by newlines, anything else ''."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. Cached and written ones are part of `prompt`; reasoning is part of `completion`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    """Of those that were written: what is kept for an hour."""

    @classmethod
    def of(cls, wire: Mapping[str, Any] | None) -> Usage | None:
        """From OpenAI's `usage` object; None when there is none."""
        if not wire:
            return None
        prompt = wire.get("prompt_tokens_details") or {}
        completion = wire.get("completion_tokens_details") or {}
        return cls(
            prompt_tokens=int(wire.get("prompt_tokens") or 0),
            completion_tokens=int(wire.get("completion_tokens") or 0),
            cached_tokens=int(prompt.get("cached_tokens") or 0),
            cache_write_tokens=int(prompt.get("cache_write_tokens") or 0),
            reasoning_tokens=int(completion.get("reasoning_tokens") or 0),
            cache_write_1h_tokens=int(prompt.get("cache_write_1h_tokens") or 0),
        )

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def wire(self) -> dict[str, Any]:
        """OpenAI's `usage` object."""
        prompt = {"cached_tokens": self.cached_tokens, "cache_write_tokens": self.cache_write_tokens}
        if self.cache_write_1h_tokens:
            prompt["cache_write_1h_tokens"] = self.cache_write_1h_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "prompt_tokens_details": prompt,
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole `chat.completion` object, and what the rooms read of it."""

    completion: Mapping[str, Any]

    @property
    def choices(self) -> list[dict[str, Any]]:
        choices: list[dict[str, Any]] = self.completion.get("choices", [])
        return choices

    @property
    def model(self) -> str:
        return str(self.completion.get("model", ""))

    @property
    def text(self) -> str:
        """The first choice's text; '' for a tool call or a refusal."""
        return text_of(self.choices[0]["message"].get("content")) if self.choices else ""

    @property
    def refusal(self) -> str | None:
        return self.choices[0]["message"].get("refusal") if self.choices else None

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        return (self.choices[0]["message"].get("tool_calls") or []) if self.choices else []

    @property
    def finish_reasons(self) -> tuple[str | None, ...]:
        return tuple(choice.get("finish_reason") for choice in self.choices)

    @property
    def usage(self) -> Usage | None:
        return Usage.of(self.completion.get("usage"))


def completion(
    choices: list[dict[str, Any]],
    *,
    id: str,
    created: int,
    model: str,
    usage: Usage | None,
) -> dict[str, Any]:
    """A `chat.completion` object with every key that the specification requires."""
    return {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": choices,
        "usage": usage.wire() if usage else None,
    }


def chunk(
    delta: Mapping[str, Any],
    *,
    id: str,
    created: int,
    model: str,
    index: int = 0,
    finish_reason: str | None = None,
) -> Chunk:
    """A `chat.completion.chunk` with one choice and every key that the specification requires."""
    return {
        "id": id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": finish_reason}],
    }


def usage_chunk(usage: Mapping[str, Any], *, id: str, created: int, model: str) -> Chunk:
    """The last chunk of a stream whose client asked for usage: no choices, only counts."""
    return {
        "id": id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [],
        "usage": dict(usage),
    }


_PLAIN = frozenset({"index", "delta", "logprobs", "finish_reason"})


async def begun(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """`chunks` past the empty piece that it begins with. A generator that was never begun ends without its
    `finally`: a client that leaves before the first byte would leave a hold, a lead and a provider's stream behind."""
    await anext(chunks)
    return chunks


class Folding:
    """Puts a stream together again, chunk by chunk; `answer()` when it is whole."""

    __slots__ = ("_choices", "_head", "_keys", "_texts", "_usage", "chunks")

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._keys: frozenset[str] = frozenset()
        self._choices: dict[int, dict[str, Any]] = {}
        self._texts: dict[int, list[str]] = {}
        self._usage: Any = None
        self.chunks = 0

    def add(self, piece: Mapping[str, Any]) -> None:
        """Take in the next chunk."""
        self.chunks += 1
        if piece.get("usage"):
            self._usage = piece["usage"]
        if piece.keys() != self._keys:
            self._keys = frozenset(piece)
            for key, value in piece.items():
                if key not in ("choices", "object", "obfuscation", "usage") and value is not None:
                    self._head.setdefault(key, value)
        for part in piece.get("choices") or ():
            index = part.get("index") or 0
            delta = part.get("delta") or {}
            # Nearly every chunk is a bit of text and nothing else: it is put on a heap, and joined at the end.
            if (
                len(delta) == 1
                and part.get("finish_reason") is None
                and not part.get("logprobs")
                and part.keys() <= _PLAIN
            ):
                text = delta.get("content")
                if type(text) is str and index in self._choices:
                    self._texts[index].append(text)
                    continue
            self._add(index, part, delta)

    def _add(self, index: int, part: Mapping[str, Any], delta: Mapping[str, Any]) -> None:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = {"index": index, "message": {}, "logprobs": None, "finish_reason": None}
            self._texts[index] = []
        self._join(index)
        _merge(choice["message"], delta)
        if part.get("finish_reason") is not None:
            choice["finish_reason"] = part["finish_reason"]
        if part.get("logprobs"):
            choice["logprobs"] = choice["logprobs"] or {}
            _merge(choice["logprobs"], part["logprobs"])
        for key in part.keys() - {"index", "delta", "finish_reason", "logprobs"}:
            choice[key] = part[key]

    def _join(self, index: int) -> None:
        """Bring the heap of text into its message."""
        if texts := self._texts[index]:
            message = self._choices[index]["message"]
            message["content"] = (message.get("content") or "") + "".join(texts)
            texts.clear()

    @property
    def finished(self) -> bool:
        """Every choice that began has said why it ended."""
        return bool(self._choices) and all(c["finish_reason"] is not None for c in self._choices.values())

    def answer(self) -> Answer:
        """The answer so far; ask `finished` first to know whether it is whole."""
        for index in self._choices:
            self._join(index)
        choices = [_closed(self._choices[index]) for index in sorted(self._choices)]
        return Answer({**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage})


def _closed(choice: dict[str, Any]) -> dict[str, Any]:
    """A folded choice with the keys a whole message must have; a tool call's `index` is the stream's, so it goes."""
    message = {"role": "assistant", "content": None, "refusal": None, **choice["message"]}
    if message.get("tool_calls"):
        message["tool_calls"] = [
            {k: v for k, v in call.items() if k != "index"} for call in message["tool_calls"] if call
        ]
    if message["content"] == "" and (message.get("tool_calls") or message["refusal"]):
        # A stream opens with empty text even when no text follows; a whole answer says null.
        message["content"] = None
    return {**choice, "message": message}


def _merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Merge one delta: text is joined, lists with an `index` are merged by it, other lists grow."""
    for key, value in delta.items():
        if value is None:
            into.setdefault(key, None)
            continue
        old = into.get(key)
        if old is None:
            # A container of our own: the chunk itself goes on to the client and must not grow behind its back.
            into[key] = old = [] if isinstance(value, list) else {} if isinstance(value, Mapping) else value
            if old is value:
                continue
        if isinstance(old, str) and isinstance(value, str):
            if key not in ("role", "id", "type"):
                into[key] = old + value
        elif isinstance(old, list) and isinstance(value, list):
            _merge_list(old, value)
        elif isinstance(old, dict) and isinstance(value, Mapping):
            _merge(old, value)
        else:
            into[key] = value


def _merge_list(old: list[Any], new: list[Any]) -> None:
    for item in new:
        index = item.get("index") if isinstance(item, dict) else None
        if not isinstance(index, int):
            old.append(item)
            continue
        mine = next((o for o in old if isinstance(o, dict) and o.get("index") == index), None)
        if mine is None:
            mine = {}
            old.append(mine)
        _merge(mine, item)


def unfold(answer: Answer, *, id: str, created: int, piece_chars: int = REPLAY_PIECE_CHARS) -> Iterator[Chunk]:
    """The stream that would have carried `answer`: role, content or tool calls, reason, and always the usage.

    The caller drops the last chunk when its client did not ask for usage.
    """
    head = {
        **{k: v for k, v in answer.completion.items() if k not in ("choices", "usage")},
        "id": id,
        "object": "chat.completion.chunk",
        "created": created,
    }
    for choice in answer.choices:
        index = choice["index"]
        rest = {k: v for k, v in choice.items() if k not in ("index", "message", "logprobs", "finish_reason")}
        for number, delta in enumerate(_deltas(choice["message"], piece_chars)):
            logprobs = choice.get("logprobs") if number == 1 or (number == 0 and not _has_body(choice)) else None
            yield {
                **head,
                "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}],
            }
        yield {
            **head,
            "choices": [
                {
                    "index": index,
                    "delta": {},
                    "logprobs": None,
                    **rest,
                    "finish_reason": choice["finish_reason"],
                }
            ],
        }
    if answer.completion.get("usage"):
        yield {**head, "choices": [], "usage": answer.completion["usage"]}


def _has_body(choice: Mapping[str, Any]) -> bool:
    message = choice["message"]
    return any(value for key, value in message.items() if key != "role")


_THOUGHTS = ("reasoning", "reasoning_content", "thinking_blocks")


def _deltas(message: Mapping[str, Any], piece_chars: int) -> Iterator[dict[str, Any]]:
    tools = message.get("tool_calls") or []
    first: dict[str, Any] = {
        "role": message.get("role", "assistant"),
        "content": "" if isinstance(message.get("content"), str) else None,
    }
    if "refusal" in message:
        first["refusal"] = None
    yield first
    # A model thinks before it speaks, however its whole answer is put together.
    for key, value in sorted(message.items(), key=lambda pair: pair[0] not in _THOUGHTS):
        if key in ("role", "tool_calls") or value is None or value == "":
            continue
        if isinstance(value, str):
            for start in range(0, len(value), piece_chars):
                yield {key: value[start : start + piece_chars]}
        else:
            yield {key: value}
    for number, call in enumerate(tools):
        kind = call.get("type", "function")
        body = call.get(kind) or {}
        field_name = "input" if kind == "custom" else "arguments"
        rest = {k: v for k, v in call.items() if k != kind}
        yield {"tool_calls": [{"index": number, **rest, kind: {**body, field_name: ""}}]}
        if body.get(field_name):
            yield {"tool_calls": [{"index": number, kind: {field_name: body[field_name]}}]}
