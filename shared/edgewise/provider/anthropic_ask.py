"""OpenAI's chat request in the words of Anthropic's Messages API.

    system, developer turns        `system`                      tool turns      `tool_result` blocks of a user turn
    tool_calls                     `tool_use` blocks             stop            `stop_sequences`
    image_url (data or https)      `image` blocks                file (PDF)      `document` blocks
    tool_choice, parallel_tool_calls   `tool_choice`             reasoning_effort   `thinking`, `output_config.effort`
    response_format json_schema    `output_config.format`        user, safety_identifier   `metadata.user_id`

Turns of one role that follow each other become one, because all results of a turn's tools must come together. The
models of generation 4.7 and later refuse sampling parameters, and from 4.6 on they think by effort instead of by a
budget of tokens; earlier ones want the budget below `max_tokens` and no temperature beside it. An assistant turn's
`thinking_blocks`, as `anthropic_answer.py` gives them out, go back in, signatures and all.

Source: https://platform.claude.com/docs/en/api/messages, with `anthropic-version: 2023-06-01`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgewise.provider.port import Call
from edgewise.provider.reading import (
    JSON_ONLY,
    DataUrl,
    Tools,
    described,
    document,
    dumped,
    image,
    joined,
    json_schema,
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

_LEAST_BUDGET = 1024
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16_384, "xhigh": 24_576, "max": 32_768}
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}
_NEWEST = (99, 0)
_GENERATION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")


def generation(model_id: str) -> tuple[int, int]:
    """(4, 6) for `claude-sonnet-4-6`; a name without a number is taken for the newest."""
    match = _GENERATION.search(model_id)
    return (int(match[1]), int(match[2] or 0)) if match else _NEWEST


def ask(call: Call, *, stream: bool) -> dict[str, Any]:
    """The Messages API's body. Raises `UpstreamRefused` for what it cannot say."""
    body = call.body
    refuse_foreign(body)
    asked: dict[str, Any] = {
        "model": call.model.id,
        "max_tokens": output_tokens(call),
        "messages": _messages(call),
    }
    if stream:
        asked["stream"] = True
    system = list(system_texts(call))
    _set_format(asked, call, system)
    if system:
        asked["system"] = "\n\n".join(system)
    _set_sampling(asked, call)
    _set_tools(asked, Tools.of(body))
    _set_thinking(asked, call)
    own = own_words(body)
    asked |= {name: own[name] for name in ("cache_control", "service_tier") if name in own}
    if user := body.get("safety_identifier") or body.get("user"):
        asked["metadata"] = {"user_id": str(user)}
    return asked


def _messages(call: Call) -> list[dict[str, Any]]:
    messages = joined(_said(turn, f"messages[{number}]") for number, turn in turns(call))
    if messages and messages[-1]["role"] == "assistant" and messages[-1]["content"][-1]["type"] == "text":
        # A last assistant turn is the beginning of the answer, which must not end with white space.
        messages[-1]["content"][-1]["text"] = messages[-1]["content"][-1]["text"].rstrip() or "."
    return messages


def _said(turn: Mapping[str, Any], param: str) -> tuple[str, list[dict[str, Any]]]:
    if turn.get("role") == "assistant":
        return "assistant", _assistant(turn, param)
    return "user", _user(turn, param)


