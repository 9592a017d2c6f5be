"""OpenAI's own description as JSON Schema: to check requests against, and every response that goes out."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

OMITTED = frozenset({"discriminator", "example", "deprecated", "x-oaiMeta", "default", "format"})


@cache
def document() -> dict[str, Any]:
    path = Path(os.environ["EDGEWISE_DATA"]) / "api" / "gateway-subset.json"
    plain: dict[str, Any] = _plain(json.loads(path.read_text()))
    return plain


def _plain(node: Any) -> Any:
    """OpenAPI's `nullable` said in JSON Schema; numbers that a double has rounded up are put back below 2^63."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return -(2**63) if node == -9223372036854776000 else 2**63 - 1 if node == 9223372036854776000 else node
    kept = {key: _plain(value) for key, value in node.items() if key not in OMITTED or isinstance(value, dict)}
    if node.get("nullable") is True:
        kept.pop("nullable")
        return {"anyOf": [kept, {"type": "null"}]}
    return kept


@cache
def validator(name: str) -> Any:
    """A validator of the schema `name`."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document()["components"]})


def conforms(value: Any, name: str) -> None:
    """Fail with the first few flaws if `value` is not a `name`."""
    flaws = sorted(validator(name).iter_errors(value), key=lambda flaw: list(flaw.absolute_path), reverse=True)
    assert not flaws, [(list(flaw.absolute_path), flaw.message[:200]) for flaw in flaws[:5]]
