"""Reads OpenAI's request for the providers that speak another language: what both Anthropic and Bedrock need.

The rule for what such a provider cannot do: what changes the shape or the meaning of the answer (several choices,
log probabilities, audio, custom tools) is refused with `unsupported_parameter`; what is only a hint about sampling
(`seed`, penalties, `logit_bias`) or about bookkeeping (`store`, `metadata`, `user`) is left out.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from edgewise.chat import text_of
from edgewise.errors import UpstreamRefused
from edgewise.provider.port import Call

_DATA_URL = re.compile(r"data:([\w.+/-]+)(?:;[\w=.+-]+)*;base64,(.*)", re.DOTALL)
JSON_ONLY = "Answer with one JSON object and nothing else."


def unsupported(param: str, message: str) -> UpstreamRefused:
    return UpstreamRefused(message, param=param, code="unsupported_parameter")


def malformed(param: str, message: str) -> UpstreamRefused:
    return UpstreamRefused(message, param=param, code="invalid_value")


def refuse_foreign(body: Mapping[str, Any]) -> None:
    """Raises `UpstreamRefused` for what only OpenAI's own models can do."""
    if int(body.get("n") or 1) > 1:
        raise unsupported("n", "This model gives one choice.")
    for field in ("logprobs", "functions", "function_call", "audio", "web_search_options"):
        if body.get(field):
            raise unsupported(field, f"This model does not support {field}.")
    if "audio" in (body.get("modalities") or ()):
        raise unsupported("modalities", "This model does not speak.")


