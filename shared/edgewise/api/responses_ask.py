"""A `/v1/responses` request as a chat request: items become messages, and options take their older names.

Pure, and shared by everything that answers the Responses API (at once, streamed, in the background, in a batch).
What chat can't express (hosted tools, references to items or files that live at OpenAI) is refused by name, never
dropped: an answer without the search that was asked for is a wrong answer. Reasoning items are the exception: no
chat provider takes them back, and a conversation reads the same without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgewise.api import fields
from edgewise.api.checks import Check, boolean, either, integer, items, nullable, number, shape, tagged, text, word
from edgewise.errors import InvalidRequest

_STRING = text()
_PARTS = items(tagged("type", {"input_text": shape({"text": _STRING}, ("text",))}))
_CONTENT = either(string=text(), array=_PARTS)
_ITEM = tagged(
    "type",
    {
        "message": shape(
            {
                "role": word("user", "assistant", "system", "developer"),
                "content": _CONTENT,
            },
            ("role", "content"),
        ),
        "function_call": shape(
            {"call_id": _STRING, "name": _STRING, "arguments": _STRING}, ("call_id", "name", "arguments")
        ),
        "custom_tool_call": shape(
            {"call_id": _STRING, "name": _STRING, "input": _STRING}, ("call_id", "name", "input")
        ),
        "function_call_output": shape({"call_id": _STRING, "output": _CONTENT}, ("call_id", "output")),
        "custom_tool_call_output": shape({"call_id": _STRING, "output": _CONTENT}, ("call_id", "output")),
    },
    default="message",
)
_FORMAT = tagged("type", {"json_schema": shape({"name": _STRING, "schema": fields.OBJECT}, ("name", "schema"))})
_TOOL = tagged(
    "type",
    {
        "function": shape(
            {
                "name": _STRING,
                "description": nullable(_STRING),
                "parameters": nullable(fields.OBJECT),
                "strict": nullable(boolean),
            },
            ("name",),
        ),
        "custom": shape({"name": _STRING, "description": _STRING, "format": fields.OBJECT}, ("name",)),
    },
)
FIELDS: dict[str, Check] = {
    "model": text(at_least=1, at_most=512),
    "input": either(string=text(), array=items(_ITEM)),
    "instructions": nullable(_STRING),
    "previous_response_id": nullable(_STRING),
    "background": nullable(boolean),
    "store": nullable(boolean),
    "stream": nullable(boolean),
    "stream_options": nullable(shape({"include_obfuscation": boolean})),
    "tools": nullable(items(_TOOL)),
    "tool_choice": nullable(either(string=word("none", "auto", "required"), object=tagged("type", {}))),
    "parallel_tool_calls": nullable(boolean),
    "max_tool_calls": nullable(integer()),
    "max_output_tokens": nullable(integer(16)),
    "temperature": nullable(number(0, 2)),
    "top_p": nullable(number(0, 1)),
    "top_logprobs": nullable(integer(0, 20)),
    "text": nullable(
        shape(
            {
                "format": _FORMAT,
                "verbosity": fields.WORD,
            }
        )
    ),
    "reasoning": nullable(shape({"effort": fields.WORD, "summary": fields.WORD})),
    "include": nullable(items(_STRING)),
    "truncation": fields.WORD,
    "metadata": fields.METADATA,
    **{
        name: fields.CHAT[name]
        for name in ("service_tier", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
                     "prompt_cache_options", "moderation")
    },
}  # fmt: skip
_UNABLE = ("conversation", "prompt", "context_management")
_OURS = frozenset(
    {"input", "instructions", "previous_response_id", "background", "store", "max_tool_calls", "max_output_tokens",
     "text", "reasoning", "include", "truncation", "tools", "tool_choice", *_UNABLE}
)  # fmt: skip
Message = dict[str, Any]


def check(body: dict[str, Any]) -> None:
    """Hold a create request to its description. Raises `InvalidRequest` with `param` as a JSON path."""
    fields.check(body, FIELDS, ("model", "input"))
    for name in _UNABLE:
        if body.get(name) is not None:
            raise _unable(name, f"'{name}' is not supported here")


def chat_body(body: dict[str, Any], before: Sequence[Message] = ()) -> dict[str, Any]:
    """The chat request that a checked create request stands for.

    before  the messages of the conversation that `previous_response_id` names, its answer included
    What neither API knows is forwarded; `cache`, `routing`, `stream` and `stream_options` stay for the caller.
    """
    chat: dict[str, Any] = {name: value for name, value in body.items() if name not in _OURS}
    told = body.get("instructions")
    system = [{"role": "system", "content": told}] if told else []
    chat["messages"] = [*system, *before, *messages_of(body["input"])]
    if body.get("tools"):
        chat["tools"] = [_tool(tool, number) for number, tool in enumerate(body["tools"])]
    if body.get("tool_choice") is not None:
        chat["tool_choice"] = _tool_choice(body["tool_choice"])
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if (body.get("reasoning") or {}).get("effort"):
        chat["reasoning_effort"] = body["reasoning"]["effort"]
    _of_text(chat, body.get("text") or {})
    if body.get("top_logprobs") is not None or "message.output_text.logprobs" in (body.get("include") or ()):
        chat["logprobs"] = True
    return {name: value for name, value in chat.items() if value is not None}


def _of_text(chat: dict[str, Any], wished: dict[str, Any]) -> None:
    form = wished.get("format") or {}
    kind = form.get("type", "text")
    if kind == "json_schema":
        chat["response_format"] = {
            "type": kind,
            "json_schema": {name: value for name, value in form.items() if name != "type" and value is not None},
        }
    elif kind != "text":
        chat["response_format"] = form
    if wished.get("verbosity"):
        chat["verbosity"] = wished["verbosity"]


def messages_of(given: str | list[dict[str, Any]]) -> list[Message]:
    """Input as chat messages. Calls that follow one another, or the assistant's text, are one message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[Message] = []
    for place, item in enumerate(given):
        at = f"input[{place}]"
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({"role": item["role"], "content": _content(item["content"], at)})
        elif kind in ("function_call", "custom_tool_call"):
            call = _call(item, kind)
            if messages and messages[-1]["role"] == "assistant":
                messages[-1].setdefault("tool_calls", []).append(call)
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind in ("function_call_output", "custom_tool_call_output"):
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"], at)})
        elif kind != "reasoning":
            raise _unable(f"{at}.type", f"Items of type '{kind[:64]}' are not supported here")
    if not messages:
        raise InvalidRequest("'input' holds no message.", param="input", code="empty_array")
    return messages


