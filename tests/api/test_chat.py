"""The chat route: JSON and streams in OpenAI's grammar, from the corridor of fakes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edgewise.api.app import app
from edgewise.chat import Chunk, unfold
from edgewise.clock import FakeClock
from edgewise.errors import (
    EdgewiseError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    UpstreamDied,
    UpstreamRefused,
    UpstreamUnavailable,
)
from edgewise.rooms import Rooms
from edgewise.settings import Settings
from edgewise.words import CachePolicy
from tests.api.client import Client, Got
from tests.fakes import FakeCache, FakeCaller, FakePolicy, FakeRecord, rooms, saying


def client(house: Rooms, **settings: Any) -> Client:
    return Client(app(house, Settings(**settings)))


async def test_a_question_is_answered_in_openais_shape() -> None:
    got = await client(rooms()).chat("What is the capital of France?")
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    assert got.json["object"] == "chat.completion"
    assert got.json["choices"][0]["message"] == {
        "role": "assistant",
        "content": "What is the capital of France?",
        "refusal": None,
    }
    assert got.json["choices"][0]["finish_reason"] == "stop"
    assert got.json["usage"]["total_tokens"] == 12


async def test_every_answer_says_where_it_came_from() -> None:
    got = await client(rooms()).chat()
    told = got.headers
    assert told["x-request-id"].startswith("req_")
    assert told["openai-version"] == "2020-10-01"
    assert told["openai-processing-ms"] == "0"
    assert told["x-edgewise-cache"] == "miss"
    assert told["x-edgewise-cache-reason"] == "absent"
    assert told["x-edgewise-model"] == "fake/m"
    assert told["x-edgewise-provider"] == "fake"
    assert told["x-edgewise-route-reason"] == "the only one"
    assert told["x-edgewise-attempts"] == "1"
    assert told["x-edgewise-cost-usd"] == "0.0012"
    assert "x-edgewise-cache" in told["access-control-expose-headers"]


async def test_the_second_time_it_comes_from_the_cache() -> None:
    clock = FakeClock()
    ask = client(rooms(clock=clock))
    first = await ask.chat()
    await clock.advance(3)
    got = await ask.chat()
    told = got.headers
    assert (told["x-edgewise-cache"], told["x-edgewise-cache-kind"], told["age"]) == ("hit", "exact", "3")
    assert (told["x-edgewise-cost-usd"], told["x-edgewise-saved-usd"]) == ("0", "0.0012")
    assert told["x-edgewise-cache-key"] == first.headers["x-edgewise-cache-key"]
    assert got.json["choices"] == first.json["choices"]
    assert got.json["id"] != first.json["id"]


async def test_a_stream_keeps_the_grammar() -> None:
    got = await client(rooms()).chat("one two three", stream=True, stream_options={"include_usage": True})
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/event-stream")
    *chunks, last, done = got.events
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert all(chunk["usage"] is None for chunk in chunks)
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 12
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in [*chunks, last]}) == 1
    assert got.text == "one two three"


async def test_usage_is_told_only_to_who_asked() -> None:
    got = await client(rooms()).chat("hi", stream=True)
    assert all("usage" not in chunk and chunk["choices"] for chunk in got.chunks)


async def test_a_replayed_stream_has_the_grammar_of_a_live_one() -> None:
    ask = client(rooms())
    options = {"stream": True, "stream_options": {"include_usage": True}}
    live = await ask.chat("the same text twice", **options)
    replayed = await ask.chat("the same text twice", **options)
    assert replayed.headers["x-edgewise-cache"] == "hit"
    assert replayed.text == live.text
    assert replayed.events[-2]["usage"] == live.events[-2]["usage"]
    assert replayed.chunks[0]["choices"] == live.chunks[0]["choices"]
    assert replayed.chunks[-2]["choices"] == live.chunks[-2]["choices"]
    assert replayed.chunks[0]["id"] != live.chunks[0]["id"]


async def test_a_stream_and_json_share_one_entry() -> None:
    ask = client(rooms())
    await ask.chat("x", stream=True)
    assert (await ask.chat("x")).headers["x-edgewise-cache"] == "hit"


async def test_tool_calls_pass_through() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    house = rooms(script=lambda _: saying("", finish="tool_calls", content=None, tool_calls=[call]))
    ask = client(house)
    assert (await ask.chat("a")).json["choices"][0]["message"]["tool_calls"] == [call]
    got = await ask.chat("b", stream=True)
    deltas = [chunk["choices"][0]["delta"] for chunk in got.chunks]
    assert deltas[1]["tool_calls"][0] == {"index": 0, **call, "function": {"name": "f", "arguments": ""}}
    assert deltas[2] == {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}
    assert got.chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (RateLimited("slow down", retry_after_s=2.4), 429, {"retry-after": "2"}),
        (QuotaExceeded("the budget is spent"), 429, {"x-should-retry": "false"}),
        (Unavailable("no table"), 503, {}),
    ],
)
async def test_a_refusal_by_policy_is_the_clients_answer(
    error: EdgewiseError, status: int, told: dict[str, str]
) -> None:
    got = await client(rooms(policy=FakePolicy(refuse=error))).chat()
    assert got.status == status
    assert got.error["message"] == error.message
    assert got.headers.items() >= told.items()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "error", [UpstreamRefused("no", status=400, param="tools"), UpstreamUnavailable("down"), UpstreamDied("cut")]
)
async def test_an_upstream_that_fails_at_once_keeps_its_status(error: EdgewiseError, stream: bool) -> None:
    record = FakeRecord()
    got = await client(rooms(script=lambda _: error, record=record)).chat(stream=stream)
    assert got.status == error.status
    assert got.error["message"] == error.message
    assert [note.status for note in record.notes] == [error.status]


def cut_after(chunks: int, error: Exception | None) -> Any:
    """A script whose stream stops after `chunks` chunks, with `error` or silently."""

    def script(_: Any) -> list[Chunk | Exception]:
        whole = list(unfold(saying("some text here"), id="u", created=1, piece_chars=5))
        return [*whole[:chunks], *([error] if error else [])]

    return script


@pytest.mark.parametrize("chunks", [1, 2, 4])
@pytest.mark.parametrize("error", [UpstreamDied("The provider hung up."), None])
async def test_an_upstream_that_dies_is_told_in_band_and_nothing_is_kept(
    chunks: int, error: EdgewiseError | None
) -> None:
    clock = FakeClock()
    cache, record, policy = FakeCache(clock), FakeRecord(), FakePolicy()
    got = await client(
        rooms(clock=clock, script=cut_after(chunks, error), cache=cache, record=record, policy=policy)
    ).chat(stream=True)
    assert got.status == 200
    assert got.events[-1]["error"]["code"] == "upstream_died"
    assert "[DONE]" not in got.events
    assert not cache.entries
    assert len(policy.settled) == 1 and policy.closed == 1
    assert record.notes[0].error == "upstream_died"


async def test_a_bug_after_the_first_byte_is_told_without_its_text() -> None:
    record = FakeRecord()
    house = rooms(script=cut_after(2, ZeroDivisionError("secret")), record=record)
    got = await client(house).chat(stream=True)
    assert got.events[-1]["error"]["code"] == "internal_error"
    assert b"secret" not in got.body
    assert any((note.error or "").startswith("internal_error:ZeroDivisionError:") for note in record.notes)


async def test_silence_is_filled_with_comments_and_later_errors_come_in_band() -> None:
    clock = FakeClock()
    caller = FakeCaller(clock, lambda _: UpstreamUnavailable("overloaded"), latency_s=25)
    got = Got()
    ask = client(rooms(clock=clock, caller=caller), keepalive_s=10)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    asking = asyncio.create_task(ask.ask("POST", "/v1/chat/completions", body, got=got))
    await clock.advance(9)
    assert got.status == 0
    await clock.advance(1)
    assert (got.status, got.pieces) == (200, [b": keep-alive\n\n"])
    await clock.advance(10)
    assert got.pieces == [b": keep-alive\n\n"] * 2
    await clock.advance(10)
    await asking
    assert got.events[-1]["error"]["message"] == "overloaded"
    assert "[DONE]" not in got.events


async def test_comments_come_between_slow_chunks() -> None:
    clock = FakeClock()
    caller = FakeCaller(clock, lambda _: saying("abcdefghij"), chunk_s=12)
    ask = client(rooms(clock=clock, caller=caller), keepalive_s=10)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    asking = asyncio.create_task(ask.ask("POST", "/v1/chat/completions", body))
    for _ in range(20):
        await clock.advance(6)
    got = await asking
    assert got.body.count(b": keep-alive") == 5
    assert got.text == "abcdefghij"
    assert got.events[-1] == "[DONE]"


async def test_a_client_that_hangs_up_stops_the_stream_and_is_charged() -> None:
    clock = FakeClock()
    caller = FakeCaller(clock, lambda _: saying("abcdefghij"), chunk_s=1)
    policy, record, cache = FakePolicy(), FakeRecord(), FakeCache(clock)
    ask = client(rooms(clock=clock, caller=caller, policy=policy, record=record, cache=cache))
    gone, got = asyncio.Event(), Got()
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    asking = asyncio.create_task(ask.ask("POST", "/v1/chat/completions", body, gone=gone, got=got))
    await clock.advance(2)
    assert got.pieces and not got.done and caller.open_streams == 1
    gone.set()
    await asking
    assert caller.open_streams == 0
    assert len(policy.settled) == 1 and policy.closed == 1 and len(record.notes) == 1
    assert not cache.entries


async def test_a_server_that_reports_the_end_as_a_hang_up_spoils_nothing() -> None:
    """Servers let `receive` return a disconnect as soon as the last body is sent, some before `send` returns."""
    gone, sent = asyncio.Event(), [0]
    application = app(rooms(), Settings())

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        async def last(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                gone.set()
                for _ in range(5):
                    await asyncio.sleep(0)
                sent[0] += 1

        await application(scope, receive, last)

    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    got = await Client(slow).ask("POST", "/v1/chat/completions", body, gone=gone)
    assert (got.done, sent, got.events[-1]) == (True, [1], "[DONE]")


async def test_a_shared_namespace_never_tells_a_hit_from_a_miss() -> None:
    """Whoever reads the headers must not learn whether another tenant has asked the same."""
    policy = FakePolicy(keys={"a": "acme", "b": "bolt"}, cache=CachePolicy(shared=True, namespace="faq"))
    house = rooms(policy=policy)
    gateway = app(house, Settings())
    miss = await Client(gateway, "a").chat("q")
    hit = await Client(gateway, "b").chat("q")
    assert isinstance(house.caller, FakeCaller) and len(house.caller.calls) == 1
    assert miss.headers["x-edgewise-cache"] == "shared"
    assert miss.headers.keys() == hit.headers.keys()
    differing = {name for name in miss.headers if miss.headers[name] != hit.headers[name]}
    assert differing == {"x-request-id"}


async def test_tenants_do_not_share() -> None:
    gateway = app(rooms(policy=FakePolicy(keys={"a": "acme", "b": "bolt"})), Settings())
    await Client(gateway, "a").chat("q")
    assert (await Client(gateway, "b").chat("q")).headers["x-edgewise-cache"] == "miss"


async def test_headers_of_policy_go_out_cleaned() -> None:
    policy = FakePolicy(headers={"X-RateLimit-Limit-Requests": "10", "x-bad": "a\r\nset-cookie: b"})
    got = await client(rooms(policy=policy)).chat()
    assert got.headers["x-ratelimit-limit-requests"] == "10"
    assert got.headers["x-bad"] == "a  set-cookie: b"


async def test_obfuscation_pads_every_delta_when_asked() -> None:
    got = await client(rooms()).chat("some words", stream=True, stream_options={"include_obfuscation": True})
    sizes = {len(chunk["obfuscation"]) for chunk in got.chunks}
    assert len(sizes) > 1 and min(sizes) >= 1
    plain = await client(rooms()).chat("some words", stream=True)
    assert all("obfuscation" not in chunk for chunk in plain.chunks)


@pytest.mark.parametrize(
    ("headers", "body", "cache"),
    [
        ({"Cache-Control": "no-cache"}, {}, "bypass"),
        ({"Pragma": "no-cache"}, {}, "bypass"),
        ({}, {"cache": {"no-cache": True}}, "bypass"),
        ({}, {"cache": {"use-cache": False}}, "bypass"),
        ({}, {"cache": {"namespace": "other"}}, "miss"),
        ({"x-edgewise-namespace": "other"}, {}, "miss"),
        ({"Cache-Control": "max-age=1"}, {}, "miss"),
        ({}, {"cache": {"s-maxage": 1}}, "miss"),
        ({"Cache-Control": "max-age=60"}, {}, "hit"),
        ({"Cache-Control": "some-extension=1"}, {}, "hit"),
        ({}, {"cache": {"ttl": 5}}, "hit"),
    ],
)
async def test_cache_controls(headers: dict[str, str], body: dict[str, Any], cache: str) -> None:
    clock = FakeClock()
    ask = client(rooms(clock=clock))
    await ask.chat("q")
    await clock.advance(5)
    got = await ask.chat("q", headers=headers, **body)
    assert got.status == 200
    assert got.headers["x-edgewise-cache"] == cache


async def test_only_if_cached_never_calls_upstream() -> None:
    house = rooms()
    got = await client(house).chat("q", headers={"Cache-Control": "only-if-cached"})
    assert (got.status, got.error["code"]) == (504, "not_cached")
    assert isinstance(house.caller, FakeCaller) and not house.caller.calls


async def test_what_is_forwarded_is_the_body_without_our_own_fields() -> None:
    house = rooms()
    body = {
        "temperature": 0.5,
        "some_new_field": {"x": [1]},
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    ours = {"cache": {"ttl": 5}, "routing": {"strategy": "cheap"}, "stream": False, "stream_options": None}
    await client(house).chat("q", **body, **ours, headers={"x-edgewise-route-max-cost-usd": "0.1"})
    assert isinstance(house.caller, FakeCaller)
    (request,) = house.caller.calls
    assert dict(request.body) == {"model": "m", "messages": [{"role": "user", "content": "q"}], **body}
    assert request.routing == {"strategy": "cheap", "max_cost_usd": "0.1"}
    assert request.cache.ttl_s == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_dry_run_tells_the_choice_and_calls_nobody(stream: bool) -> None:
    house = rooms()
    got = await client(house).chat("q", routing={"dry_run": True}, stream=stream)
    assert got.json["object"] == "edgewise.route"
    assert got.json["steps"] == [{"models": ["fake/m"], "accept": None, "at_least": 0.5}]
    assert isinstance(house.caller, FakeCaller) and not house.caller.calls


@pytest.mark.parametrize(
    ("body", "header", "dry"),
    [({"dry_run": True}, "", True), ({"dry-run": True}, "", True), ({}, "true", True), ({}, "false", False)],
)
async def test_a_dry_run_is_one_however_it_is_spelled(body: dict[str, Any], header: str, dry: bool) -> None:
    """One that was taken for an option and carried out would be paid for."""
    house = rooms()
    headers = {"x-edgewise-route-dry-run": header} if header else {}
    await client(house).chat("q", routing=body, headers=headers)
    assert isinstance(house.caller, FakeCaller)
    assert len(house.caller.calls) == (0 if dry else 1)
