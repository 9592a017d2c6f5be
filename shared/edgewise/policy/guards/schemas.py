"""JSON schemas in tools and response formats: bounded before anything walks them.

A schema can be small on the wire and endless in work: references that expand into each other, a pattern that a
backtracking engine never finishes, a thousand alternatives of a thousand. Here they are counted, never expanded;
references may only point into the same schema; and a client's regular expression is never compiled in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.errors import InvalidRequest

MAX_NODES = 20_000
MAX_DEPTH = 32
MAX_ENUM = 2_000
MAX_PATTERN = 1_000
MAX_TOOLS = 256
MAX_REFERENCES = 1_000


def check_schemas(body: Mapping[str, Any]) -> None:
    """Raises InvalidRequest, with the place as `param`."""
    tools = body.get("tools")
    if isinstance(tools, list):
        if len(tools) > MAX_TOOLS:
            raise InvalidRequest(f"At most {MAX_TOOLS} tools may be given.", param="tools")
        budget = _Count()
        for number, tool in enumerate(tools):
            function = tool.get("function") if isinstance(tool, Mapping) else None
            if isinstance(function, Mapping) and "parameters" in function:
                budget.walk(function["parameters"], f"tools[{number}].function.parameters", 0)
    functions = body.get("functions")
    if isinstance(functions, list):
        _Count().walk(functions, "functions", 0)
    form = body.get("response_format")
    if isinstance(form, Mapping) and isinstance(form.get("json_schema"), Mapping):
        _Count().walk(form["json_schema"].get("schema"), "response_format.json_schema.schema", 0)


class _Count:
    """Nodes and references seen so far."""

    __slots__ = ("nodes", "references")

    def __init__(self) -> None:
        self.nodes = 0
        self.references = 0

    def walk(self, node: Any, param: str, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise InvalidRequest("The schema is too large.", param=param, code="schema_too_complex")
        if isinstance(node, Mapping):
            if depth > MAX_DEPTH:
                raise InvalidRequest("The schema is too deep.", param=param, code="schema_too_complex")
            self._keywords(node, param)
            for value in node.values():
                self.walk(value, param, depth + 1)
        elif isinstance(node, list):
            for value in node:
                self.walk(value, param, depth + 1)

    def _keywords(self, node: Mapping[str, Any], param: str) -> None:
        reference = node.get("$ref")
        if isinstance(reference, str):
            self.references += 1
            if not reference.startswith("#") or self.references > MAX_REFERENCES:
                raise InvalidRequest(
                    "References may only point into the same schema.", param=param, code="schema_reference"
                )
        pattern, choices = node.get("pattern"), node.get("enum")
        if isinstance(pattern, str) and len(pattern) > MAX_PATTERN:
            raise InvalidRequest("A pattern is too long.", param=param, code="schema_too_complex")
        if isinstance(choices, list) and len(choices) > MAX_ENUM:
            raise InvalidRequest("An enumeration is too long.", param=param, code="schema_too_complex")
