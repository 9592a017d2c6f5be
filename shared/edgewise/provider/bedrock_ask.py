"""OpenAI's chat request in the words of Bedrock's Converse.

Converse takes images and documents as bytes only. An image by https URL would have to be fetched by the gateway,
from inside its own network, so it is refused: `data:` URLs are taken. What Converse has no word for but a family of
models does (`thinking`, `reasoning_effort`) goes into `additionalModelRequestFields`. "No tool now" cannot be said, so
the tools are left out unless the conversation already uses them.

Source: the Converse operation of Bedrock Runtime (API version 2023-09-30).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.provider.anthropic_ask import EFFORTS, generation, thinking_of, thinking_told
from edgewise.provider.port import Call
from edgewise.provider.reading import (
    JSON_ONLY,
    DataUrl,
    Tools,
    dumped,
    joined,
    json_schema,
    malformed,
    output_tokens,
    parts,
    refuse_foreign,
    system_texts,
    tool_uses,
    turns,
    unsupported,
    wants_json,
)

_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}


def ask(call: Call) -> dict[str, Any]:
    """The arguments of `converse` and `converse_stream`. Raises `UpstreamRefused` for what they cannot say."""
    body = call.body
    refuse_foreign(body)
    asked: dict[str, Any] = {"modelId": call.model.id, "messages": _messages(call)}
    asked["inferenceConfig"] = _inference(call)
    system = list(system_texts(call))
    schema = json_schema(body)
    if schema is not None:
        named = {"name": str(schema.get("name") or "answer"), "schema": dumped(schema.get("schema") or {})}
        asked["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": named}}}
    elif wants_json(body):
        system.append(JSON_ONLY)
    if system:
        asked["system"] = [{"text": text} for text in system]
    tools = Tools.of(body)
    if tools.functions and (tools.choosing != "none" or _uses_tools(call)):
        asked["toolConfig"] = _tool_config(tools)
    if more := _more_fields(call, asked, forced=tools.choosing in ("any", "tool")):
        asked["additionalModelRequestFields"] = more
    return asked


def _inference(call: Call) -> dict[str, Any]:
    body = call.body
    inference: dict[str, Any] = {"maxTokens": output_tokens(call)}
    is_claude = "claude" in call.model.id
    if not is_claude or generation(call.model.id) < (4, 7):
        if body.get("temperature") is not None:
            inference["temperature"] = min(float(body["temperature"]), 1.0)
        if body.get("top_p") is not None and not (is_claude and "temperature" in inference):
            inference["topP"] = body["top_p"]
    if stops := [stop for stop in call.stops if stop.strip()]:
        inference["stopSequences"] = stops
    return inference


def _messages(call: Call) -> list[dict[str, Any]]:
    return joined(_said(turn, number) for number, turn in turns(call))


def _said(turn: Mapping[str, Any], number: int) -> tuple[str, list[dict[str, Any]]]:
    param = f"messages[{number}]"
    blocks = [_block(part, path, number) for path, part in parts(turn.get("content"), f"{param}.content")]
    if turn.get("role") == "tool":
        blocks = [{"toolResult": {"toolUseId": str(turn.get("tool_call_id")), "content": blocks or [{"text": " "}]}}]
    if turn.get("role") != "assistant":
        return "user", blocks
    thoughts = [_thought(block) for block in turn.get("thinking_blocks") or ()]
    uses = [
        {"toolUse": {"toolUseId": id_, "name": name, "input": arguments}}
        for id_, name, arguments in tool_uses(turn, param)
    ]
    return "assistant", [*thoughts, *blocks, *uses]


def _thought(block: Mapping[str, Any]) -> dict[str, Any]:
    told = {"text": str(block.get("thinking") or ""), "signature": str(block.get("signature") or "")}
    return {"reasoningContent": {"reasoningText": told}}


def _block(part: Mapping[str, Any], param: str, number: int) -> dict[str, Any]:
    match part.get("type"):
        case "text":
            return {"text": str(part["text"])}
        case "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, Mapping) else image
            data = DataUrl.of(url, f"{param}.image_url.url")
            if data is None:
                raise unsupported(f"{param}.image_url.url", "This model takes images as data URLs only.")
            if data.media_type not in _IMAGES:
                raise malformed(f"{param}.image_url.url", f"Images may be {', '.join(sorted(_IMAGES))}.")
            content = data.content(f"{param}.image_url.url")
            return {"image": {"format": _IMAGES[data.media_type], "source": {"bytes": content}}}
        case "file":
            file = part.get("file")
            told = file.get("file_data") if isinstance(file, Mapping) else None
            data = DataUrl.of(told, f"{param}.file.file_data") if told else None
            if data is None or data.media_type not in _DOCUMENTS:
                raise unsupported(f"{param}.file", "A file must come with its data, as PDF, CSV, HTML or text.")
            content = data.content(f"{param}.file.file_data")
            # The name is shown to the model; the client's own could carry instructions.
            name = f"document-{number}-{param.rpartition('[')[2].rstrip(']')}"
            return {"document": {"format": _DOCUMENTS[data.media_type], "name": name, "source": {"bytes": content}}}
        case other:
            raise unsupported(f"{param}.type", f"This model does not read parts of type {other!r}.")


def _uses_tools(call: Call) -> bool:
    return any(message.get("role") == "tool" or message.get("tool_calls") for message in call.messages)


def _tool_config(tools: Tools) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tools": [
            {
                "toolSpec": {
                    "name": str(function.get("name")),
                    **({"description": function["description"]} if function.get("description") else {}),
                    "inputSchema": {"json": function.get("parameters") or {"type": "object", "properties": {}}},
                }
            }
            for function in tools.functions
        ]
    }
    match tools.choosing:
        case "any":
            config["toolChoice"] = {"any": {}}
        case "tool":
            config["toolChoice"] = {"tool": {"name": tools.name}}
        case "auto":
            config["toolChoice"] = {"auto": {}}
        case _:
            pass
    return config


def _more_fields(call: Call, asked: dict[str, Any], *, forced: bool) -> dict[str, Any]:
    """The family's own words for thinking."""
    effort = call.body.get("reasoning_effort")
    if "claude" not in call.model.id:
        is_openai = call.model.id.partition("openai.")[1] != ""
        return {"reasoning_effort": effort} if is_openai and effort in ("low", "medium", "high") else {}
    if (told := thinking_told(call.body)) is not None:
        return {"thinking": told}
    thinking = thinking_of(call.model.id, effort, asked["inferenceConfig"]["maxTokens"], forced=forced)
    if thinking is None:
        return {}
    if thinking["type"] == "adaptive":
        return {"thinking": thinking, "output_config": {"effort": EFFORTS[str(effort)]}}
    for refused in ("temperature", "topP"):
        asked["inferenceConfig"].pop(refused, None)
    return {"thinking": thinking}
