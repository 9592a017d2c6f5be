"""Server-sent events: a stream of chunks in OpenAI's exact grammar, and kept alive while nothing comes.

    role chunk · content or tool-call deltas · one chunk with the finish_reason alone · usage, if asked · [DONE]

`Grammar` holds upstreams to it whatever they send: a first chunk without a role, a last token merged with the
reason, usage on every chunk, an id that changes. All chunks of a stream carry one id, time and model. One event is
one line of JSON, so nothing in a text can break an event. An error after the first byte is an event of its own and
no [DONE] follows: stock clients take a silently cut stream for a whole one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from edgewise.api.problems import encoded
from edgewise.chat import Chunk
from edgewise.errors import EdgewiseError

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
CONTENT_TYPE = "text/event-stream; charset=utf-8"
_PADDING = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def event(data: bytes) -> bytes:
    return b"data: %b\n\n" % data


class Grammar:
    """Chunks of one stream, put right.

    include_usage  whether the client asked for the usage chunk
    obfuscate      a function of (0 to 1) randomness, or None: each delta gets padding of random length, so that the
                   sizes of encrypted packets don't tell what is said (arXiv 2511.03675)
    """

    __slots__ = ("_begun", "_head", "_include_usage", "_obfuscate", "_usage")

    def __init__(self, *, include_usage: bool, obfuscate: Any = None) -> None:
        self._include_usage = include_usage
        self._obfuscate = obfuscate
        self._head: dict[str, Any] | None = None
        self._usage: Any = None
        self._begun: set[int] = set()

    def events(self, chunk: Chunk) -> bytes:
        """The events that tell `chunk`; b'' when it has nothing to tell."""
        usage = chunk.get("usage")
        if usage is not None:
            self._usage = usage
        choices = chunk.get("choices")
        if not choices:
            # The usage chunk comes last, and only if asked; any other chunk without choices trips clients up.
            if self._head is None:
                self._begin(chunk)
            return b""
        head = self._head or self._begin(chunk)
        if len(choices) == 1:
            choice = choices[0]
            if (
                choice.get("index") in self._begun
                and choice.get("finish_reason") is None
                and "role" not in (choice.get("delta") or ("role",))
            ):
                return self._event(head, choice, chunk)
        return b"".join(self._event(head, piece, chunk) for choice in choices for piece in self._pieces(choice))

    def _begin(self, chunk: Chunk) -> dict[str, Any]:
        self._head = {
            "id": chunk.get("id") or "",
            "object": "chat.completion.chunk",
            "created": chunk.get("created") or 0,
            "model": chunk.get("model") or "",
        }
        return self._head

    def _event(self, head: dict[str, Any], choice: dict[str, Any], chunk: Chunk) -> bytes:
        told = {**chunk, **head}
        if "logprobs" not in choice or "finish_reason" not in choice:
            choice = {"logprobs": None, "finish_reason": None, **choice}
        told["choices"] = (choice,)
        if self._include_usage:
            told["usage"] = None
        else:
            told.pop("usage", None)
        if self._obfuscate is not None:
            told["obfuscation"] = self._obfuscate()
        return b"data: %b\n\n" % orjson.dumps(told)

    def _pieces(self, choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """`choice` as the chunks that the grammar wants: the role first, the reason alone and last."""
        delta = dict(choice.get("delta") or {})
        index = choice.get("index") or 0
        role = delta.pop("role", None)
        reason = choice.get("finish_reason")
        if index not in self._begun:
            self._begun.add(index)
            yield {
                "index": index,
                "delta": {
                    "role": role or "assistant",
                    "content": None if delta.get("tool_calls") else "",
                    **_quiet(delta),
                },
                "logprobs": None,
                "finish_reason": None,
            }
        rest = {key: value for key, value in choice.items() if key not in ("index", "delta", "finish_reason")}
        if any(delta.values()) or choice.get("logprobs"):
            yield {**rest, "index": index, "delta": delta, "finish_reason": None}
            rest.pop("logprobs", None)
        if reason is not None:
            yield {"logprobs": None, **rest, "index": index, "delta": {}, "finish_reason": reason}

    @staticmethod
    def failed(error: EdgewiseError) -> bytes:
        """What follows the last chunk of a stream that broke: the error, and no [DONE]."""
        return event(encoded(error))

    def end(self) -> bytes:
        """What follows the last chunk of a whole stream."""
        if not self._include_usage or self._usage is None or self._head is None:
            return DONE
        last = {**self._head, "choices": (), "usage": self._usage}
        if self._obfuscate is not None:
            last["obfuscation"] = self._obfuscate()
        return event(orjson.dumps(last)) + DONE


def _quiet(delta: dict[str, Any]) -> dict[str, Any]:
    """The keys of a first delta that say nothing yet, moved to the role chunk; what says something stays in `delta`."""
    quiet = {key: value for key, value in delta.items() if not value}
    for key in quiet:
        del delta[key]
    return quiet


def padding(uniform: Any) -> Any:
    """A maker of obfuscation: 1 to 16 characters, by `uniform` in [0, 1)."""

    def make() -> str:
        start = int(uniform() * 46)
        return _PADDING[start : start + 1 + int(uniform() * 16)]

    return make
