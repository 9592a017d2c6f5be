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

from edgewise.provider.anthropic_ask import generation, thinking, thinks_by_budget
from edgewise.provider.port import Call
from edgewise.provider.reading import (
    JSON_ONLY,
    Tools,
    described,
    document,
    dumped,
    image,
    joined,
    json_schema,
    malformed,
    output_tokens,
    parameters,
    parts,
    refuse_foreign,
    sampling,
    stop_texts,
    system_texts,
    tool_uses,
    turns,
    unsupported,
    wants_json,
)

_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_SAMPLING = {"temperature": "temperature", "top_p": "topP"}
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
    inference: dict[str, Any] = {"maxTokens": output_tokens(call)}
    is_claude = "claude" in call.model.id
    if not is_claude or generation(call.model.id) < (4, 7):
        told = sampling(call, one_of_two=is_claude)
        inference |= {_SAMPLING[name]: value for name, value in told.items()}
    if stops := stop_texts(call):
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
    thoughts = [_thought(block) for block in turn.get("thinking_blocks") or () if block.get("signature")]
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
            picture = image(part, param)
            if isinstance(picture, str):
                raise unsupported(f"{param}.image_url.url", "This model takes images as data URLs only.")
            if picture.media_type not in _IMAGES:
                raise malformed(f"{param}.image_url.url", f"Images may be {', '.join(sorted(_IMAGES))}.")
            content = picture.content(f"{param}.image_url.url")
            return {"image": {"format": _IMAGES[picture.media_type], "source": {"bytes": content}}}
        case "file":
            data = document(part, param)
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
            {"toolSpec": {**described(function), "inputSchema": {"json": parameters(function)}}}
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
    thought = thinking(call, asked["inferenceConfig"]["maxTokens"], forced=forced)
    if thinks_by_budget(thought):
        for refused in _SAMPLING.values():
            asked["inferenceConfig"].pop(refused, None)
    return thought
