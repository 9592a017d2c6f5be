"""Warming: a list of prompts becomes a batch of requests, whose answers fill the cache on their way.

The requests go the batch path, so they are paced, retried and charged like any; what is cached already costs nothing.
A list is read as it comes: lines of text, JSON lines of prompts, of chat bodies or of a batch's own lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from edgewise.errors import InvalidRequest

MOST_FILE_BYTES = 4_000_000
"""A function URL takes 6 MB, as base64."""


def bodies_of(text: bytes, model: str) -> list[dict[str, Any]]:
    """The chat bodies that a list asks for, each once, in order. `model` for those that name none.

    Raises InvalidRequest with the number of the first line that is none of the four shapes.
    """
    found: dict[bytes, dict[str, Any]] = {}
    # Lines end at \\n only: a prompt may hold any other separator.
    for number, line in enumerate(text.split(b"\n"), 1):
        stripped = line.strip()
        if stripped:
            body = _body_of(stripped, number, model)
            found.setdefault(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), body)
    return list(found.values())


def _body_of(line: bytes, number: int, model: str) -> dict[str, Any]:
    if line[:1] not in (b"{", b'"'):
        try:
            return _prompt(line.decode(), model)
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"Line {number} is not UTF-8.") from error
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"Line {number} begins like JSON but is not: {error}.") from error
    if isinstance(told, str):
        return _prompt(told, model)
    if isinstance(told.get("body"), dict):
        told = told["body"]
    if isinstance(told.get("messages"), list):
        return {"model": model, **told}
    if isinstance(told.get("prompt"), str):
        return _prompt(told["prompt"], str(told.get("model") or model))
    raise InvalidRequest(f"Line {number} has neither `prompt` nor `messages` nor a `body` with them.")


def _prompt(text: str, model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def batch_files(bodies: Iterable[dict[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """Batch input files that fit into one request each and name one model each, as a batch must; with the number of
    their lines."""
    by_model: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, body in enumerate(bodies, 1):
        by_model.setdefault(str(body.get("model")), []).append((number, body))
    for listed in by_model.values():
        yield from _files(listed)


def _files(bodies: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, bytes]]:
    lines: list[bytes] = []
    size = 0
    for number, body in bodies:
        asked = {"custom_id": f"warm-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        line = orjson.dumps(asked) + b"\n"
        if lines and size + len(line) > MOST_FILE_BYTES:
            yield len(lines), b"".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield len(lines), b"".join(lines)


@dataclass(frozen=True, slots=True)
class Cost:
    """What warming `requests` requests may cost, from a sample. None: a price is unknown, which is not zero."""

    requests: int
    sampled: int
    cached: int
    """Of the sample, those that are in the cache already."""
    expected_usd: Decimal | None
    worst_usd: Decimal | None


def estimate(requests: int, answers: list[dict[str, Any]]) -> Cost:
    """From the answers to dry runs of a sample: a choice with its costs, or a completion that was cached."""
    expected: list[Decimal | None] = []
    worst: list[Decimal | None] = []
    cached = 0
    for answer in answers:
        if answer.get("object") == "chat.completion":
            cached += 1
            expected.append(Decimal(0))
            worst.append(Decimal(0))
        else:
            dearest = _usd(answer.get("worst_usd"))
            usual = _usd((answer.get("expected") or {}).get("cost_usd"))
            expected.append(usual if usual is not None else dearest)
            worst.append(dearest)
    return Cost(requests, len(answers), cached, _scaled(expected, requests), _scaled(worst, requests))


def _usd(told: Any) -> Decimal | None:
    return None if told is None else Decimal(str(told))


def _scaled(costs: list[Decimal | None], requests: int) -> Decimal | None:
    known = [cost for cost in costs if cost is not None]
    if not costs or len(known) < len(costs):
        return None
    return sum(known, Decimal(0)) / len(known) * requests
