"""Amazon's emulator agrees with ours: the same runtime and the same handlers pass under both.

It is driven strictly one request at a time, since a second at once crashes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewise.local.front import event_of
from edgewise.local.rie import emulating, fetch
from tests.local.gate import Gate

HERE = Path(__file__).parent
RUN = HERE.parents[1] / "functions/gateway/run"


@pytest.fixture(scope="module")
def binary() -> Path:
    try:
        return fetch()
    except OSError as error:
        pytest.skip(str(error))


def event(path: str, body: bytes = b"hi") -> bytes:
    headers = [("content-type", "text/plain"), ("cookie", "a=b")]
    return json.dumps(event_of("POST", path, headers, body, address="192.0.2.1", request_id="r", now=1.8e9)).encode()


def split(raw: bytes) -> tuple[dict[str, Any], bytes]:
    head, found, payload = raw.partition(b"\0" * 8)
    assert found
    return json.loads(head), payload


async def test_our_runtime_is_understood_by_amazons_platform_code(binary: Path) -> None:
    command = (str(RUN), sys.executable, "-m", "awslambdaric")
    async with emulating(binary, command, "app.app", HERE / "standin") as rie, Gate() as gate:
        gate.open()
        start, payload = split(await rie.invoke(event("/echo?a=b")))
        told = json.loads(payload)
        assert (start["statusCode"], told["body"], told["query"], told["cookie"]) == (200, "hi", "a=b", "a=b")
        assert [cookie.split(";")[0] for cookie in start["cookies"]] == ["a=1", "b=2"]
        assert 0 < told["left_s"] <= 60

        start, payload = split(await rie.invoke(event(f"/chat?gate={gate.port}")))
        assert start["headers"]["content-type"] == "text/event-stream; charset=utf-8"
        assert payload == b'data: {"i":0}\n\ndata: {"i":1}\n\ndata: [DONE]\n\n'

        # An error after a whole answer, one in mid-stream and an event of another kind leave the loop alive.
        assert split(await rie.invoke(event("/fail")))[0]["statusCode"] == 500
        assert b'data: {"i":0}\n\n' in await rie.invoke(event("/die"))
        assert json.loads(await rie.invoke(b'{"Records": []}'))["errorType"] == "KeyError"
        assert split(await rie.invoke(event("/empty")))[0]["statusCode"] == 204
        assert len(split(await rie.invoke(event("/big?bytes=3000000")))[1]) == 3_000_000


async def test_the_buffered_handler_answers_alike(binary: Path) -> None:
    command = (sys.executable, "-m", "awslambdaric", "buffered.handler")
    async with emulating(binary, command, "buffered.handler", HERE / "standin") as rie, Gate() as gate:
        gate.open()
        answer = json.loads(await rie.invoke(event("/echo?a=b")))
        told = json.loads(answer["body"])
        assert (answer["statusCode"], told["body"], told["query"], told["cookie"]) == (200, "hi", "a=b", "a=b")
        assert told["state"] == "hello" and 0 < told["left_s"] <= 60
        answer = json.loads(await rie.invoke(event(f"/chat?gate={gate.port}")))
        assert answer["body"].endswith("data: [DONE]\n\n")
        assert json.loads(await rie.invoke(event("/fail")))["statusCode"] == 500
