"""The runtime's loop against the platform's side of the Runtime API, both in this process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edgewise.clock import FakeClock, SystemClock
from edgewise.invocations import Invocations, RuntimeApiError
from edgewise.local.front import event_of
from edgewise.local.runtime_api import Call, FunctionFailed, RuntimeApi
from edgewise.runtime import App, Runtime, Unstarted
from edgewise.url_event import Context, body_of, prelude, scope_of
from tests.local.gate import Gate
from tests.local.standin.app import build, notes

NULS = b"\0" * 8


def event(path: str = "/echo", body: bytes = b"", method: str = "POST", **headers: str) -> bytes:
    made = event_of(
        method, path, list(headers.items()), body, address="192.0.2.1", request_id="r-1", now=1_800_000_000.0
    )
    return json.dumps(made).encode()


def call(raw: bytes, *, seconds: float = 60.0) -> Call:
    return Call("id-1", raw, int((SystemClock().now() + seconds) * 1000), trace_id="Root=1-abc")


@asynccontextmanager
async def running(app: App, *, margin_s: float = 1.5, snapshot: bool = False) -> AsyncIterator[RuntimeApi]:
    """A Runtime API with `app` behind it."""
    api = RuntimeApi()
    await api.start()
    loop = asyncio.create_task(
        Runtime(app, Invocations(api.address), SystemClock(), margin_s=margin_s).run(snapshot=snapshot)
    )
    try:
        yield api
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        api.stop()


async def ask(api: RuntimeApi, one: Call) -> Call:
    await api.idle()
    api.invoke(one)
    return one


def split(raw: bytes) -> tuple[dict[str, Any], bytes]:
    head, found, payload = raw.partition(NULS)
    assert found
    return json.loads(head), payload


@pytest.fixture(autouse=True)
def _clean() -> None:
    notes.clear()
    os.environ.pop("_X_AMZN_TRACE_ID", None)


async def test_a_whole_answer_has_prelude_nuls_and_payload() -> None:
    async with running(build()) as api:
        one = await ask(
            api, call(event("/echo?a=1&b=%20", b"hello", cookie="x=1; y=2", **{"content-type": "text/plain"}))
        )
        assert await one.streamed()
        start, payload = split(await one.whole())
    told = json.loads(payload)
    assert start["statusCode"] == 200
    assert start["headers"]["content-type"] == "application/json"
    assert start["headers"]["x-twice"] == "one, two"
    assert [cookie.split(";")[0] for cookie in start["cookies"]] == ["a=1", "b=2"]
    assert "content-length" not in start["headers"] and "set-cookie" not in start["headers"]
    assert (told["method"], told["path"], told["query"]) == ("POST", "/echo", "a=1&b=%20")
    assert told["body"] == "hello" and told["cookie"] == "x=1; y=2" and told["state"] == "hello"


async def test_chunks_leave_before_the_answer_is_whole() -> None:
    async with running(build()) as api, Gate() as gate:
        one = await ask(api, call(event(f"/chat?gate={gate.port}", b"{}")))
        pieces = one.pieces()
        first = await anext(pieces)
        await gate.reached()
        # The app is held at the gate, and the client has its first chunk.
        assert split(first)[1] == b'data: {"i":0}\n\n'
        gate.open()
        assert b"".join([piece async for piece in pieces]) == b'data: {"i":1}\n\ndata: [DONE]\n\n'


async def test_an_error_in_mid_stream_ends_in_trailers_and_the_next_invocation_is_served() -> None:
    async with running(build()) as api:
        one = await ask(api, call(event("/die")))
        with pytest.raises(FunctionFailed) as caught:
            await one.whole()
        assert caught.value.detail["errorType"] == "ValueError"
        again = await ask(api, call(event("/echo")))
        assert split(await again.whole())[0]["statusCode"] == 200


async def test_an_error_after_a_whole_answer_is_a_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Starlette sends a complete 500 and raises again; the client's answer must not be spoilt by that."""
    async with running(build()) as api:
        one = await ask(api, call(event("/fail")))
        start, payload = split(await one.whole())
        await api.idle()
    assert start["statusCode"] == 500 and payload == b"Internal Server Error"
    line = json.loads(capsys.readouterr().out)
    assert line["message"] == "app failed: LookupError" and line["aws_request_id"] == "id-1"


async def test_an_app_that_fails_before_its_first_byte_is_answered_in_openais_shape() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    async with running(app) as api:
        one = await ask(api, call(event()))
        start, payload = split(await one.whole())
    assert start["statusCode"] == 500
    assert set(json.loads(payload)["error"]) == {"message", "type", "param", "code"}


async def test_an_app_that_returns_in_the_middle_has_not_answered() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with running(app) as api:
        one = await ask(api, call(event()))
        with pytest.raises(FunctionFailed) as caught:
            await one.whole()
    assert caught.value.detail["errorType"] == "Unanswered"


async def test_an_empty_answer_is_a_prelude_alone() -> None:
    async with running(build()) as api:
        one = await ask(api, call(event("/empty")))
        start, payload = split(await one.whole())
    assert (start["statusCode"], payload) == (204, b"")


async def test_receive_blocks_after_the_body_until_the_answer_is_out() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        seen.append(await receive())
        waiting = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        seen.append(waiting.done())
        await send({"type": "http.response.body", "body": b"b"})
        seen.append(await waiting)

    async with running(app) as api:
        one = await ask(api, call(event(body=b"x")))
        assert split(await one.whole())[1] == b"ab"
        await api.idle()
    assert seen == [{"type": "http.request", "body": b"x", "more_body": False}, False, {"type": "http.disconnect"}]


