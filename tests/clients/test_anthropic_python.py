"""The stock `anthropic` Python client, holding every answer to its own models strictly, against the whole gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2 as httpx
import pytest
from anthropic import Anthropic

from tests.clients.conftest import Gateway
from tests.upstream import Manner

MODEL = "scripted/echo"
CLAUDE = "anthropic/claude-sonnet-4-5"
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def made(gateway: Gateway, **key: str) -> Anthropic:
    return Anthropic(
        base_url=gateway.url,
        api_key=key.get("api_key"),
        auth_token=key.get("auth_token"),
        max_retries=0,
        timeout=20,
        _strict_response_validation=True,
    )


@pytest.fixture(params=["api_key", "auth_token"])
def client(edgewise_gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[Anthropic]:
    """By either way that this client shows its key: `x-api-key`, or a bearer's token."""
    with made(edgewise_gateway, **{request.param: edgewise_gateway.key}) as client:
        yield client


@pytest.fixture
def plain(edgewise_gateway: Gateway) -> Iterator[Anthropic]:
    with made(edgewise_gateway, api_key=edgewise_gateway.key) as client:
        yield client


def user(content: Any) -> Any:
    return [{"role": "user", "content": content}]


def test_a_message_and_the_same_out_of_the_cache(client: Anthropic, request: pytest.FixtureRequest) -> None:
    asked = f"a message by {request.node.name}"
    told = []
    for cache in ("miss", "hit"):
        raw = client.messages.with_raw_response.create(
            model=MODEL, max_tokens=50, system="Say it back.", messages=user(asked)
        )
        message = raw.parse()
        assert raw.headers["x-edgewise-cache"] == cache
        assert raw.headers["request-id"] == raw.headers["x-request-id"] == message._request_id
        (block,) = message.content
        assert block.type == "text" and block.text == asked
        assert (message.stop_reason, message.role, message.type) == ("end_turn", "assistant", "message")
        assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0
        told.append(message)
    assert told[0].id != told[1].id and told[0].usage == told[1].usage


@pytest.mark.parametrize("again", [False, True])
def test_a_stream_has_the_strict_order_live_and_replayed(plain: Anthropic, again: bool) -> None:
    stream = plain.messages.create(model=MODEL, max_tokens=50, messages=user("a stream of a few words"), stream=True)
    events = list(stream)
    kinds = [event.type for event in events]
    deltas = kinds.count("content_block_delta")
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert stream.response.headers["x-edgewise-cache"] == ("hit" if again else "miss")
    text = "".join(e.delta.text for e in events if e.type == "content_block_delta" and e.delta.type == "text_delta")
    assert text == "a stream of a few words"
    end = events[-2]
    assert end.type == "message_delta" and end.delta.stop_reason == "end_turn"
    assert end.usage.output_tokens > 0 and end.usage.input_tokens


def test_the_streaming_helper_puts_it_together(plain: Anthropic) -> None:
    with plain.messages.stream(model=MODEL, max_tokens=50, messages=user("the helper")) as stream:
        assert "".join(stream.text_stream) == "the helper"
        assert stream.get_final_message().usage.output_tokens > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_call_and_its_answer(plain: Anthropic, streamed: bool) -> None:
    asked = user(f'Weather? [[script tool=weather args=\'{{"city": "Rome {streamed}"}}\']]')
    wanted: Any = {"model": "scripted/tool", "max_tokens": 50, "messages": asked, "tools": [WEATHER]}
    if streamed:
        with plain.messages.stream(**wanted) as stream:
            message = stream.get_final_message()
    else:
        message = plain.messages.create(**wanted)
    assert message.stop_reason == "tool_use"
    (use,) = message.content
    assert use.type == "tool_use" and use.name == "weather" and use.input == {"city": f"Rome {streamed}"}
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}]}
    answered = user([result, {"type": "text", "text": "and now?"}])
    last = plain.messages.create(
        model=MODEL, max_tokens=50, tools=[WEATHER], messages=[*asked, message.to_param(), *answered]
    )
    assert last.content[0].type == "text" and last.content[0].text == "and now?"


