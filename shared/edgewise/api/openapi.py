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
_ANTHROPIC_ERROR = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": "string"},
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
_TURN = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {"role": {"enum": ["user"]}, "content": {"type": "string", "minLength": 1}},
}
_BUDGET = {
    "type": "object",
    "required": ["per", "usd"],
    "additionalProperties": False,
    "properties": {
        "per": {"enum": ["day", "month", "forever"]},
        "usd": {"type": "integer", "minimum": 0, "maximum": 1000},
    },
}
_CAPS = ("input_tokens", "output_tokens", "choices", "messages")
_TERMS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "scopes": {"type": "array", "uniqueItems": True, "items": {"enum": ["*", "chat", "embeddings", "models"]}},
        "models": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 128}},
        "budgets": {"type": "array", "maxItems": 12, "items": _BUDGET},
        "limits": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "requests_per_minute": {"type": "integer", "minimum": 1, "maximum": 1000000},
                "tokens_per_minute": {"type": "integer", "minimum": 1, "maximum": 1000000},
                "in_flight": {"type": "integer", "minimum": 1, "maximum": 1000000},
            },
        },
        "cache": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "mode": {"enum": ["off", "exact", "semantic"]},
                "ttl_s": {"type": "number", "exclusiveMinimum": 0},
                "namespace": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
                "shared": {"type": "boolean"},
                "max_wrong_share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                "store": {"type": "boolean"},
            },
        },
        "routing": {"type": "object"},
        "guards": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "pii": {"enum": ["off", "flag", "redact", "refuse"]},
                "pii_kinds": {"type": "array", "items": {"type": "string"}},
                "injection": {"enum": ["off", "flag", "refuse"]},
                "bedrock_guardrail": {"type": "string", "pattern": "^[a-z0-9]+:(DRAFT|[1-9][0-9]{0,7})$"},
                "guardrail_answers": {"type": "boolean"},
                "guardrail_masks": {"type": "boolean"},
                "guardrail_down": {"enum": ["refuse", "pass"]},
                "image_urls": {"enum": ["public", "data"]},
                **{f"max_{what}": {"type": "integer", "minimum": 1} for what in _CAPS},
            },
        },
        "compress": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "whitespace": {"type": "boolean"},
                "duplicates": {"type": "boolean"},
                "history_tokens": {"type": "integer", "minimum": 64},
                "examples": {"type": "integer", "minimum": 1, "maximum": 64},
            },
        },
        "repair_json": {"type": "boolean"},
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
    "/v1/messages": {
        "description": "Anthropic's request for a message.",
        "required": ["model", "messages", "max_tokens"],
        "properties": {
            "model": _MODEL,
            "max_tokens": {"type": "integer", "minimum": 1},
            "messages": {"type": "array", "minItems": 1, "items": _TURN},
        },
    },
    "/v1/messages/count_tokens": {
        "description": "Anthropic's request for a count of tokens.",
        "required": ["model", "messages"],
        "properties": {"model": _MODEL, "messages": {"type": "array", "minItems": 1, "items": _TURN}},
    },
    "/v1/embeddings": {
        "description": "OpenAI's CreateEmbeddingRequest.",
        "required": ["model", "input"],
        "properties": {"model": _MODEL, "input": {"type": "string", "minLength": 1}},
    },
    "/v1/feedback": {
        "description": "What somebody thinks of an answer: its x-request-id, and a score from -1 to 1.",
        "required": ["request_id", "score"],
        "additionalProperties": False,
        "properties": {
            "request_id": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,128}$"},
            "score": {"type": "number", "minimum": -1, "maximum": 1},
            "reason": {"enum": ["wrong", "stale", "wrong_hit", "unsafe", "slow", "format", "other"]},
            "comment": {"type": "string", "maxLength": 4000},
        },
    },
    "/v1/admin/keys": {
        "description": "A new key. `terms` are what it may do; without any it may do everything but administer.",
        "additionalProperties": False,
        "properties": {
            "tenant": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
            "name": {"type": "string", "maxLength": 100},
            "terms": _TERMS,
        },
    },
    "/v1/admin/keys/{key_id}/rotate": {
        "additionalProperties": False,
        "properties": {"overlap_s": {"type": "number", "minimum": 0, "maximum": 2592000}},
    },
    "/v1/admin/tenants/{tenant}/budgets": {
        "required": ["budgets"],
        "additionalProperties": False,
        "properties": {"budgets": {"type": "array", "maxItems": 12, "items": _BUDGET}},
    },
    "/v1/admin/models/{name}": {
        "description": "Fields of a catalogue row, laid over the compiled ones. Prices are dollars per million tokens.",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            "tier": {"enum": ["tiny", "small", "medium", "large", "huge"]},
            "quality": {"type": "number", "minimum": 0, "maximum": 1},
            "context": {"type": "integer", "minimum": 1, "maximum": 1000000000},
            "output": {"type": "integer", "minimum": 1, "maximum": 1000000000},
            "latency_ms": {"type": "number", "minimum": 1, "maximum": 10000000},
            "auto": {"type": "boolean"},
            "price": {
                "type": ["object", "null"],
                "required": ["i", "o"],
                "properties": {name: {"type": "string", "pattern": "^[0-9]{1,5}(\\.[0-9]{1,6})?$"} for name in "iorw"},
                "additionalProperties": False,
            },
        },
    },
    "/v1/admin/bans": {
        "required": ["whom"],
        "additionalProperties": False,
        "properties": {
            "whom": {"type": "string", "pattern": "^(address|key):[A-Za-z0-9._:-]{1,64}$"},
            "reason": {"type": "string", "maxLength": 200},
            "for_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 31622400},
        },
    },
}
_MADE = {("POST", "/v1/admin/keys"), ("POST", "/v1/admin/bans")}
"""What answers 201."""
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
_ANTHROPIC_FAILURE = {
    "description": "An error in Anthropic's shape",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/AnthropicError"}}},
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
            "schemas": {"Error": _ERROR, "AnthropicError": _ANTHROPIC_ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(template: str, path: str, method: str, route: Route) -> dict[str, Any]:
    summary = _SUMMARIES.get(path) or _first_line(route.endpoint) or f"{method} {path}"
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "201" if (method, path) in _MADE else "200": {"description": summary},
            "default": _ANTHROPIC_FAILURE if path.startswith("/v1/messages") else _FAILURE,
        },
    }
    if path not in _OPEN and not path.startswith("/console/"):
        operation["security"] = [{"bearer": []}]
    names = _PARAMETER.findall(template)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if path in _BODIES and method not in ("GET", "DELETE"):
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object", **_BODIES[path]}}},
        }
    return operation


def _first_line(endpoint: Any) -> str:
    return (inspect.getdoc(endpoint) or "").partition("\n")[0].rstrip(".")
