"""Embeddings: every form of input, both encodings, charged and recorded like everything else."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from edgewise.api.app import app
from edgewise.api.vectors import of_encoder
from edgewise.clock import Deadline
from edgewise.errors import UpstreamTimeout, UpstreamUnavailable
from edgewise.price import Price
from edgewise.rooms import Rooms
from edgewise.settings import Settings
from edgewise.words import Model
from tests.api.client import Client
from tests.fakes import FakePolicy, FakeRecord, rooms

MODEL = Model("fake", "embed-1", price=Price(Decimal(1), Decimal(0)))


async def three(body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
    count = 1 if isinstance(body["input"], str) else len(body["input"])
    return {
        "data": [{"embedding": [0.5, -1.0, float(n)]} for n in range(count)],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


async def down(body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
    raise UpstreamUnavailable("overloaded")


async def slow(body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
    raise UpstreamTimeout("no answer in time")


async def encode(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 0.0] for text in texts]


def client(house: Rooms) -> Client:
    known = {"embed-1": three, "down": down, "slow": slow, "local": of_encoder(encode, 2)}
    return Client(app(house, Settings(), embedders=lambda name: (MODEL, known[name]) if name in known else None))


async def ask(given: Any, house: Rooms | None = None, **rest: Any) -> Any:
    return await client(house or rooms()).ask("POST", "/v1/embeddings", {"model": "embed-1", "input": given} | rest)


@pytest.mark.parametrize(("given", "count"), [("a", 1), (["a", "b"], 2), ([[1, 2], [3]], 2)])
async def test_every_form_of_input_is_embedded(given: Any, count: int) -> None:
    got = await ask(given)
    assert got.status == 200
    assert [item["index"] for item in got.json["data"]] == list(range(count))
    assert got.json["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


async def test_base64_is_little_endian_float32() -> None:
    got = await ask("a", encoding_format="base64")
    assert struct.unpack("<3f", base64.b64decode(got.json["data"][0]["embedding"])) == (0.5, -1.0, 0.0)


async def test_it_is_charged_and_recorded() -> None:
    policy, record = FakePolicy(), FakeRecord()
    got = await ask("hello", rooms(policy=policy, record=record))
    assert got.headers["x-edgewise-cost-usd"] == "0.000004"
    assert policy.holds[0].worst_usd == Decimal(5) / 1_000_000
    assert policy.settled[0][0].cost_usd == Decimal(4) / 1_000_000 and policy.closed == 1
    assert [(note.route, note.model, note.status) for note in record.notes] == [("/v1/embeddings", "fake/embed-1", 200)]


async def test_an_upstream_that_fails_is_told_and_settled() -> None:
    policy, record = FakePolicy(), FakeRecord()
    got = await ask("hello", rooms(policy=policy, record=record), model="down")
    assert (got.status, got.error["code"]) == (503, "upstream_unavailable")
    assert len(policy.settled) == 1 and policy.closed == 1
    assert policy.settled[0][0].cost_usd == 0
    assert [note.status for note in record.notes] == [503]


async def test_an_upstream_that_was_too_slow_may_have_cost_something() -> None:
    policy = FakePolicy()
    got = await ask("hello", rooms(policy=policy), model="slow")
    assert got.status == 504
    assert policy.settled[0][0].cost_usd is None


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [{}]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"model": "local", "dimensions": 3}, "dimensions"),
        ({"model": "local", "input": [1, 2]}, "input"),
        ({"api_base": "x"}, "api_base"),
    ],
)
async def test_a_wrong_request_is_named_by_its_path(change: dict[str, Any], param: str) -> None:
    got = await client(rooms()).ask("POST", "/v1/embeddings", {"model": "embed-1", "input": "a", **change})
    assert (got.status, got.error["param"]) == (400, param)


async def test_an_unknown_model_is_a_404() -> None:
    got = await ask("a", model="none")
    assert (got.status, got.error["code"]) == (404, "model_not_found")


async def test_an_encoder_in_this_process_serves_too() -> None:
    got = await ask(["ab", "abcd"], model="local")
    assert [item["embedding"] for item in got.json["data"]] == [[2.0, 0.0], [4.0, 0.0]]
