"""An Anthropic `/v1/messages` request as a chat request: blocks become parts, calls and tool turns.

    system                      a system turn           tool_use         tool_calls of the assistant's turn
    tool_result                 tool turns, first       thinking         thinking_blocks of the assistant's turn
    image, document             image_url, file         stop_sequences   stop
    tool_choice                 tool_choice, parallel_tool_calls
    output_config, thinking     reasoning_effort, response_format

What only Anthropic's own models have a word for (`thinking`, `top_k`, a wish to cache the prompt, …) travels in one
field, `anthropic`, which providers of other models leave out: there it would be a hint at most. What would change the
answer and cannot be said (hosted tools, files that live at Anthropic, another's container) is refused by name. A tool
result's `is_error` has no word in chat; its text says what went wrong.

Pure. Source: https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from edgewise.api import fields
from edgewise.api.checks import Check, boolean, either, integer, items, nullable, number, shape, tagged, text, word
from edgewise.errors import InvalidRequest

_STRING = text()
_TEXT = shape({"text": _STRING}, ("text",))
_SOURCE = tagged(
    "type",
    {
        "base64": shape({"media_type": _STRING, "data": _STRING}, ("media_type", "data")),
        "url": shape({"url": _STRING}, ("url",)),
        "text": shape({"data": _STRING}, ("data",)),
    },
)
_IMAGE = shape({"source": _SOURCE}, ("source",))
_RESULT_PARTS = items(tagged("type", {"text": _TEXT, "image": _IMAGE}))
_BLOCK = tagged(
    "type",
    {
        "text": _TEXT,
        "image": _IMAGE,
        "document": shape({"source": _SOURCE, "title": nullable(_STRING)}, ("source",)),
        "tool_use": shape({"id": _STRING, "name": _STRING, "input": fields.OBJECT}, ("id", "name", "input")),
        "tool_result": shape(
            {"tool_use_id": _STRING, "content": nullable(either(string=_STRING, array=_RESULT_PARTS))}, ("tool_use_id",)
        ),
        "thinking": shape({"thinking": _STRING, "signature": _STRING}, ("thinking",)),
        "redacted_thinking": shape({"data": _STRING}, ("data",)),
    },
)
_MESSAGE = shape(
    {"role": word("user", "assistant", "system"), "content": either(string=_STRING, array=items(_BLOCK, at_least=1))},
    ("role", "content"),
)
_TOOL = shape(
    {"name": text(at_least=1, at_most=128), "description": nullable(_STRING), "input_schema": fields.OBJECT}, ("name",)
)
FIELDS: dict[str, Check] = {
    "model": text(at_least=1, at_most=512),
    "messages": items(_MESSAGE, at_least=1),
    "max_tokens": integer(1),
    "system": nullable(either(string=_STRING, array=items(tagged("type", {"text": _TEXT}, closed=True)))),
    "stream": nullable(boolean),
    "stop_sequences": nullable(items(_STRING)),
    "temperature": nullable(number(0, 1)),
    "top_p": nullable(number(0, 1)),
    "top_k": nullable(integer(0)),
    "tools": nullable(items(_TOOL)),
    "tool_choice": nullable(tagged("type", {"tool": shape({"name": _STRING}, ("name",))})),
    "metadata": nullable(shape({"user_id": nullable(text(at_most=512))})),
    "thinking": nullable(tagged("type", {"enabled": shape({"budget_tokens": integer(1024)}, ("budget_tokens",))})),
    "output_config": nullable(
        shape({"effort": fields.WORD, "format": nullable(tagged("type", {"json_schema": shape({"schema": fields.OBJECT},
                                                                                              ("schema",))}))})
    ),
    "service_tier": fields.WORD,
    # Another speed has another price, which is not known here.
    "speed": nullable(word("standard")),
    "cache_control": nullable(fields.OBJECT),
    # It says what may be forgotten of a long conversation to save tokens; nothing is wrong where all is kept.
    "context_management": nullable(fields.OBJECT),
}  # fmt: skip
_OURS = frozenset({"cache", "routing"})
_KEPT = ("service_tier", "thinking", "top_k")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS = ((16_000, "high"), (4_000, "medium"), (0, "low"))
"""Budgets of thinking, in tokens, as efforts for models that think by effort."""
Message = dict[str, Any]


def check(body: dict[str, Any], required: tuple[str, ...] = ("model", "messages", "max_tokens")) -> None:
    """Hold a request to its description. Raises `InvalidRequest` with `param` as a JSON path."""
    fields.check(body, FIELDS, required)
    for name, value in body.items():
        if name not in FIELDS and name not in _OURS and value is not None:
            raise _unable(name, f"'{name[:64]}' is not supported here")


def chat_body(body: dict[str, Any]) -> dict[str, Any]:
    """The chat request that a checked request stands for; `cache`, `routing` and `stream` stay for the caller."""
    chat = {name: body[name] for name in ("model", "stream", "temperature", "top_p", *_OURS) if name in body}
    chat["messages"] = [*_system(body.get("system")), *_messages(body["messages"])]
    chat["max_completion_tokens"] = body.get("max_tokens")
    chat["stop"] = body.get("stop_sequences") or None
    chat["user"] = (body.get("metadata") or {}).get("user_id")
    if body.get("tools"):
        chat["tools"] = [_tool(tool, place) for place, tool in enumerate(body["tools"])]
        _set_choice(chat, body.get("tool_choice") or {})
    wished = body.get("output_config") or {}
    chat["reasoning_effort"] = wished.get("effort") or _effort(body.get("thinking") or {})
    if wished.get("format"):
        chat["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": wished["format"].get("schema") or {}},
        }
    own = {name: body[name] for name in _KEPT if body.get(name) is not None}
    if body.get("cache_control") is not None or _marked(body):
        own["cache_control"] = {"type": "ephemeral"}
    chat["anthropic"] = own or None
    return {name: value for name, value in chat.items() if value is not None}


def _effort(thinking: dict[str, Any]) -> str | None:
    budget = thinking.get("budget_tokens") if thinking.get("type") == "enabled" else None
    return None if budget is None else next(effort for least, effort in _EFFORTS if budget >= least)


def _marked(body: dict[str, Any]) -> bool:
    """Whether some block asks for the prompt to be cached. One mark is enough: everything up to the last turn is meant.
    For how long is not handed on: an hour is dearer, and not every mark means it."""
    turns = (turn["content"] for turn in body["messages"] if isinstance(turn["content"], list))
    system = body.get("system")
    listed = [*(body.get("tools") or ()), *(system if isinstance(system, list) else ()), *(b for t in turns for b in t)]
    return any(isinstance(block.get("cache_control"), dict) for block in listed)


def _system(told: str | list[dict[str, Any]] | None) -> Iterator[Message]:
    texts = [told] if isinstance(told, str) else [block["text"] for block in told or ()]
    if joined := "\n\n".join(text for text in texts if text):
        yield {"role": "system", "content": joined}


def _messages(turns: list[dict[str, Any]]) -> Iterator[Message]:
    for place, turn in enumerate(turns):
        at, content = f"messages[{place}].content", turn["content"]
        if isinstance(content, str):
            yield {"role": turn["role"], "content": content}
        elif turn["role"] == "assistant":
            yield _assistant(content, at)
        else:
            yield from _user(turn["role"], content, at)


def _assistant(blocks: list[dict[str, Any]], at: str) -> Message:
    texts, calls, thoughts = [], [], []
    for place, block in enumerate(blocks):
        match block["type"]:
            case "text":
                texts.append(block["text"])
            case "tool_use":
                called = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
                calls.append({"id": block["id"], "type": "function", "function": called})
            # Without its signature a thought comes from another maker's model, and nobody takes it back.
            case "thinking" if block.get("signature"):
                thoughts.append({name: block[name] for name in ("type", "thinking", "signature")})
            case "redacted_thinking":
                thoughts.append({"type": block["type"], "data": block["data"]})
            case "thinking":
                continue
            case other:
                raise _unable(f"{at}[{place}]", f"Blocks of type '{str(other)[:64]}' are not supported in an answer")
    message: Message = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if thoughts:
        message["thinking_blocks"] = thoughts
    if calls:
        message["tool_calls"] = calls
    return message


def _user(role: str, blocks: list[dict[str, Any]], at: str) -> Iterator[Message]:
    """The results of tools come first, as chat has them right behind their calls."""
    parts = []
    for place, block in enumerate(blocks):
        if block["type"] == "tool_result":
            content = block.get("content")
            told = content if isinstance(content, str) else _parts(content or [], f"{at}[{place}].content")
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": told or ""}
        else:
            parts.append(_part(block, f"{at}[{place}]"))
    if parts:
        alone = len(parts) == 1 and parts[0]["type"] == "text"
        yield {"role": role, "content": parts[0]["text"] if alone else parts}


def _parts(blocks: list[dict[str, Any]], at: str) -> str | list[dict[str, Any]]:
    """Parts, or their text where all are text."""
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return [_part(block, f"{at}[{place}]") for place, block in enumerate(blocks)]


def _part(block: dict[str, Any], at: str) -> dict[str, Any]:
    source = block.get("source") or {}
    kind = (block["type"], source.get("type"))
    match kind:
        case ("text", _):
            return {"type": "text", "text": block["text"]}
        case ("image", "base64"):
            return {"type": "image_url", "image_url": {"url": _data_url(source)}}
        case ("image", "url"):
            return {"type": "image_url", "image_url": {"url": source["url"]}}
        case ("document", "base64"):
            return {"type": "file", "file": {"filename": block.get("title") or "document.pdf",
                                             "file_data": _data_url(source)}}  # fmt: skip
        case ("document", "text"):
            return {"type": "text", "text": source["data"]}
    raise _unable(at, f"A block of type '{kind[0][:64]}' is not supported here as it is given")


def _data_url(source: dict[str, Any]) -> str:
    return f"data:{source['media_type']};base64,{source['data']}"


def _tool(tool: dict[str, Any], place: int) -> dict[str, Any]:
    kind = tool.get("type") or "custom"
    if kind != "custom" or "input_schema" not in tool:
        raise _unable(f"tools[{place}].type", f"Hosted tools of type '{str(kind)[:64]}' are not supported here")
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    if tool.get("description"):
        function["description"] = tool["description"]
    if isinstance(tool.get("strict"), bool):
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _set_choice(chat: dict[str, Any], choice: dict[str, Any]) -> None:
    kind = choice.get("type")
    if kind == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    elif kind is not None:
        if kind not in _CHOICES:
            raise _unable("tool_choice.type", f"A tool choice of type '{str(kind)[:64]}' is not supported here")
        chat["tool_choice"] = _CHOICES[kind]
    if choice.get("disable_parallel_tool_use") is True:
        chat["parallel_tool_calls"] = False


def _unable(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{message}.", param=param, code="unsupported_parameter")
