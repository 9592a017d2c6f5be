"""One log line per request, by allow-list.

A field is in the line because it is named here; nothing is logged for having been there. Bodies, headers, keys and
addresses are therefore absent by construction. Names follow OpenTelemetry's GenAI conventions where those have one
(opentelemetry.io/docs/specs/semconv/gen-ai), else start with `edgewise.`.

Models and errors' codes may be a client's own words or an upstream's (where any model's name is passed on): they pass
only when they look like a name, because a key pasted into the wrong field must not become a log line.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from edgewise.words import Attempt, Note

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,95}\Z")
SECRET_LIKE = re.compile(r"(?:^|[^A-Za-z0-9])(?:ew_|sk-|sk_|gh[pousr]_|AKIA|ASIA|AIza|xox)|[A-Za-z0-9+]{32,}")
ODD = "(not a name)"

OPERATIONS = {"embeddings": "embeddings", "responses": "chat", "messages": "chat", "chat": "chat"}


@lru_cache(maxsize=1024)
def name_only(text: str) -> str:
    """`text` when it looks like a model's or an error's name, else a placeholder."""
    if not text:
        return ""
    return text if NAME.match(text) and not SECRET_LIKE.search(text) else ODD


def operation_of(route: str) -> str:
    """OpenTelemetry's `gen_ai.operation.name` for a route's template; the route's last word when it has none."""
    words = [word for word in route.split("/") if word and word != "v1"]
    return OPERATIONS.get(words[0], words[0]) if words else ""


def line_of(note: Note) -> dict[str, Any]:
    """The line as a flat mapping, without what is unknown. Times in ms, money in US dollars as a decimal string."""
    usage = note.usage
    line: dict[str, Any] = {
        "level": "ERROR" if note.status >= 500 else "INFO",
        "message": "request",
        "time": round(note.at, 3),
        "request_id": note.request_id,
        "http.route": note.route,
        "http.response.status_code": note.status,
        "gen_ai.operation.name": operation_of(note.route),
        "edgewise.cache": note.cache,
        "edgewise.latency_ms": round(note.latency_ms, 3),
        "edgewise.overhead_ms": round(note.overhead_ms, 3),
        "edgewise.attempts": len(note.attempts),
    }
    if note.tenant:
        line["edgewise.tenant"] = note.tenant
        line["edgewise.key_id"] = note.key_id
    if note.asked_model:
        line["gen_ai.request.model"] = name_only(note.asked_model)
    if note.model:
        line["gen_ai.response.model"] = name_only(note.model)
        line["gen_ai.provider.name"] = note.provider
    if note.error is not None:
        line["error.type"] = name_only(note.error)
    if note.stream:
        line["edgewise.stream"] = True
    if note.first_ms is not None:
        line["edgewise.first_ms"] = round(note.first_ms, 3)
    if note.finish is not None:
        line["gen_ai.response.finish_reasons"] = [name_only(note.finish)]
    if usage is not None:
        line["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        line["gen_ai.usage.output_tokens"] = usage.completion_tokens
        if usage.cached_tokens:
            line["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        if usage.reasoning_tokens:
            line["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    if note.cost_usd is not None:
        line["edgewise.cost_usd"] = str(note.cost_usd)
    if note.saved_usd is not None:
        line["edgewise.saved_usd"] = str(note.saved_usd)
    _add_reasons(line, note)
    if note.attempts:
        line["edgewise.tries"] = [_try_of(attempt) for attempt in note.attempts]
    return line


def _add_reasons(line: dict[str, Any], note: Note) -> None:
    """Why: the cache's word, the router's, the guards'."""
    if note.cache_kind is not None:
        line["edgewise.cache_kind"] = note.cache_kind
    if note.cache_reason is not None:
        line["edgewise.cache_reason"] = note.cache_reason
    if note.similarity is not None:
        line["edgewise.similarity"] = round(note.similarity, 4)
    if note.strategy is not None:
        line["edgewise.strategy"] = note.strategy
    if note.route_reason is not None:
        line["edgewise.route_reason"] = note.route_reason[:200]
    if note.confidence is not None:
        line["edgewise.confidence"] = round(note.confidence, 4)
        line["edgewise.confidence_source"] = note.confidence_source
    if note.features:
        line["edgewise.features"] = {key: _plain(value) for key, value in note.features.items()}
    if note.flags:
        line["edgewise.flags"] = list(note.flags)


def _plain(value: Any) -> Any:
    """A routing feature: numbers as they are, words only when they look like names."""
    if isinstance(value, str):
        return name_only(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float) or value is None else ODD


def _try_of(attempt: Attempt) -> dict[str, Any]:
    line: dict[str, Any] = {
        "model": name_only(attempt.model.name),
        "role": attempt.role,
        "status": attempt.status,
        "latency_ms": round(attempt.latency_ms, 3),
    }
    if attempt.error is not None:
        line["error"] = name_only(attempt.error)
    if attempt.cost_usd is not None:
        line["cost_usd"] = str(attempt.cost_usd)
    return line