@dataclass(frozen=True, slots=True)
class DataUrl:
    """`data:` with its media type; `base64` is the text, `content` the bytes."""

    media_type: str
    base64: str

    @classmethod
    def of(cls, url: Any, param: str) -> DataUrl | None:
        """None when `url` is another kind of URL. Raises `UpstreamRefused` when it is broken."""
        if not isinstance(url, str):
            raise malformed(param, "An image needs a URL.")
        if not url.startswith("data:"):
            return None
        match = _DATA_URL.fullmatch(url)
        if match is None:
            raise malformed(param, "A data URL must be base64.")
        return cls(match[1].lower(), match[2])

    def content(self, param: str) -> bytes:
        try:
            return b64decode(self.base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise malformed(param, "The data URL's base64 is broken.") from error


def image(part: Mapping[str, Any], param: str) -> DataUrl | str:
    """The picture of an `image_url` part: its data, or the URL where it lies. Raises `UpstreamRefused`."""
    told = part.get("image_url")
    url = told.get("url") if isinstance(told, Mapping) else told
    return DataUrl.of(url, f"{param}.image_url.url") or str(url)


def document(part: Mapping[str, Any], param: str) -> DataUrl | None:
    """The data of a `file` part; None when it came without. Raises `UpstreamRefused`."""
    file = part.get("file")
    told = file.get("file_data") if isinstance(file, Mapping) else None
    return DataUrl.of(told, f"{param}.file.file_data") if told else None


def described(function: Mapping[str, Any]) -> dict[str, Any]:
    """A function's name, and what it does where that is told."""
    told = {"description": function["description"]} if function.get("description") else {}
    return {"name": str(function.get("name")), **told}


def parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    """A function's schema; both providers want one also of a function without parameters."""
    return function.get("parameters") or {"type": "object", "properties": {}}


def sampling(call: Call, *, one_of_two: bool) -> dict[str, Any]:
    """`temperature`, at most 1, and `top_p`; only the first of them where a model refuses both together."""
    told: dict[str, Any] = {}
    if call.body.get("temperature") is not None:
        told["temperature"] = min(float(call.body["temperature"]), 1.0)
    if call.body.get("top_p") is not None and not (one_of_two and told):
        told["top_p"] = call.body["top_p"]
    return told


def stop_texts(call: Call) -> list[str]:
    """Stop sequences; both providers refuse one of white space alone."""
    return [stop for stop in call.stops if stop.strip()]


def system_texts(call: Call) -> Iterator[str]:
    """The system and developer turns, wherever they stand: neither provider takes them inside the conversation."""
    for message in call.messages:
        if message.get("role") in ("system", "developer") and (text := text_of(message.get("content"))):
            yield text


def turns(call: Call) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The other turns with their place in `messages`."""
    for number, message in enumerate(call.messages):
        if message.get("role") not in ("system", "developer"):
            yield number, message


def joined(said: Iterable[tuple[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Messages of (role, blocks): empty ones left out, those of one role that follow each other made one."""
    messages: list[dict[str, Any]] = []
    for role, blocks in said:
        if blocks and messages and messages[-1]["role"] == role:
            messages[-1]["content"].extend(blocks)
        elif blocks:
            messages.append({"role": role, "content": blocks})
    return messages


def output_tokens(call: Call) -> int:
    """The limit that such a provider must be given: the client's, or what a good answer needs at most."""
    return call.output_limit or min(call.model.output_tokens or 4096, 8192)


def parts(content: Any, param: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Content as parts, each with its own JSON path; empty texts are left out, as both providers refuse them."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for number, part in enumerate(content or ()):
        if not isinstance(part, Mapping):
            raise malformed(f"{param}[{number}]", "A content part is an object.")
        read = {"type": "text", "text": part.get("refusal")} if part.get("type") == "refusal" else part
        if read.get("type") != "text" or read.get("text"):
            yield f"{param}[{number}]", read


def tool_uses(message: Mapping[str, Any], param: str) -> Iterator[tuple[str, str, Any]]:
    """The assistant's tool calls as (id, name, arguments as an object)."""
    for number, call in enumerate(message.get("tool_calls") or ()):
        path = f"{param}.tool_calls[{number}]"
        function = call.get("function")
        if not isinstance(function, Mapping):
            raise unsupported(path, "This model knows function tools only.")
        try:
            arguments = orjson.loads(function.get("arguments") or "{}")
        except ValueError as error:
            raise malformed(f"{path}.function.arguments", "A tool call's arguments must be JSON.") from error
        if not isinstance(arguments, dict):
            raise malformed(f"{path}.function.arguments", "A tool call's arguments must be an object.")
        yield str(call.get("id")), str(function.get("name")), arguments


Choosing = Literal["auto", "any", "none", "tool"]


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that may be called. `choosing` 'tool' means the one called `name`; None: the client did not say."""

    functions: tuple[Mapping[str, Any], ...] = ()
    choosing: Choosing | None = None
    name: str = ""
    parallel: bool = True

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Tools:
        """Raises `UpstreamRefused` for tools that are not functions."""
        functions = []
        for number, tool in enumerate(body.get("tools") or ()):
            if tool.get("type") != "function" or not isinstance(tool.get("function"), Mapping):
                raise unsupported(f"tools[{number}].type", "This model knows function tools only.")
            functions.append(tool["function"])
        choosing, name = _choosing(body.get("tool_choice"))
        if name == "" and choosing == "tool":
            raise malformed("tool_choice", "The tool choice names no function.")
        choice = body.get("tool_choice")
        if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools") or {}
            names = {(tool.get("function") or {}).get("name") for tool in allowed.get("tools") or ()}
            functions = [function for function in functions if function.get("name") in names]
        return cls(tuple(functions), choosing, name, body.get("parallel_tool_calls") is not False)


def _choosing(choice: Any) -> tuple[Choosing | None, str]:
    match choice:
        case None:
            return None, ""
        case "auto" | "none":
            return choice, ""
        case "required":
            return "any", ""
        case {"type": "function", "function": {"name": str(name)}}:
            return "tool", name
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode}}:
            return ("any" if mode == "required" else "auto"), ""
        case _:
            raise unsupported("tool_choice", "This model cannot be told to choose so.")


def json_schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The `json_schema` object of `response_format`; None when the client asks for none."""
    wanted = body.get("response_format")
    if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
        found = wanted.get("json_schema")
        return found if isinstance(found, Mapping) else {}
    return None


def wants_json(body: Mapping[str, Any]) -> bool:
    """Whether JSON mode (`json_object`) is on."""
    wanted = body.get("response_format")
    return isinstance(wanted, Mapping) and wanted.get("type") == "json_object"


def dumped(value: Any) -> str:
    """Compact JSON text."""
    return orjson.dumps(value).decode()