def _assistant(turn: Mapping[str, Any], param: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [dict(block) for block in turn.get("thinking_blocks") or ()]
    blocks += [_block(part, path) for path, part in parts(turn.get("content"), f"{param}.content")]
    for id_, name, arguments in tool_uses(turn, param):
        blocks.append({"type": "tool_use", "id": id_, "name": name, "input": arguments})
    return blocks


def _user(turn: Mapping[str, Any], param: str) -> list[dict[str, Any]]:
    blocks = [_block(part, path) for path, part in parts(turn.get("content"), f"{param}.content")]
    if turn.get("role") == "tool":
        return [{"type": "tool_result", "tool_use_id": str(turn.get("tool_call_id")), "content": blocks}]
    return blocks


def _block(part: Mapping[str, Any], param: str) -> dict[str, Any]:
    match part.get("type"):
        case "text":
            block: dict[str, Any] = {"type": "text", "text": str(part["text"])}
        case "image_url":
            block = {"type": "image", "source": _source(image(part, param))}
        case "file":
            if (data := document(part, param)) is None:
                raise unsupported(f"{param}.file", "A file must come with its data.")
            block = {"type": "document", "source": _source(data)}
        case other:
            raise unsupported(f"{param}.type", f"This model does not read parts of type {other!r}.")
    if isinstance(part.get("cache_control"), Mapping):
        block["cache_control"] = dict(part["cache_control"])
    return block


def _source(given: DataUrl | str) -> dict[str, Any]:
    if isinstance(given, str):
        return {"type": "url", "url": given}
    return {"type": "base64", "media_type": given.media_type, "data": given.base64}


def _set_format(asked: dict[str, Any], call: Call, system: list[str]) -> None:
    schema = json_schema(call.body)
    if schema is not None and generation(call.model.id) >= (4, 5):
        asked["output_config"] = {"format": {"type": "json_schema", "schema": schema.get("schema") or {}}}
    elif schema is not None:
        system.append(f"{JSON_ONLY} It must be valid under this JSON schema: {dumped(schema.get('schema') or {})}")
    elif wants_json(call.body):
        system.append(JSON_ONLY)


def _set_sampling(asked: dict[str, Any], call: Call) -> None:
    if stops := stop_texts(call):
        asked["stop_sequences"] = stops
    if generation(call.model.id) >= (4, 7):
        return
    asked |= sampling(call, one_of_two=True)
    top_k = call.body.get("top_k", own_words(call.body).get("top_k"))
    if top_k is not None:
        asked["top_k"] = top_k


def _set_tools(asked: dict[str, Any], tools: Tools) -> None:
    if not tools.functions:
        return
    asked["tools"] = [{**described(function), "input_schema": parameters(function)} for function in tools.functions]
    if tools.choosing is None and tools.parallel:
        return
    choice: dict[str, Any] = {"type": tools.choosing or "auto"}
    if tools.choosing == "tool":
        choice["name"] = tools.name
    if not tools.parallel and tools.choosing != "none":
        choice["disable_parallel_tool_use"] = True
    asked["tool_choice"] = choice


def _set_thinking(asked: dict[str, Any], call: Call) -> None:
    thought = thinking(call, asked["max_tokens"], forced=asked.get("tool_choice", {}).get("type") in ("any", "tool"))
    output = {**asked.get("output_config", {}), **thought.get("output_config", {})}
    asked |= {**thought, "output_config": output} if output else thought
    if thinks_by_budget(thought):
        for refused in ("temperature", "top_p", "top_k"):
            asked.pop(refused, None)


def thinking(call: Call, max_tokens: int, *, forced: bool) -> dict[str, Any]:
    """`thinking`, as the client wrote it itself or as its `reasoning_effort` has it, and for a model that thinks by
    effort `output_config`; {} for none of it. Another maker's cloud takes the same two fields."""
    effort = call.body.get("reasoning_effort")
    told = call.body.get("thinking", own_words(call.body).get("thinking"))
    found = dict(told) if isinstance(told, Mapping) else thinking_of(call.model.id, effort, max_tokens, forced=forced)
    if found is None:
        return {}
    if found.get("type") == "adaptive" and effort in EFFORTS:
        return {"thinking": found, "output_config": {"effort": EFFORTS[str(effort)]}}
    return {"thinking": found}


def thinks_by_budget(thought: Mapping[str, Any]) -> bool:
    """Beside a budget of thinking a model refuses sampling parameters."""
    return bool(thought.get("thinking", {}).get("type") == "enabled")


def own_words(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a client of Anthropic's own dialect asked that chat has no word for."""
    own = body.get("anthropic")
    return own if isinstance(own, Mapping) else {}


def thinking_of(model_id: str, effort: Any, max_tokens: int, *, forced: bool) -> dict[str, Any] | None:
    """The `thinking` object for OpenAI's `reasoning_effort`; None for none of it. `forced`: a tool must be called,
    which a model with a budget cannot think about."""
    if effort not in EFFORTS:
        return None
    if generation(model_id) >= (4, 6):
        return {"type": "adaptive"}
    budget = min(_BUDGETS[effort], max_tokens - 1)
    if generation(model_id) < (3, 7) or forced or budget < _LEAST_BUDGET:
        return None
    return {"type": "enabled", "budget_tokens": budget}
