"""A valid instance of a JSON schema, with values taken from a text where it offers some.

Deterministic: strings come from the text's quoted passages in order, numbers from its numbers, enumerations from the
words it mentions; what it does not offer is the smallest valid value. A schema's `pattern` is not compiled, because a
client's regular expression may be a bomb; a `$ref` that goes round in circles ends at depth 12 by leaving optional
properties out.

Source: JSON Schema 2020-12, the keywords that structured outputs and tools use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_DEEPEST = 12
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_QUOTED = re.compile(r"\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)|“([^”]+)”|「([^」]+)」")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")


@dataclass(slots=True)
class Hints:
    """What a text offers; taken in order, each once."""

    text: str
    quoted: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> Hints:
        quoted = [next(group for group in match if group) for match in _QUOTED.findall(text)]
        return cls(text, quoted, _NUMBER.findall(text))


def arguments(name: str, schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Arguments for the function `name`: those of a literal `name(…)` in `text`, the rest filled from it."""
    given: dict[str, Any] = {}
    properties = list(schema.get("properties") or {})
    written = re.search(rf"\b{re.escape(name)}\(([^()]*)\)", text)
    if written:
        positions = iter(properties)
        for part in filter(None, (part.strip() for part in written[1].split(","))):
            key, equals, value = part.partition("=")
            target = key.strip() if equals and key.strip() in properties else next(positions, None)
            if target is not None:
                given[target] = _literal(value if equals else part)
    filled = instance(schema, Hints.of(text), given=given)
    return filled if isinstance(filled, dict) else {}


def _literal(text: str) -> Any:
    try:
        return json.loads(text.strip().replace("'", '"'))
    except ValueError:
        return text.strip()


def instance(
    schema: Any,
    hints: Hints,
    *,
    root: Any = None,
    key: str = "",
    depth: int = 0,
    given: Mapping[str, Any] | None = None,
) -> Any:
    """A value that `schema` accepts. `key` is the property's name, `given` are properties already known."""
    if not isinstance(schema, Mapping):
        return {}
    root = schema if root is None else root
    if "$ref" in schema and depth < _DEEPEST:
        return instance(_resolved(root, str(schema["$ref"])), hints, root=root, key=key, depth=depth + 1)
    for same in ("const", "default"):
        if same in schema:
            return schema[same]
    if schema.get("enum"):
        mentioned = (
            value for value in schema["enum"] if isinstance(value, str) and value.lower() in hints.text.lower()
        )
        return next(mentioned, schema["enum"][0])
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return instance(_simplest(schema[union]), hints, root=root, key=key, depth=depth + 1)
    if schema.get("allOf"):
        parts = [_resolved(root, part["$ref"]) if "$ref" in part else part for part in schema["allOf"]]
        schema = _merged([schema, *parts])
    match _kind(schema):
        case "object":
            return _object(schema, hints, root, depth, given or {})
        case "array":
            return _array(schema, hints, root, key, depth)
        case "integer" | "number" as kind:
            return _number(schema, hints, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema, hints, key)


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind)


def _object(schema: Mapping[str, Any], hints: Hints, root: Any, depth: int, given: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = schema.get("required") or []
    made = {}
    for key, part in {**{key: {"type": "string"} for key in required}, **properties}.items():
        if key in given:
            made[key] = given[key]
        elif key in required or (depth < 3 and not _optional_by_default(part)):
            made[key] = instance(part, hints, root=root, key=key, depth=depth + 1)
    for number in range(int(schema.get("minProperties") or 0) - len(made)):
        made[f"key{number}"] = "value"
    return made


def _optional_by_default(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("default", "") is None


def _array(schema: Mapping[str, Any], hints: Hints, root: Any, key: str, depth: int) -> list[Any]:
    prefix = [instance(part, hints, root=root, key=key, depth=depth + 1) for part in schema.get("prefixItems") or []]
    least = int(schema.get("minItems") or 0)
    wanted = max(least, 1 if depth < _DEEPEST and schema.get("maxItems", 1) > 0 and not prefix else 0) - len(prefix)
    items = schema.get("items")
    return prefix + [
        instance(
            items if isinstance(items, Mapping) else {"type": "string"}, hints, root=root, key=key, depth=depth + 1
        )
        for _ in range(max(0, wanted))
    ]


def _number(schema: Mapping[str, Any], hints: Hints, *, whole: bool) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf")
    for number, text in enumerate(hints.numbers):
        value = float(text)
        if (
            (whole and not value.is_integer())
            or (low is not None and value < low)
            or (high is not None and value > high)
        ):
            continue
        if value in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")) or (step and value % step):
            continue
        hints.numbers.pop(number)
        return int(value) if value.is_integer() else value
    if step:
        return _stepped(step, low)
    value = 1 if low is None else low + (1 if "minimum" not in schema else 0)
    if high is not None and value >= high:
        value = high if "maximum" in schema else (low + high) / 2 if low is not None else high - 1
    return int(value) if whole else value


def _stepped(step: float, low: float | None) -> int | float:
    return step if low is None or low < step else step * (int(low // step) + 1)


def _string(schema: Mapping[str, Any], hints: Hints, key: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    if schema.get("examples"):
        return str(schema["examples"][0])
    place = (
        re.search(r"\b(?:in|at|for)\s+([A-Z][\w .,'-]*)", hints.text) if re.search("city|place|location", key) else None
    )
    if hints.quoted:
        text = hints.quoted.pop(0)
    elif place:
        text = place[1].rstrip(" .,")
    else:
        text = key or "text"
    text = text.ljust(int(schema.get("minLength") or 0), ".")
    return text[: schema["maxLength"]] if "maxLength" in schema else text


def _resolved(root: Any, reference: str) -> Any:
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
    return found


def _simplest(options: list[Any]) -> Any:
    """The first option that is not null and not a reference, else the first that is not null."""
    solid = [option for option in options if isinstance(option, Mapping) and option.get("type") != "null"]
    return next((option for option in solid if "$ref" not in option), (solid or options)[0])


def _merged(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if key == "properties":
                merged[key] = {**merged.get(key, {}), **value}
            elif key == "required":
                merged[key] = [*merged.get(key, []), *value]
            elif key != "allOf":
                merged[key] = value
    return merged