def _call(item: dict[str, Any], kind: str) -> dict[str, Any]:
    if kind == "function_call":
        called = {"name": item["name"], "arguments": item["arguments"]}
        return {"id": item["call_id"], "type": "function", "function": called}
    return {"id": item["call_id"], "type": "custom", "custom": {"name": item["name"], "input": item["input"]}}


def _content(content: str | list[dict[str, Any]], at: str) -> Any:
    if isinstance(content, str):
        return content
    return [_part(part, f"{at}.content[{number}]") for number, part in enumerate(content)]


def _part(part: dict[str, Any], at: str) -> dict[str, Any]:
    kind = part["type"]
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": part.get("text") or ""}
    if kind == "refusal":
        return {"type": "refusal", "refusal": part.get("refusal") or ""}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if isinstance(part.get("detail"), str) else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    if kind == "input_file" and not part.get("file_url"):
        kept = {name: part[name] for name in ("filename", "file_data", "file_id") if part.get(name) is not None}
        return {"type": "file", "file": kept}
    raise _unable(at, f"This part of type '{kind[:64]}' is not supported here")


def _tool(tool: dict[str, Any], number: int) -> dict[str, Any]:
    kind = tool["type"]
    rest = {name: value for name, value in tool.items() if name != "type" and value is not None}
    if kind == "function":
        return {"type": kind, "function": rest}
    if kind == "custom":
        form = rest.get("format") or {}
        if form.get("type") == "grammar":
            grammar = {name: value for name, value in form.items() if name != "type"}
            rest["format"] = {"type": "grammar", "grammar": grammar}
        return {"type": kind, "custom": rest}
    raise _unable(f"tools[{number}].type", f"Hosted tools of type '{kind[:64]}' are not supported here")


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    kind = choice["type"]
    if kind in ("function", "custom") and isinstance(choice.get("name"), str):
        return {"type": kind, kind: {"name": choice["name"]}}
    if kind == "allowed_tools" and isinstance(choice.get("tools"), list):
        tools = [_tool_choice(tool) for tool in choice["tools"] if isinstance(tool, dict) and "type" in tool]
        return {"type": kind, kind: {"mode": choice.get("mode", "auto"), "tools": tools}}
    raise _unable("tool_choice", f"A tool choice of type '{str(kind)[:64]}' is not supported here")


def _unable(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{message}.", param=param, code="unsupported_parameter")
