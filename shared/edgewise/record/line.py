"""One log line per request, by allow-list.

A field is in the line because it is named here; nothing is logged for having been there. Bodies, headers, keys and
addresses are therefore absent by construction. Names follow OpenTelemetry's GenAI conventions where those have one
(opentelemetry.io/docs/specs/semconv/gen-ai), else start with `edgewise.`.

Models and errors' codes may be a client's own words or an upstream's (where any model's name is passed on): they pass
only when they look like a name, because a key pasted into the wrong field must not become a log line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from edgewise.record.emf import is_ours
from edgewise.words import Attempt, Note

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,95}\Z")
SECRET_LIKE = re.compile(r"(?:^|[^A-Za-z0-9])(?:ew_|sk-|sk_|gh[pousr]_|AKIA|ASIA|AIza|xox)|[A-Za-z0-9+]{32,}")
ODD = "(not a name)"

Word = str | None
Kind = tuple[str, int, Word, str, str, str, str, str, bool, Word, str, Word, Word, Word]
REASONS = ("cache_kind", "cache_reason", "strategy")

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


def written(note: Note, own: Mapping[str, Any]) -> bytes:
    """The line, newline and all: one flat object of what requests of this kind share and what is this one's `own`."""
    return _same(kind_of(note)) + orjson.dumps(own, option=orjson.OPT_APPEND_NEWLINE)[1:]


def kind_of(note: Note) -> Kind:
    """What is the same for requests of one kind, which a key mostly makes."""
    return (
        note.route,
        note.status,
        note.error,
        note.tenant,
        note.key_id,
        note.asked_model,
        note.model,
        note.provider,
        note.stream,
        note.finish,
        note.cache,
        note.cache_kind,
        note.cache_reason,
        note.strategy,
    )


def own_of(note: Note) -> dict[str, Any]:
    """What is this request's own, without what is unknown. Times in ms, money in US dollars as a decimal string."""
    line: dict[str, Any] = {
        "time": round(note.at, 3),
        "request_id": note.request_id,
        "edgewise.latency_ms": thousandths(note.latency_ms),
        "edgewise.overhead_ms": thousandths(note.overhead_ms),
        "edgewise.attempts": len(note.attempts),
    }
    if note.first_ms is not None:
        line["edgewise.first_ms"] = thousandths(note.first_ms)
    usage = note.usage
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
    if note.similarity is not None:
        line["edgewise.similarity"] = round(note.similarity, 4)
    if note.route_reason is not None:
        line["edgewise.route_reason"] = note.route_reason[:200]
    if note.confidence is not None:
        line["edgewise.confidence"] = round(note.confidence, 4)
        line["edgewise.confidence_source"] = note.confidence_source
    if note.features:
        line["edgewise.features"] = {
            key: value if type(value) in NUMBERS else _plain(value) for key, value in note.features.items()
        }
    if note.saved_tokens:
        line["edgewise.compressed_tokens"] = note.saved_tokens
    if note.flags:
        line["edgewise.flags"] = list(note.flags)
    if note.attempts:
        line["edgewise.tries"] = [_try_of(attempt) for attempt in note.attempts]
    return line


def thousandths(value: float) -> float:
    """`value` to three decimals, for a time of at least 0; `round` takes four times as long."""
    return int(value * 1000 + 0.5) / 1000


@lru_cache(maxsize=1024)
def _same(kind: Kind) -> bytes:
    """The beginning of every line of one kind, as JSON up to its last comma: written anew it was half of a line's
    cost."""
    route, status, error, tenant, key_id, asked_model, model, provider, stream, finish, cache, *why = kind
    line: dict[str, Any] = {
        "level": "ERROR" if is_ours(status, error) else "INFO",
        "message": "request",
        "http.route": route,
        "http.response.status_code": status,
        "gen_ai.operation.name": operation_of(route),
        "edgewise.cache": cache,
    }
    if tenant:
        line |= {"edgewise.tenant": tenant, "edgewise.key_id": key_id}
    if asked_model:
        line["gen_ai.request.model"] = name_only(asked_model)
    if model:
        line |= {"gen_ai.response.model": name_only(model), "gen_ai.provider.name": provider}
    if error is not None:
        line["error.type"] = name_only(error)
    if stream:
        line["edgewise.stream"] = True
    if finish is not None:
        line["gen_ai.response.finish_reasons"] = [name_only(finish)]
    line |= {f"edgewise.{name}": word for name, word in zip(REASONS, why, strict=True) if word is not None}
    return orjson.dumps(line)[:-1] + b","


NUMBERS = frozenset({bool, float, int, type(None)})
"""Types of a feature that go on the line as they are; nearly all are numbers."""


def _plain(value: Any) -> Any:
    """Another routing feature: words only when they look like names."""
    if isinstance(value, str):
        return name_only(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if type(value) in NUMBERS else ODD


def _try_of(attempt: Attempt) -> dict[str, Any]:
    line: dict[str, Any] = {
        "model": name_only(attempt.model.name),
        "role": attempt.role,
        "status": attempt.status,
        "latency_ms": thousandths(attempt.latency_ms),
    }
    if attempt.error is not None:
        line["error"] = name_only(attempt.error)
    if attempt.cost_usd is not None:
        line["cost_usd"] = str(attempt.cost_usd)
    return line
