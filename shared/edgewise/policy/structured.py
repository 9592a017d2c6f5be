"""Structured output, checked: does the answer fit the schema that was asked for, and if not, what to ask once more.

Pure but for the one call that `mended` may make. The checker knows the part of JSON Schema that OpenAI's structured
outputs allow, and references within the schema. It leaves `pattern` and `format` to the model: a client's regular
expression is never run in this process. A keyword that it does not know is not checked, so it may pass what another
would refuse, never the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from edgewise.chat import Answer, ChatRequest
from edgewise.errors import UpstreamError

Again = Callable[[ChatRequest], Awaitable[Answer]]
"""Asks the model that has answered once more. Raises `UpstreamError`."""

MAX_DEPTH = 64
MAX_PROBLEMS = 8
MAX_STEPS = 50_000

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def schema_of(request: ChatRequest) -> Mapping[str, Any] | None:
    """The schema that the answer must fit; {} for any JSON object; None when the request does not ask for JSON."""
    form = request.body.get("response_format")
    if not isinstance(form, Mapping):
        return None
    if form.get("type") == "json_object":
        return {"type": "object"}
    if form.get("type") == "json_schema" and isinstance(form.get("json_schema"), Mapping):
        schema = form["json_schema"].get("schema")
        return schema if isinstance(schema, Mapping) else {}
    return None


def problems(request: ChatRequest, answer: Answer) -> list[str]:
    """What is wrong with a JSON answer, for the model to read; empty when it fits or none was asked for.

    Refusals, tool calls and answers that were cut short are not looked at: asking again would not mend them.
    """
    schema = schema_of(request)
    if schema is None or answer.refusal or answer.tool_calls or answer.finish_reasons[:1] != ("stop",):
        return []
    try:
        value = json.loads(answer.text)
    except ValueError:
        return ["The answer is not JSON."]
    return list(_bounded(_Checker(schema).check(schema, value, "$", 0)))


def repair(request: ChatRequest, answer: Answer, found: list[str]) -> ChatRequest:
    """The request that asks once more, showing the model its answer and what was wrong with it."""
    wrong = "\n".join(f"- {problem}" for problem in found)
    messages = [
        *request.messages,
        {"role": "assistant", "content": answer.text},
        {
            "role": "user",
            "content": f"That does not fit the required JSON schema:\n{wrong}\nAnswer with the JSON only.",
        },
    ]
    return replace(request, body={**request.body, "messages": messages}, stream=False)


def unfence(text: str) -> str:
    """JSON out of a Markdown fence, if that is all there is around it: the commonest flaw, mended without a call."""
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and stripped.count("```") == 2:
        first, _, rest = stripped[3:-3].partition("\n")
        if first.strip().lower() in ("", "json"):
            return rest.strip()
    return text


async def mended(request: ChatRequest, answer: Answer, again: Again) -> Answer:
    """The answer if it fits, else without its fence if that mends it, else what one more call brings.

    A second answer that fits no better, or that does not come, leaves the first: it was paid for.
    """
    found = problems(request, answer)
    if not found:
        return answer
    bare = _with_text(answer, unfence(answer.text))
    if not problems(request, bare):
        return bare
    try:
        second = await again(repair(request, answer, found))
    except UpstreamError:
        return answer
    return second if len(problems(request, second)) < len(found) else answer


def _with_text(answer: Answer, text: str) -> Answer:
    first, *rest = answer.choices
    message = {**first["message"], "content": text}
    return Answer({**answer.completion, "choices": [{**first, "message": message}, *rest]})


def _bounded(found: Iterator[str]) -> Iterator[str]:
    for number, problem in enumerate(found):
        if number == MAX_PROBLEMS:
            return
        yield problem


class _Checker:
    """Walks value and schema together; a schema that loops runs out of steps, and what is left is not checked."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps = MAX_STEPS

    def check(self, schema: Any, value: Any, path: str, depth: int) -> Iterator[str]:
        self._steps -= 1
        if self._steps <= 0 or depth > MAX_DEPTH or schema is True or not isinstance(schema, Mapping):
            if schema is False:
                yield f"{path} must not be there."
            return
        if isinstance(schema.get("$ref"), str):
            yield from self.check(self._resolve(schema["$ref"]), value, path, depth + 1)
        yield from _check_type(schema, value, path)
        if (
            "enum" in schema
            and isinstance(schema["enum"], list)
            and not any(_same(value, one) for one in schema["enum"])
        ):
            yield f"{path} must be one of {json.dumps(schema['enum'])[:200]}."
        if "const" in schema and not _same(value, schema["const"]):
            yield f"{path} must be {json.dumps(schema['const'])[:200]}."
        yield from _check_bounds(schema, value, path)
        yield from self._combined(schema, value, path, depth)
        if isinstance(value, dict):
            yield from self._object(schema, value, path, depth)
        elif isinstance(value, list):
            yield from self._array(schema, value, path, depth)

    def _resolve(self, reference: str) -> Any:
        node: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if not part:
                continue
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or name not in node:
                return True
            node = node[name]
        return node

    def _combined(self, schema: Mapping[str, Any], value: Any, path: str, depth: int) -> Iterator[str]:
        for one in schema.get("allOf") or ():
            yield from self.check(one, value, path, depth + 1)
        for name in ("anyOf", "oneOf"):
            choices = schema.get(name)
            if isinstance(choices, list) and choices and not any(self._fits(c, value, path, depth) for c in choices):
                yield f"{path} fits none of the alternatives in {name}."

    def _fits(self, schema: Any, value: Any, path: str, depth: int) -> bool:
        return next(self.check(schema, value, path, depth + 1), None) is None

    def _object(self, schema: Mapping[str, Any], value: dict[str, Any], path: str, depth: int) -> Iterator[str]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        for name in schema.get("required") or ():
            if name not in value:
                yield f"{path}.{name} is missing."
        extra = schema.get("additionalProperties", True)
        for name, one in value.items():
            if name in properties:
                yield from self.check(properties[name], one, f"{path}.{name}", depth + 1)
            elif extra is False:
                yield f"{path}.{name} is not in the schema."
            else:
                yield from self.check(extra, one, f"{path}.{name}", depth + 1)

    def _array(self, schema: Mapping[str, Any], value: list[Any], path: str, depth: int) -> Iterator[str]:
        first = schema.get("prefixItems")
        first = first if isinstance(first, list) else []
        for number, one in enumerate(value):
            rule = first[number] if number < len(first) else schema.get("items", True)
            yield from self.check(rule, one, f"{path}[{number}]", depth + 1)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _check_type(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    known = [name for name in names if name in _TYPES]
    if known and not any(_is(value, name) for name in known):
        yield f"{path} must be of type {' or '.join(known)}."


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name]) or (name == "integer" and isinstance(value, float) and value.is_integer())


def _check_bounds(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        measured, names = value, ("minimum", "maximum")
    elif isinstance(value, str):
        measured, names = len(value), ("minLength", "maxLength")
    elif isinstance(value, list):
        measured, names = len(value), ("minItems", "maxItems")
    else:
        return
    low, high = (schema.get(name) for name in names)
    if isinstance(low, (int, float)) and measured < low:
        yield f"{path}: {names[0]} is {low}."
    if isinstance(high, (int, float)) and measured > high:
        yield f"{path}: {names[1]} is {high}."
