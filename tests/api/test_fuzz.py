"""Bytes that no client would send, by the hundred thousand: what reads a request refuses it or makes a key of it."""

from __future__ import annotations

import json
import random

import orjson
import pytest

from edgewise.api import body, chat, embeddings, fields, responses, responses_ask
from edgewise.api.door import Knock
from edgewise.errors import InvalidRequest
from edgewise.query.asker import ExactAsker
from edgewise.query.classify import Meaningful
from edgewise.words import CachePolicy, Credentials, Plan, Principal, Target
from tests.api.test_fields import FULL
from tests.api.test_responses import FULL as FULL_RESPONSE

NOBODY = Knock(Credentials(None, ""))
TARGET = Target("a/m", ())
PIECES = [
    b"null", b"true", b"[]", b"{}", b"[[", b"]]", b'"', b"\\", b"\\ud800", b"1e308", b"-0", b"NaN", b"\xff", b"\x00",
    b"9" * 30, b'"role"', b'"content"', b'"type"', b'"text"', b'"tools"', b'{"type":"text"}', b",", b":", b"\xf0\x9d",
    b'[{"role":"user","content":[{"type":"text","text":"x"}]}]', b'"cache":{"ttl":1}', b'"routing":{}', b"\xc2\x85",
]  # fmt: skip


def mutated(chance: random.Random, seed: bytes) -> bytes:
    """`seed` with a few pieces cut, doubled, swapped or replaced."""
    raw = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(raw) + 1), chance.randint(0, 12)
        match chance.randrange(4):
            case 0:
                del raw[at : at + length]
            case 1:
                raw[at:at] = raw[at : at + length]
            case 2:
                raw[at : at + length] = chance.choice(PIECES)
            case _:
                raw[at:at] = bytes([chance.randrange(256)])
    return bytes(raw)


def mutated_value(chance: random.Random, seed: object) -> bytes:
    """`seed` with one value, anywhere in it, replaced: still JSON."""
    copy = json.loads(json.dumps(seed))
    box = copy
    while True:
        key = chance.choice(list(box) if isinstance(box, dict) else range(len(box)))
        inner = box[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.8:
            box = inner
            continue
        box[key] = chance.choice(
            [None, True, -1, 1e300, 2**64, "", "x" * 600, [], {}, [None], {"type": "text"}, [[[]]]]
        )
        return json.dumps(copy).encode()


def read(raw: bytes) -> str:
    """A request's way up to its keys: what came of it."""
    try:
        request = chat.parse(body.parse(raw, 64), NOBODY)
    except InvalidRequest:
        return "refused"
    plan = Plan(Principal("t", "k"), request, cache=CachePolicy(mode="semantic"))
    query = ExactAsker(Meaningful()).query(plan, TARGET)
    assert len(query.key) == 64
    return "asked"


def read_response(raw: bytes) -> str:
    try:
        asked = body.parse(raw, 64)
        responses_ask.check(asked)
        responses.chat_request(asked, NOBODY, [])
    except InvalidRequest:
        return "refused"
    return "asked"


def read_embedding(raw: bytes) -> str:
    try:
        fields.check(body.parse(raw, 64), embeddings.FIELDS, ("model", "input"))
    except InvalidRequest:
        return "refused"
    return "asked"


def cases(count: int) -> None:
    chance = random.Random(7)
    seeds = (
        (read, {key: FULL[key] for key in ("model", "messages", "tools", "stop", "response_format", "metadata")}),
        (read, {"model": "m", "messages": [{"role": "user", "content": "What is it?"}], "cache": {}, "routing": {}}),
        (read_response, FULL_RESPONSE),
        (read_embedding, {"model": "m", "input": [[1, 2], [3]], "encoding_format": "float"}),
    )
    came: set[str] = set()
    for number in range(count):
        reader, seed = seeds[number % len(seeds)]
        raw = mutated_value(chance, seed) if number % 3 else mutated(chance, orjson.dumps(seed))
        came.add(reader(raw))
    assert came == {"refused", "asked"}


def test_a_few_thousand() -> None:
    cases(4_000)


@pytest.mark.slow
def test_two_hundred_thousand() -> None:
    cases(200_000)
