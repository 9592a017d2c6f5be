"""Which answers are worth keeping: whole, correct in form, and what was asked for.

An answer is asked for once and served many times, so doubt is a refusal to keep it, which costs one more call and
never a wrong answer. Not kept: errors, output cut short by its limit or by a filter, refusals, tool calls or JSON that
do not parse, streams that did not end, answers to flagged requests, answers that are too large. Each refusal is one
field term, for the record. The answer's quality is the router's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from edgewise.chat import Answer, text_of
from edgewise.words import Plan, Query

ToolCalls = Literal["keep", "skip"]


@dataclass(frozen=True, slots=True)
class Admission:
    """What the operator wants kept. `most_bytes` bounds the answer's JSON."""

    tool_calls: ToolCalls = "keep"
    most_bytes: int = 5_000_000


_ENDS = {
    "length": "truncated",
    "content_filter": "filtered",
    None: "unfinished",
}
_WHOLE = frozenset({"stop", "tool_calls", "function_call"})
_REFUSAL_CHARS = 400
"""A text longer than this that opens with an apology usually goes on to answer."""
_REFUSALS = re.compile(
    r"\s*(i['’]?m sorry|i am sorry|sorry|i apologi[sz]e|my apologies|unfortunately)?[,.:;!]?\s*(but\s+)?"
    r"(i (can['’]?t|cannot|can not|won['’]?t|will not|am unable to|['’]?m unable to|am not able to|['’]?m not able to)"
    r" (assist|help|comply|provide|fulfil|fulfill|answer|do that|continue|support|engage|discuss|create|generate|write)"
    r"|(抱歉|很抱歉|对不起|非常抱歉)[,,。]?\s*(但)?(我)?(无法|不能|没办法))",
    re.IGNORECASE,
)


def refusal(answer: Answer, query: Query, plan: Plan, admission: Admission) -> str:
    """Why `answer` is not kept, as one field term; '' when it is."""
    return unwanted(query, plan) or flaw(answer, plan.request.body, admission)


def unwanted(query: Query, plan: Plan) -> str:
    """Why no answer to this is kept, whatever it says; '' when one may be."""
    ask = plan.request.cache
    if plan.cache.mode == "off":
        return "off"
    if ask.no_store or not plan.cache.store:
        return "no-store"
    if query.nearness == "skip":
        return "skip"
    return "flagged" if plan.flags or (plan.late is not None and plan.late.flags) else ""


def flaw(answer: Answer, body: Mapping[str, Any], admission: Admission) -> str:
    """What is wrong with `answer` to the request `body`, whoever asked; '' when nothing is."""
    if answer.completion.get("error") is not None:
        return "error"
    if not answer.choices:
        return "empty"
    structured = _wants_json(body)
    for choice in answer.choices:
        found = _flaw_of_choice(choice, structured, admission.tool_calls)
        if found:
            return found
    return "too-big" if len(orjson.dumps(answer.completion)) > admission.most_bytes else ""


def _flaw_of_choice(choice: Mapping[str, Any], structured: bool, tool_calls: ToolCalls) -> str:
    end = choice.get("finish_reason")
    if end not in _WHOLE:
        return _ENDS.get(end, "unfinished")
    message = choice.get("message") or {}
    if message.get("refusal"):
        return "refused"
    calls = [*(message.get("tool_calls") or ()), *([message["function_call"]] if message.get("function_call") else ())]
    if calls:
        return "tool-calls" if tool_calls == "skip" else _flaw_of_calls(calls)
    if end != "stop":
        return "broken-tool-call"
    text = text_of(message.get("content"))
    if not text.strip():
        return "" if message.get("audio") else "empty"
    if structured and not _is_json(text):
        return "broken-json"
    return "refused" if len(text) <= _REFUSAL_CHARS and _REFUSALS.match(text) else ""


def _flaw_of_calls(calls: list[Mapping[str, Any]]) -> str:
    for call in calls:
        if call.get("type") == "custom":
            # A custom tool takes free text.
            if not (call.get("custom") or {}).get("name"):
                return "broken-tool-call"
            continue
        function = call.get("function", call)
        # Some models send no arguments at all for a function that takes none.
        arguments = function.get("arguments") or "{}"
        if not function.get("name") or not isinstance(arguments, str) or not _is_json(arguments, dict):
            return "broken-tool-call"
    return ""


def _wants_json(body: Mapping[str, Any]) -> bool:
    wanted = body.get("response_format")
    return isinstance(wanted, Mapping) and wanted.get("type") in ("json_object", "json_schema")


def _is_json(text: str, kind: type = object) -> bool:
    try:
        return isinstance(orjson.loads(text), kind)
    except orjson.JSONDecodeError:
        return False