async def test_the_app_can_ask_how_long_it_has() -> None:
    async with running(build()) as api:
        one = await ask(api, call(event(), seconds=60))
        left_s = json.loads(split(await one.whole())[1])["left_s"]
    assert 30 < left_s <= 60


async def test_background_work_is_drained_before_the_next_event_is_asked_for() -> None:
    async with running(build()) as api:
        one = await ask(api, call(event("/late")))
        assert split(await one.whole())[1] == b"soon"
        await api.idle()
        assert sorted(notes) == ["background", "task"]


async def test_the_trace_id_is_where_libraries_look_for_it() -> None:
    async with running(build()) as api:
        one = await ask(api, call(event()))
        await one.whole()
    assert os.environ["_X_AMZN_TRACE_ID"] == "Root=1-abc"


@pytest.mark.parametrize("raw", [b"not json", b"[]", b'{"Records": []}', b'{"requestContext": {}, "headers": {}}'])
async def test_an_event_of_another_kind_fails_alone(raw: bytes) -> None:
    async with running(build()) as api:
        one = await ask(api, call(raw))
        with pytest.raises(FunctionFailed):
            await one.whole()
        again = await ask(api, call(event()))
        assert split(await again.whole())[0]["statusCode"] == 200


async def test_a_restored_environment_renews_what_copies_must_not_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks run newest first before the snapshot, oldest first after it, and the random seed is not the snapshot's."""
    import random

    import snapshot_restore_py as registry

    monkeypatch.setattr(registry, "_before_snapshot_registry", [])
    monkeypatch.setattr(registry, "_after_restore_registry", [])
    for name in ("one", "two"):
        registry.register_before_snapshot(notes.append, f"before {name}")
        registry.register_after_restore(notes.append, f"after {name}")
    random.seed(7)
    async with running(build(), snapshot=True) as api:
        await api.snapshot()
        assert notes == ["before two", "before one"]
        api.restore()
        one = await ask(api, call(event("/chance")))
        told = json.loads(split(await one.whole())[1])
    assert told["notes"][2:] == ["renewed", "after one", "after two"]
    assert told["number"] != random.Random(7).random()


async def test_a_hook_that_fails_after_the_restore_is_reported_and_ends_the_process() -> None:
    app = build()

    def renew() -> None:
        raise OSError

    app.state.renew = renew
    api = RuntimeApi()
    await api.start()
    loop = asyncio.create_task(Runtime(app, Invocations(api.address), SystemClock(), margin_s=1).run(snapshot=True))
    await api.snapshot()
    api.restore()
    with pytest.raises(FunctionFailed, match="OSError"):
        await api.idle()
    with pytest.raises(Unstarted) as caught:
        await loop
    assert caught.value.status == 65
    api.stop()


async def test_an_app_that_refuses_to_start_is_an_error_of_the_start() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no key"})

    api = RuntimeApi()
    await api.start()
    with pytest.raises(Unstarted):
        await Runtime(app, Invocations(api.address), SystemClock(), margin_s=1).run()
    with pytest.raises(FunctionFailed) as caught:
        await api.idle()
    assert caught.value.detail["errorMessage"] == "no key"
    api.stop()


async def test_several_pollers_share_one_environment() -> None:
    """Where one environment gets many requests at once, each poller waits for its own."""
    asked: list[str] = []

    class Two(Invocations):
        async def next(self) -> Any:
            asked.append("next")
            await asyncio.Event().wait()

    loop = asyncio.create_task(Runtime(build(), Two("127.0.0.1:9"), FakeClock(), margin_s=1).run(pollers=3))
    while len(asked) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    assert asked == ["next"] * 3


async def test_no_platform_is_an_error_of_its_own() -> None:
    with pytest.raises(RuntimeApiError):
        await Invocations("127.0.0.1:1").next()


def test_a_scope_keeps_bytes_as_they_came() -> None:
    made = json.loads(event("/v1/models/openai%2Fgpt%20x?q=%C3%A9", b"\xff\x00", **{"X-Odd": "é"}))
    scope = scope_of(made, {}, Context("id", "arn", 0, FakeClock()))
    assert scope["path"] == "/v1/models/openai/gpt x" and scope["raw_path"] == b"/v1/models/openai%2Fgpt%20x"
    assert scope["query_string"] == b"q=%C3%A9" and (b"x-odd", "é".encode("latin-1")) in scope["headers"]
    assert made["isBase64Encoded"] and body_of(made) == b"\xff\x00"


def test_a_prelude_joins_duplicates_and_drops_what_a_stream_may_not_have() -> None:
    start = {
        "status": 201,
        "headers": [(b"Content-Length", b"5"), (b"vary", b"a"), (b"Vary", b"b"), (b"set-cookie", b"c=1; Path=/")],
    }
    assert prelude(start) == {"statusCode": 201, "headers": {"vary": "a, b"}, "cookies": ["c=1; Path=/"]}


def test_the_runtime_imports_nothing_beyond_the_standard_library() -> None:
    """It is the first thing that a cold start pays for."""
    import subprocess

    code = "import sys; old = set(sys.modules); import edgewise.runtime; print(*sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tops = {name.partition(".")[0] for name in done.stdout.split()}
    assert tops - set(sys.stdlib_module_names) == {"edgewise"}
    assert "http.client" not in done.stdout.split()
