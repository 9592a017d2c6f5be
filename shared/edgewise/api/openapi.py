"""The description of this API, made when asked for: paths, what they take and what every error looks like.

The bodies follow OpenAI's own description, so they are named here and not repeated.
"""

from __future__ import annotations

from typing import Any

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
_JSON_ERROR = {
    "description": "An error",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_PATHS: tuple[tuple[str, str, str, str], ...] = (
    ("post", "/v1/chat/completions", "CreateChatCompletionRequest", "An answer, whole or as events"),
    ("post", "/v1/responses", "CreateResponse", "A response, whole or as events"),
    ("post", "/v1/embeddings", "CreateEmbeddingRequest", "Vectors"),
    ("get", "/v1/models", "", "The models that may be asked for"),
    ("get", "/v1/models/{id}", "", "One model"),
    ("get", "/healthz", "", "The gateway runs"),
    ("get", "/readyz", "", "The gateway and what is behind it answer"),
)


def document() -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for method, path, body, summary in _PATHS:
        paths.setdefault(path, {})[method] = _operation(path, body, summary)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Edgewise", "version": "1", "description": "An OpenAI-compatible gateway."},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(path: str, body: str, summary: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": {"type": "object"}}}},
            "default": _JSON_ERROR,
        },
    }
    if path.startswith("/v1/"):
        operation["security"] = [{"bearer": []}]
    if "{id}" in path:
        operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    if body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object", "description": f"OpenAI's {body}"}}},
        }
    return operation
