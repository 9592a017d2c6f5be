"""The description of this API, made when asked for, of the routes that are mounted.

A route's summary is the first line of its endpoint's docstring. Bodies follow OpenAI's own description, so the big
ones are named here and not repeated.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from starlette.routing import Route

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MODEL = {"type": "string", "minLength": 1, "maxLength": 512}
_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "developer", "user"]},
        "content": {"type": "string"},
    },
}
_BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "description": "OpenAI's CreateChatCompletionRequest. Fields that it does not name are forwarded.",
        "required": ["model", "messages"],
        "properties": {"model": _MODEL, "messages": {"type": "array", "minItems": 1, "items": _MESSAGE}},
    },
    "/v1/responses": {
        "description": "OpenAI's CreateResponse.",
        "required": ["model", "input"],
        "properties": {"model": _MODEL, "input": {"type": "string"}},
    },
    "/v1/embeddings": {
        "description": "OpenAI's CreateEmbeddingRequest.",
        "required": ["model", "input"],
        "properties": {"model": _MODEL, "input": {"type": "string", "minLength": 1}},
    },
}
_SUMMARIES = {
    "/v1/chat/completions": "An answer to a conversation, whole or as events",
    "/v1/responses": "A response, whole or as events",
    "/healthz": "The gateway runs",
    "/readyz": "The gateway and what is behind it answer",
    "/openapi.json": "This description",
    "/v1/models": "The models that may be asked for",
    "/v1/models/{id}": "One model",
    "/v1/embeddings": "Vectors of texts",
}
_OPEN = frozenset({"/healthz", "/readyz", "/openapi.json", "/"})
_FAILURE = {
    "description": "An error in OpenAI's shape",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


def document(routes: Iterable[tuple[str, Route]]) -> dict[str, Any]:
    """An OpenAPI 3.1 document of `routes`, each with the template of its path."""
    paths: dict[str, Any] = {}
    for template, route in routes:
        path = _PARAMETER.sub(r"{\1}", template)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(template, path, method, route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Edgewise", "version": "1", "description": "An OpenAI-compatible gateway."},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(template: str, path: str, method: str, route: Route) -> dict[str, Any]:
    summary = _SUMMARIES.get(path) or _first_line(route.endpoint) or f"{method} {path}"
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": summary}, "default": _FAILURE},
    }
    if path not in _OPEN and not path.startswith("/console/"):
        operation["security"] = [{"bearer": []}]
    names = _PARAMETER.findall(template)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if path in _BODIES:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object", **_BODIES[path]}}},
        }
    return operation


def _first_line(endpoint: Any) -> str:
    return (inspect.getdoc(endpoint) or "").partition("\n")[0].rstrip(".")
