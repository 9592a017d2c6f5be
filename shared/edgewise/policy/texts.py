"""What of a request is text: the messages of a chat, or what an embeddings request calls its `input`.

Guards and limits read requests through this module alone, so that a body of another shape than a chat's is not a way
around them. Tokens that a client has made itself (`input` as whole numbers) are counted, but cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from edgewise.chat import ChatRequest, text_of

Change = Callable[[str], str]

FROM_OUTSIDE = ("user", "tool", "function")


def has_tokens(request: ChatRequest) -> bool:
    """Whether `input` is, or has, tokens instead of text."""
    given = request.body.get("input")
    return isinstance(given, list) and any(not isinstance(item, str) for item in given)


def all_texts(request: ChatRequest) -> list[str]:
    """Everything that can be read, the operator's own words too."""
    texts = []
    for message in request.messages:
        content = message.get("content")
        texts.append(content if isinstance(content, str) else text_of(content))
        if "tool_calls" in message:
            texts += [text for call in message["tool_calls"] or () for _, _, text in arguments_of(call)]
    return texts + input_texts(request) if "input" in request.body else texts


def outside_texts(request: ChatRequest) -> list[str]:
    """What did not come from the operator: user and tool turns, and what is to be embedded."""
    texts = []
    for message in request.messages:
        if message.get("role") in FROM_OUTSIDE:
            content = message.get("content")
            texts.append(content if isinstance(content, str) else text_of(content))
    return texts + input_texts(request) if "input" in request.body else texts


def input_texts(request: ChatRequest) -> list[str]:
    """The texts of `input`; nothing for tokens."""
    given = request.body.get("input")
    return [item for item in (given if isinstance(given, list) else [given]) if isinstance(item, str)]


def changed(request: ChatRequest, change: Change) -> ChatRequest:
    """The request with `change` made to every text of `all_texts`."""
    body: dict[str, Any] = {**request.body, "messages": [_message(m, change) for m in request.messages]}
    given = body.get("input")
    if isinstance(given, str):
        body["input"] = change(given)
    elif isinstance(given, list):
        body["input"] = [change(item) if isinstance(item, str) else item for item in given]
    return replace(request, body=body)


def _message(message: Mapping[str, Any], change: Change) -> dict[str, Any]:
    content, calls = message.get("content"), message.get("tool_calls")
    made = dict(message)
    if isinstance(content, str):
        made["content"] = change(content)
    elif isinstance(content, list):
        made["content"] = [_part(part, change) for part in content]
    if isinstance(calls, list):
        made["tool_calls"] = [_call(call, change) for call in calls]
    return made


def _part(part: Any, change: Change) -> Any:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return {**part, "text": change(part["text"])}
    return part


def _call(call: Any, change: Change) -> Any:
    for kind, name, text in arguments_of(call):
        call = {**call, kind: {**call[kind], name: change(text) if name == "input" else _json(text, change)}}
    return call


def _json(text: str, change: Change) -> str:
    """`text` changed, and JSON if it was: a whole number that is changed becomes a string."""
    made = change(text)
    if made == text or _is_json(made) or not _is_json(text):
        return made

    def number(digits: str) -> Any:
        hidden = change(digits)
        return int(digits) if hidden == digits else hidden

    return change(json.dumps(json.loads(text, parse_int=number), ensure_ascii=False))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def arguments_of(call: Any) -> Iterator[tuple[str, str, str]]:
    """Where a tool call has what the model wrote, and what that is: it comes back to us with the client's next turn,
    and what had been redacted was put back into it by then."""
    if isinstance(call, Mapping):
        for kind, name in (("function", "arguments"), ("custom", "input")):
            body = call.get(kind)
            if isinstance(body, Mapping) and isinstance(body.get(name), str):
                yield kind, name, body[name]


def tokens_of(request: ChatRequest) -> int:
    """A cheap estimate of the prompt's tokens: a quarter of its UTF-8 bytes, and four for each message."""
    total = 0
    for message in request.messages:
        content = message.get("content")
        total += 4 + _bytes(content if isinstance(content, str) else text_of(content)) // 4
    given = request.body.get("input")
    return total if given is None else total + _input_tokens(given)


def _input_tokens(given: Any) -> int:
    """A text's tokens are estimated, a whole number is one."""
    if isinstance(given, str):
        return _bytes(given) // 4 + 1
    return sum(map(_input_tokens, given)) if isinstance(given, list) else 1


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