def test_every_refusal_is_the_clients_own_exception(plain: Anthropic, edgewise_gateway: Gateway) -> None:
    said: dict[str, Any] = {"model": MODEL, "max_tokens": 9, "messages": user("x")}
    refusals: list[tuple[type[anthropic.APIStatusError], dict[str, Any], str]] = [
        (anthropic.BadRequestError, {"extra_body": {"temperature": 3}}, "invalid_request_error"),
        (anthropic.BadRequestError, {"tools": [{"type": "web_search_20250305", "name": "w"}]}, "invalid_request_error"),
        (anthropic.BadRequestError, {"messages": user([{"type": "thing"}])}, "invalid_request_error"),
        (anthropic.NotFoundError, {"model": "no/such-model"}, "not_found_error"),
        (anthropic.RateLimitError, {"messages": user("[[script status=429]]")}, "rate_limit_error"),
        (anthropic.InternalServerError, {"messages": user("[[script status=503]]")}, "overloaded_error"),
    ]
    for kind, body, word in refusals:
        with pytest.raises(kind) as caught:
            plain.messages.create(**{**said, **body})
        told: Any = caught.value.body
        assert set(told) == {"type", "error", "request_id"} and told["type"] == "error"
        assert set(told["error"]) == {"type", "message"} and told["error"]["type"] == word
        assert caught.value.request_id == told["request_id"]
    with pytest.raises(anthropic.AuthenticationError):
        Anthropic(base_url=edgewise_gateway.url, api_key="ew_wrong", max_retries=0).messages.create(**said)
    with pytest.raises(anthropic.APIStatusError):
        plain.messages.create(**{**said, "stream": True, "messages": user("[[script status=503]]")})


@pytest.mark.parametrize("cut", ["mid-chunk", "before-finish"])
def test_a_stream_that_its_provider_cuts_raises(plain: Anthropic, cut: str) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(plain.messages.create(
            model=MODEL, max_tokens=50, stream=True, messages=user(f"long enough to be cut [[script die={cut}]]")
        ))  # fmt: skip
    body: Any = caught.value.body
    assert body["error"]["type"] == "api_error"


def test_what_reaches_anthropic_is_what_was_asked(plain: Anthropic, edgewise_gateway: Gateway) -> None:
    upstream = edgewise_gateway.upstream
    upstream.behave(Manner(text="A dot.", usage={"cache_read_input_tokens": 7, "cache_creation_input_tokens": 2}))
    message = plain.messages.create(
        model=CLAUDE,
        max_tokens=3000,
        system=[{"type": "text", "text": "Look well.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            *user("Hello."),
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                                              {"type": "text", "text": "Hi."}]},
            *user([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                   {"type": "text", "text": "What is it?"}]),
        ],
        stop_sequences=["a", "b", "c", "d", "e"],
        thinking={"type": "enabled", "budget_tokens": 1500},
        tools=[WEATHER],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        metadata={"user_id": "u-1"},
    )  # fmt: skip
    assert message.usage.cache_read_input_tokens == 7 and message.usage.cache_creation_input_tokens == 2
    sent = upstream.requests[-1].body
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hello."}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                                          {"type": "text", "text": "Hi."}]},
        {"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
            {"type": "text", "text": "What is it?"}]},
    ]  # fmt: skip
    expected = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 3000,
        "system": "Look well.",
        "cache_control": {"type": "ephemeral"},
        "stop_sequences": ["a", "b", "c", "d", "e"],
        "thinking": {"type": "enabled", "budget_tokens": 1500},
        "tools": [WEATHER],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "metadata": {"user_id": "u-1"},
    }
    assert {name: sent.get(name) for name in expected} == expected
    assert set(sent) == {*expected, "messages"}


def test_another_makers_model_is_told_nothing_of_anthropics_words(plain: Anthropic, edgewise_gateway: Gateway) -> None:
    plain.messages.create(
        model="chaos/gpt",
        max_tokens=2000,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=user("what is sent elsewhere"),
        thinking={"type": "enabled", "budget_tokens": 1500},
        extra_body={"top_k": 5},
    )
    assert edgewise_gateway.upstream.requests[-1].body == {
        "model": "gpt",
        "max_completion_tokens": 2000,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "what is sent elsewhere"},
        ],
        "reasoning_effort": "low",
    }


def test_tokens_are_counted_without_asking_anybody(plain: Anthropic, edgewise_gateway: Gateway) -> None:
    calls = edgewise_gateway.upstream.calls
    few = plain.messages.count_tokens(model=CLAUDE, messages=user("Hello, world"))
    many = plain.messages.count_tokens(model=CLAUDE, system="Be brief. " * 50, messages=user("Hello, world"))
    assert 2 <= few.input_tokens < many.input_tokens
    assert edgewise_gateway.upstream.calls == calls


def test_models_are_listed_in_its_own_shape(plain: Anthropic) -> None:
    found = {model.id: model for model in plain.models.list()}
    assert found[MODEL].display_name == MODEL
    assert plain.models.retrieve(MODEL).id == MODEL
    with pytest.raises(anthropic.NotFoundError) as caught:
        plain.models.retrieve("no/such-model")
    body: Any = caught.value.body
    assert body["error"]["type"] == "not_found_error"


def test_what_no_client_sends_is_refused_in_this_dialect(edgewise_gateway: Gateway) -> None:
    url, headers = f"{edgewise_gateway.url}/v1/messages", {"x-api-key": edgewise_gateway.key}
    for content in (b"", b"{", b"[]", b'{"model": "m"}', json.dumps({"model": MODEL, "messages": []}).encode()):
        answer = httpx.post(url, headers=headers, content=content)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert httpx.post(url, content=b"{}").json()["error"]["type"] == "authentication_error"
