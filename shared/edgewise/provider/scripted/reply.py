"""What a scripted model answers: decided by the request and the recipe, never by chance.

In this order: the recipe's own tool, refusal, text or length; a forced or fitting tool call; an instance of the asked
JSON schema; a JSON object; the last user turn again. A tool fits when the turn names it, or shares a word with its
name, and its result is not there yet. Arguments and JSON values are taken from the turn (`instance.py`), so "What is
the value of magic_function(3)?" calls `magic_function` with 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.provider.scripted.instance import Hints, arguments, instance
from edgewise.provider.scripted.recipe import Recipe, last_user_text, without_recipe

_LOREM = (
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "consectetur",
    "adipiscing",
    "elit",
    "sed",
    "do",
    "eiusmod",
    "tempor",
)
_WORD = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`kind` is 'function' or 'custom'; `argument` the JSON arguments, or a custom tool's input."""

    name: str
    argument: str
    kind: str = "function"


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice. `pieces` are the tokens of the text as they are streamed."""

    pieces: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    finish: str = "stop"

    @property
    def completion_tokens(self) -> int:
        """One a piece; a tool call counts a token for each four characters."""
        called = sum(1 + len(call.argument) // 4 for call in self.calls)
        return len(self.pieces) + called + len((self.refusal or "").split())


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Four characters of the messages and tools are one token, at least one."""
    return max(1, len(json.dumps([body.get("messages"), body.get("tools")], ensure_ascii=False)) // 4)


def reply(model_id: str, recipe: Recipe, body: Mapping[str, Any], stops: list[str], limit: int | None) -> Reply:
    """The reply to `body`. `limit` is the most tokens of text; `stops` end it before their first occurrence."""
    turn = without_recipe(last_user_text(body))
    if recipe.tool is not None:
        return Reply(calls=(ToolCall(recipe.tool, recipe.args or "{}"),), finish=recipe.finish or "tool_calls")
    if recipe.refusal is not None:
        return Reply(refusal=recipe.refusal, finish=recipe.finish or "stop")
    calls = () if _is_told(recipe) else _calls(model_id.partition("?")[0], body, turn)
    if calls:
        return Reply(calls=calls, finish=recipe.finish or "tool_calls")
    return _cut(_text(model_id, recipe, body, turn), stops, limit, recipe.finish)


def _is_told(recipe: Recipe) -> bool:
    return recipe.text is not None or recipe.tokens is not None


def _text(model_id: str, recipe: Recipe, body: Mapping[str, Any], turn: str) -> str:
    if recipe.text is not None:
        return recipe.text
    if recipe.tokens is not None:
        return " ".join(_LOREM[number % len(_LOREM)] for number in range(recipe.tokens))
    wanted = body.get("response_format")
    wanted = wanted if isinstance(wanted, Mapping) else {}
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema") or {}
        return json.dumps(instance(schema, Hints.of(turn)), ensure_ascii=False)
    if wanted.get("type") == "json_object" or model_id.partition("?")[0] == "json":
        keys = Hints.of(turn).quoted
        return json.dumps({key: f"{key} of this answer" for key in keys} or {"answer": turn}, ensure_ascii=False)
    return turn or "Hello."


def _cut(text: str, stops: list[str], limit: int | None, finish: str | None) -> Reply:
    for stop in stops:
        text = text.partition(stop)[0] if stop else text
    pieces = tuple(_WORD.findall(text))
    if limit is not None and len(pieces) > limit:
        return Reply(pieces[:limit], finish=finish or "length")
    return Reply(pieces, finish=finish or "stop")


def _calls(kind: str, body: Mapping[str, Any], turn: str) -> tuple[ToolCall, ...]:
    tools, forced = _allowed(body)
    messages = body.get("messages") or []
    if not tools or (not forced and messages and messages[-1].get("role") in ("tool", "function")):
        return ()
    named = [tool for tool in tools if re.search(rf"\b{re.escape(_name(tool))}\b", turn)]
    if not named:
        near = [tool for tool in tools if _shared(_name(tool), turn)]
        named = near[:1] or (tools[:1] if forced or kind == "tool" else [])
    if body.get("parallel_tool_calls") is False:
        named = named[:1]
    return tuple(_called(tool, turn) for tool in named)


def _allowed(body: Mapping[str, Any]) -> tuple[list[Any], bool]:
    """The tools that may be called, and whether one must be."""
    tools = [tool for tool in body.get("tools") or [] if isinstance(tool, Mapping) and _name(tool)]
    choice = body.get("tool_choice")
    if choice == "none":
        return [], False
    if isinstance(choice, Mapping):
        named = choice.get(str(choice.get("type"))) or {}
        if choice.get("type") == "allowed_tools":
            names = {_name(tool) for tool in named.get("tools") or []}
            return [tool for tool in tools if _name(tool) in names], named.get("mode") == "required"
        return [tool for tool in tools if _name(tool) == named.get("name")], True
    return tools, choice == "required"


def _name(tool: Mapping[str, Any]) -> str:
    return str((tool.get(str(tool.get("type", "function"))) or {}).get("name") or "")


def _shared(name: str, turn: str) -> bool:
    """Whether the turn has a word of the tool's name, of four letters or more."""
    said = {word.lower() for word in re.findall(r"\w{4,}", turn)}
    return any(part in said for part in re.findall(r"[A-Za-z][a-z]{3,}", name.replace("_", " ").lower()))


def _called(tool: Mapping[str, Any], turn: str) -> ToolCall:
    if tool.get("type") == "custom":
        return ToolCall(_name(tool), turn, "custom")
    schema = tool["function"].get("parameters") or {}
    return ToolCall(_name(tool), json.dumps(arguments(_name(tool), schema, turn), ensure_ascii=False))
