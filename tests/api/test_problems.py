"""Every refusal has OpenAI's shape, on every path, and tells nothing that it should not."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.api.app import app
from edgewise.errors import NotFound
from edgewise.rooms import Rooms
from edgewise.settings import Settings
from edgewise.words import Model
from tests.api.client import Client
from tests.fakes import FakeCaller, FakePolicy, FakeRecord, rooms

CHAT = "/v1/chat/completions"
FUZZED = app(rooms(), Settings())
GOOD = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


async def _nothing(_: Request) -> Response:
    """Answers with nothing."""
    return Response()


def client(house: Rooms | None = None, key: str | None = "ew_test", **fields: Any) -> Client:
    return Client(app(house or rooms(), Settings(**fields)), key)


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/chat/completions", "/v1/chat/completions/", "/%2e%2e", "//"])
async def test_an_unknown_route_is_a_404(path: str) -> None:
    got = await client().ask("GET", path)
    assert (got.status, got.error["code"]) == (404, "unknown_url")
    assert got.headers["x-request-id"]


@pytest.mark.parametrize("path", [CHAT, "/chat/completions"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
async def test_a_wrong_method_is_a_405_that_names_the_right_one(method: str, path: str) -> None:
    got = await client().ask(method, path)
    assert (got.status, got.error["code"], got.headers["allow"]) == (405, "method_not_allowed", "POST")


async def test_allow_names_the_methods_of_every_route_at_the_path() -> None:
    extra = [Route("/files", _nothing, methods=["GET"]), Route("/files", _nothing, methods=["POST"])]
    got = await Client(app(rooms(), Settings(), extra)).ask("DELETE", "/v1/files")
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize("key", [None, "", "ew_wrong", "ew_test "])
async def test_a_missing_or_wrong_key_is_a_401_and_is_recorded(key: str | None) -> None:
    record = FakeRecord()
    got = await client(rooms(record=record), key if key != "ew_test " else "x").ask("POST", CHAT, GOOD)
    assert (got.status, got.error["code"], got.error["type"]) == (401, "invalid_api_key", "invalid_request_error")
    assert got.headers["www-authenticate"] == "Bearer"
    assert [note.status for note in record.notes] == [401]


async def test_a_stranger_learns_nothing_of_a_wrong_body() -> None:
    got = await client(key="ew_wrong").ask("POST", CHAT, raw=b"{")
    assert got.status == 401


async def test_x_api_key_opens_too_and_bearer_is_read_in_any_case() -> None:
    anonymous = client(key=None)
    assert (await anonymous.ask("POST", CHAT, GOOD, headers={"x-api-key": "ew_test"})).status == 200
    assert (await anonymous.ask("POST", CHAT, GOOD, headers={"authorization": "bearer  ew_test"})).status == 200
    assert (await anonymous.ask("POST", CHAT, GOOD, headers={"authorization": "Basic ew_test"})).status == 401


async def test_the_host_header_decides_nothing() -> None:
    """A Host that pretends to be another path must not change which route is guarded (CVE-2026-48710)."""
    got = await client(key=None).ask("POST", CHAT, GOOD, headers={"host": "x/healthz?"})
    assert got.status == 401


WRONG_JSON = {
    "empty": b"",
    "not JSON": b"{'model': 1}",
    "cut": b'{"model": "m"',
    "trailing": b"{} {}",
    "NaN": b'{"model": "m", "temperature": NaN}',
    "Infinity": b'{"model": "m", "temperature": Infinity}',
    "overflow": b'{"model": "m", "temperature": 1e999}',
    "10,000 digits": b'{"model": "m", "seed": ' + b"9" * 10_000 + b"}",
    "lone surrogate": rb'{"model": "\ud800"}',
    "bad UTF-8": b'{"model": "\xff"}',
    "encoded surrogate": b'{"model": "\xed\xa0\x80"}',
    "UTF-16": '{"model": "m"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"model": "m"}',
    "an array": b"[]",
    "a string": b'"model"',
    "null": b"null",
    "too deep": b'{"model":' + b"[" * 70 + b"]" * 70 + b"}",
    "absurdly deep": b'{"model":' + b"[" * 100_000,
    "deep and balanced": b'{"a":' * 2000 + b"1" + b"}" * 2000,
}


@pytest.mark.parametrize("raw", WRONG_JSON.values(), ids=WRONG_JSON.keys())
async def test_a_body_that_is_no_json_object_is_a_400(raw: bytes) -> None:
    record = FakeRecord()
    got = await client(rooms(record=record)).ask("POST", CHAT, raw=raw)
    assert (got.status, got.error["type"]) == (400, "invalid_request_error")
    assert "\n" not in got.error["message"]
    assert [(note.status, note.tenant) for note in record.notes] == [(400, "acme")]


async def test_a_body_as_deep_as_allowed_passes() -> None:
    deep: Any = 1
    for _ in range(63):
        deep = [deep]
    assert (await client().ask("POST", CHAT, {**GOOD, "x": deep})).status == 200
    assert (await client().ask("POST", CHAT, {**GOOD, "x": [deep]})).status == 400


async def test_many_brackets_in_a_text_are_not_depth() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "[{" * 5000}]}
    assert (await client().ask("POST", CHAT, body)).status == 200


@pytest.mark.parametrize("with_length", [True, False])
async def test_a_body_above_the_cap_is_a_413_before_it_is_whole(with_length: bool) -> None:
    ask = client(max_body_bytes=1000)
    if with_length:
        got = await ask.ask("POST", CHAT, raw=b"x" * 1001)
    else:
        pieces = [b"x" * 400] * 10_000
        got = await ask.ask("POST", CHAT, pieces=pieces)
    assert (got.status, got.error["code"]) == (413, "request_too_large")


async def test_a_body_in_pieces_is_one_body() -> None:
    raw = json.dumps(GOOD).encode()
    assert (await client().ask("POST", CHAT, pieces=[raw[:5], b"", raw[5:]])).status == 200


@pytest.mark.parametrize("length", ["-1", "abc", "9" * 400])
async def test_a_length_that_lies_is_no_crash(length: str) -> None:
    got = await client(max_body_bytes=1000).ask("POST", CHAT, GOOD, headers={"content-length": length})
    assert got.status in (200, 413)


async def test_a_compressed_body_is_refused() -> None:
    got = await client().ask("POST", CHAT, raw=gzip.compress(b"0" * 10_000_000), headers={"content-encoding": "gzip"})
    assert got.status == 415 and got.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["x-stainless-timeout", "x-stainless-read-timeout"])
@pytest.mark.parametrize(
    ("told", "seconds"), [("7", 7.0), ("7.5", 7.5), ("soon", 600.0), ("-1", 600.0), ("nan", 600.0)]
)
async def test_no_answer_is_made_for_a_client_that_has_given_up(name: str, told: str, seconds: float) -> None:
    house, left = rooms(), []

    class Watching(FakeCaller):
        async def complete(self, model: Any, request: Any, deadline: Any, trail: Any) -> Any:
            left.append(deadline.left_s())
            return await FakeCaller.complete(self, model, request, deadline, trail)

    house.caller = Watching(house.clock)
    await client(house).ask("POST", CHAT, GOOD, headers={name: told})
    assert left == [seconds]


async def test_the_functions_remaining_time_is_the_bound() -> None:
    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 10_000

    house, left = rooms(), []

    class Watching(FakeCaller):
        async def stream(self, model: Any, request: Any, deadline: Any, trail: Any) -> Any:
            left.append(deadline.left_s())
            return await FakeCaller.stream(self, model, request, deadline, trail)

    house.caller = Watching(house.clock)
    body = {**GOOD, "stream": True}
    headers = {"x-stainless-timeout": "2"}
    ask = client(house, deadline_margin_s=1.5)
    await ask.ask("POST", CHAT, body, headers=headers, extra={"aws.context": Context()})
    assert left == [8.5]


async def test_a_client_that_goes_away_in_its_body_gets_nothing_and_breaks_nothing() -> None:
    application = app(rooms(), Settings())
    sent: list[Any] = []
    messages: list[Any] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b"", "root_path": ""}
    await application(scope, receive, send)
    assert sent == []


async def test_an_unthought_of_failure_is_a_bare_500_and_is_counted() -> None:
    class Broken(FakePolicy):
        async def identify(self, credentials: Any) -> Any:
            raise ZeroDivisionError("the inner text")

    record = FakeRecord()
    got = await client(rooms(policy=Broken(), record=record)).ask("POST", CHAT, GOOD)
    assert (got.status, got.error["code"]) == (500, "internal_error")
    assert b"inner text" not in got.body
    (note,) = record.notes
    assert note.status == 500 and note.error is not None
    # The class, and the last line of ours on the way to it.
    assert re.fullmatch(r"internal_error:ZeroDivisionError:[a-z_/]+\.py:\d+", note.error)


async def test_extra_routes_get_both_paths_their_template_and_the_shape_of_errors() -> None:
    templates: list[str] = []

    async def found(request: Request) -> Response:
        templates.append(request.scope["edgewise.route"])
        raise NotFound("No such file.", param="file_id")

    ask = Client(app(rooms(), Settings(), [Route("/files/{id}", found)]))
    for path in ("/v1/files/a", "/files/a"):
        got = await ask.ask("GET", path)
        assert (got.status, got.error["param"]) == (404, "file_id")
    assert templates == ["/v1/files/{id}"] * 2


async def test_a_websocket_is_turned_away() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": [], "query_string": b"", "root_path": ""}
    await app(rooms(), Settings())(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_behind_a_cdn_only_the_cdn_gets_in() -> None:
    ask = client(origin_secret="s3cret")
    assert (await ask.ask("POST", CHAT, GOOD)).status == 403
    assert (await ask.ask("POST", CHAT, GOOD, headers={"x-edgewise-origin": "s3crex"})).status == 403
    assert (await ask.ask("POST", CHAT, GOOD, headers={"x-edgewise-origin": "s3cret"})).status == 200
    # DNS asks every region for its health and can show nothing.
    assert (await ask.ask("GET", "/healthz")).status == 200


@pytest.mark.parametrize(("secret", "address"), [("s3cret", "192.0.2.7"), (None, "127.0.0.1")])
async def test_a_client_behind_a_cdn_has_its_own_address_and_any_other_the_one_it_comes_from(
    secret: str | None, address: str
) -> None:
    """Else one who misbehaves has the CDN banned, and everybody behind it."""
    addresses: list[str] = []

    class Looking(FakePolicy):
        async def identify(self, credentials: Any) -> Any:
            addresses.append(credentials.address)
            return await super().identify(credentials)

    shown = {"x-edgewise-origin": "s3cret", "x-edgewise-client": "198.51.100.9, 192.0.2.7"}
    got = await client(rooms(policy=Looking()), origin_secret=secret).ask("GET", "/v1/models", headers=shown)
    assert got.status == 200
    assert set(addresses) == {address}


async def test_a_browser_may_ask_and_read() -> None:
    preflight = {
        "origin": "https://page.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    got = await client(key=None).ask("OPTIONS", CHAT, headers=preflight)
    assert got.status == 204
    assert got.headers["access-control-allow-origin"] == "*"
    assert "authorization" in got.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in got.headers
    got = await client().ask("POST", CHAT, GOOD, headers={"origin": "https://page.example"})
    assert got.headers["access-control-allow-origin"] == "*"
    closed = await client(cors_origin="").ask("POST", CHAT, GOOD)
    assert "access-control-allow-origin" not in closed.headers


async def test_health_needs_no_key_and_readiness_asks_the_parts() -> None:
    assert (await client(key=None).ask("GET", "/healthz")).json == {"status": "ok"}
    assert (await client(key=None).ask("GET", "/readyz")).status == 200

    async def ready() -> dict[str, bool]:
        return {"state_table": False}

    got = await Client(app(rooms(), Settings(), ready=ready)).ask("GET", "/v1/readyz")
    assert (got.status, got.json["parts"]) == (503, {"state_table": False})


async def test_rooms_may_be_opened_when_the_server_starts() -> None:
    closed: list[bool] = []

    @asynccontextmanager
    async def opening() -> AsyncIterator[Rooms]:
        yield rooms()
        closed.append(True)

    application = app(opening, Settings())
    ask = Client(application)
    got = await ask.ask("POST", CHAT, GOOD)
    assert (got.status, got.headers["retry-after"]) == (503, "1")
    async with application.router.lifespan_context(application):
        assert (await ask.ask("POST", CHAT, GOOD)).status == 200
    assert closed == [True]


async def test_the_description_names_every_route() -> None:
    extra = [Route("/files/{file_id:path}", _nothing, methods=["GET"]), Route("/", _nothing)]
    document = (await Client(app(rooms(), Settings(), lambda: extra), None).ask("GET", "/openapi.json")).json
    assert document["openapi"].startswith("3.1")
    assert document["paths"].keys() >= {"/", "/v1/chat/completions", "/v1/responses", "/v1/files/{file_id}", "/healthz"}
    file = document["paths"]["/v1/files/{file_id}"]["get"]
    assert (file["summary"], file["parameters"][0]["name"]) == ("Answers with nothing", "file_id")
    assert "security" in file and "security" not in document["paths"]["/healthz"]["get"]


async def test_routes_made_later_are_there_when_they_are_asked_for() -> None:
    made: list[str] = []

    def later() -> list[Route]:
        made.append("now")
        return [Route("/files", _nothing, methods=["GET"])]

    ask = Client(app(rooms(), Settings(), later))
    assert (await ask.ask("POST", CHAT, GOOD)).status == 200 and not made
    assert (await ask.ask("GET", "/v1/files")).status == 200
    assert (await ask.ask("DELETE", "/files")).headers["allow"] == "GET, HEAD"
    assert (await ask.ask("GET", "/v1/none")).status == 404
    assert made == ["now"]


async def test_models_are_listed_and_found_by_any_spelling() -> None:
    listing = [Model("openai", "gpt-x", created=5, owned_by="openai"), Model("bedrock", "us.a.b-v1:0")]
    policy = FakePolicy()
    ask = Client(app(rooms(policy=policy), Settings(), listing=lambda: listing))
    got = (await ask.ask("GET", "/v1/models")).json
    assert [model["id"] for model in got["data"]] == ["auto", "openai/gpt-x", "bedrock/us.a.b-v1:0"]
    assert (await ask.ask("GET", "/v1/models/bedrock/us.a.b-v1:0")).json["object"] == "model"
    assert (await ask.ask("GET", "/models/gpt-x")).json == {
        "id": "gpt-x", "object": "model", "created": 5, "owned_by": "openai",
    }  # fmt: skip
    got = await ask.ask("GET", "/v1/models/none")
    assert (got.status, got.error["code"]) == (404, "model_not_found")
    policy.settings = {"models": ["bedrock/*"]}
    assert len((await ask.ask("GET", "/v1/models")).json["data"]) == 2
    assert (await Client(ask.app, "no").ask("GET", "/v1/models")).status == 401


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
async def test_no_bytes_are_ever_a_500(raw: bytes) -> None:
    got = await Client(FUZZED).ask("POST", CHAT, raw=raw)
    assert got.status == 400, got.body


@settings(max_examples=200, deadline=None)
@given(
    body=st.fixed_dictionaries(
        {"model": st.just("m"), "messages": st.just([{"role": "user", "content": "x"}]) | json_values},
        optional=dict.fromkeys(
            ["tools", "stop", "response_format", "tool_choice", "cache", "routing", "stream_options", "stream",
             "metadata", "logit_bias", "audio", "n", "temperature", "new_field", "functions", "prediction"],
            json_values,
        ),
    ),
    headers=st.dictionaries(
        st.sampled_from(["cache-control", "x-edgewise-tags", "x-edgewise-route", "x-stainless-timeout", "pragma"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
    ),
)  # fmt: skip
async def test_no_chat_body_is_ever_a_500(body: dict[str, Any], headers: dict[str, str]) -> None:
    got = await Client(FUZZED).ask("POST", CHAT, body, headers=headers)
    assert got.status in (200, 400, 504), got.body
    if got.status == 400:
        assert got.error["message"]
