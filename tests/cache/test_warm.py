"""Warming: what a list may look like, how it is cut into batches, what it may cost."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import orjson
import pytest

from edgewise.cache import warm
from edgewise.cache.warm import batch_files, bodies_of, estimate
from edgewise.errors import InvalidRequest


def test_four_shapes_of_a_line() -> None:
    """Text, a JSON string, a prompt, a chat body, a batch's line; each request once, blank lines none."""
    listed = b"\n".join(
        [
            "Où est Paris\u2028? ".encode(),
            b'"in quotes"',
            b'{"prompt": "p", "model": "m2"}',
            b'{"messages": [{"role": "user", "content": "c"}], "temperature": 0}',
            b'{"custom_id": "1", "body": {"model": "m3", "messages": []}}',
            b"",
            b'{"prompt": "p", "model": "m2"}',
        ]
    )
    found = bodies_of(listed, "auto")
    assert [body["model"] for body in found] == ["auto", "auto", "m2", "auto", "m3"]
    assert found[0]["messages"] == [{"role": "user", "content": "Où est Paris\u2028?"}]
    assert found[3]["temperature"] == 0


@pytest.mark.parametrize("bad", [b"{", b'{"x": 1}', b"\xff\xfe"])
def test_a_bad_line_is_named(bad: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Line 2"):
        bodies_of(b"good\n" + bad, "auto")


def test_batches_fit_into_one_request_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost or repeated where the list is cut."""
    monkeypatch.setattr(warm, "MOST_FILE_BYTES", 500)
    bodies = bodies_of(b"\n".join(b"prompt %d" % n for n in range(20)), "auto")
    files = list(batch_files(bodies))
    assert len(files) > 1
    assert all(len(content) <= 500 and content.count(b"\n") == lines for lines, content in files)
    told = [orjson.loads(line) for _, content in files for line in content.splitlines()]
    assert [line["body"] for line in told] == bodies
    assert len({line["custom_id"] for line in told}) == 20


def test_the_cost_is_scaled_from_the_sample() -> None:
    """What is cached costs nothing; an unknown price makes the whole unknown, never zero."""
    route = {"object": "edgewise.route", "expected": {"cost_usd": "0.002"}, "worst_usd": "0.01"}
    cached = {"object": "chat.completion"}
    cost = estimate(100, [route, cached])
    assert (cost.expected_usd, cost.worst_usd, cost.cached) == (Decimal("0.1"), Decimal("0.5"), 1)
    unknown = {"object": "edgewise.route", "expected": {"cost_usd": None}, "worst_usd": None}
    assert estimate(100, [route, unknown]).expected_usd is None
    assert estimate(100, []).expected_usd is None


def test_a_batch_names_one_model() -> None:
    """So a list that names several becomes several batches; every line keeps the number it has in the list."""
    bodies: list[dict[str, Any]] = [{"model": model, "messages": []} for model in ("a", "b", "a")]
    files = list(batch_files(bodies))
    assert [count for count, _ in files] == [2, 1]
    assert [line["custom_id"] for _, content in files for line in map(json.loads, content.splitlines())] == [
        "warm-1", "warm-3", "warm-2",
    ]  # fmt: skip
