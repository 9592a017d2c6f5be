"""One line per request: what is on it, what can never be, and that it never fails the request."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import orjson

from edgewise.chat import Usage
from edgewise.clock import FakeClock
from edgewise.record.emf import UNITS, metrics_of
from edgewise.record.histogram import bucket
from edgewise.record.line import ODD, name_only, own_of, written
from edgewise.record.room import RecordRoom, open_record
from edgewise.settings import Settings
from edgewise.words import Attempt, Model, Note

MODEL = Model("openai", "gpt-4o-mini")


def a_note(**changes: Any) -> Note:
    fields: dict[str, Any] = {
        "request_id": "req_1",
        "route": "/v1/chat/completions",
        "at": 1_800_000_000.0,
        "tenant": "acme",
        "key_id": "k_1",
        "asked_model": "auto",
        "model": "openai/gpt-4o-mini",
        "provider": "openai",
        "cache": "miss",
        "cache_reason": "absent",
        "attempts": (Attempt(MODEL, latency_ms=120.0, usage=Usage(10, 5), cost_usd=Decimal("0.0000045")),),
        "usage": Usage(10, 5, cached_tokens=4),
        "cost_usd": Decimal("0.0000045"),
        "latency_ms": 125.0,
        "overhead_ms": 5.0,
        "finish": "stop",
        "features": {"text": "never logged"},
    }
    return Note(**{**fields, **changes})


def test_a_line_has_the_fields_that_are_named_and_no_others() -> None:
    line = orjson.loads(written(a_note(), own_of(a_note())))
    assert line["gen_ai.usage.input_tokens"] == 10
    assert line["gen_ai.response.model"] == "openai/gpt-4o-mini"
    assert line["edgewise.cost_usd"] == "0.0000045"
    assert "never logged" not in orjson.dumps(line).decode()


def test_a_key_in_the_wrong_field_is_not_logged() -> None:
    for text in ("sk-proj-abcdefgh", "Bearer ew_live_abc", "AKIAIOSFODNN7EXAMPLE", "a b", "x\r\ny", "m" * 200):
        assert name_only(text) == ODD
    for text in ("gpt-4o-mini", "anthropic/claude-sonnet-4-5@20250929", "auto", "us.amazon.nova-lite-v1:0"):
        assert name_only(text) == text


def test_one_write_holds_the_line_and_its_metrics() -> None:
    lines: list[bytes] = []
    room = RecordRoom(FakeClock(), service="s", out=lines.append, emf=True)
    room.note(a_note())
    assert len(lines) == 1 and lines[0].endswith(b"\n")
    line = orjson.loads(lines[0])
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for metric in directive["Metrics"]:
            assert isinstance(line[metric["Name"]], int | float)
        for dimensions in directive["Dimensions"]:
            assert all(isinstance(line[name], str) for name in dimensions)
    assert room.counters["Requests"] == 1


def test_a_client_that_asked_only_for_what_is_cached_wakes_nobody() -> None:
    refused = {"status": 504, "attempts": (), "usage": None, "cost_usd": None}
    asked = metrics_of(a_note(**refused, error="not_cached"))
    assert (asked["Errors"], asked["ErrorsClient"]) == (0, 1)
    late = metrics_of(a_note(**refused, error="upstream_timeout"))
    assert (late["Errors"], late["ErrorsGateway"]) == (1, 1)
    lines: list[bytes] = []
    room = RecordRoom(FakeClock(), out=lines.append)
    room.note(a_note(**refused, error="not_cached"))
    room.note(a_note(**refused, error="upstream_timeout"))
    assert [orjson.loads(line)["level"] for line in lines] == ["INFO", "ERROR"]


def test_metrics_that_are_emitted_have_a_unit() -> None:
    notes = [
        a_note(),
        a_note(status=502, error="upstream_died", attempts=(Attempt(MODEL, status=502, error="died"),), cost_usd=None),
        a_note(status=429, error="insufficient_quota"),
        a_note(status=401, error="invalid_api_key", attempts=()),
        a_note(status=403),
        a_note(cache="hit", cache_kind="semantic", saved_usd=Decimal("0.1"), first_ms=3.0, flags=("pii:email",)),
        a_note(cache_reason="store-slow", flags=("injection",), confidence=0.5),
    ]
    for note in notes:
        assert metrics_of(note).keys() <= UNITS.keys()


def test_a_clients_mistake_is_not_an_error_that_wakes_somebody() -> None:
    assert metrics_of(a_note(status=400))["Errors"] == 0
    assert metrics_of(a_note(status=502))["Errors"] == 1


def test_a_record_that_fails_is_counted_and_the_request_goes_on() -> None:
    def broken(_: bytes) -> None:
        raise OSError("no space")

    room = RecordRoom(FakeClock(), out=broken)
    room.note(a_note())
    assert room.counters["RecordFailed"] == 1


def test_work_behind_a_request_that_failed_is_told_by_class_and_place_and_not_by_its_words() -> None:
    lines: list[bytes] = []
    room = RecordRoom(FakeClock(), out=lines.append)
    try:
        bucket(None)  # type: ignore[arg-type]
    except TypeError as error:
        room.failed(error)
    line = orjson.loads(lines[0])
    assert re.fullmatch(r"TypeError:record/histogram\.py:\d+", line["error.type"])
    assert (line["level"], line["message"]) == ("ERROR", "background")
    assert room.counters["BackgroundFailed"] == 1


def test_off_writes_nothing() -> None:
    room = open_record(Settings(request_log=False), clock=FakeClock())
    room.note(a_note())
    assert room.counters["Requests"] == 1
