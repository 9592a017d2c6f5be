"""The stock `openai` Python client, holding every answer to its own models strictly, against the whole gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import openai
import pytest
from openai import OpenAI

from tests.clients.conftest import Gateway
from tests.upstream import CUTS, Cut, Manner

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(edgewise_gateway: Gateway) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{edgewise_gateway.url}/v1",
        api_key=edgewise_gateway.key,
        max_retries=0,
        timeout=20,
        _strict_response_validation=True,
    ) as client:
        yield client


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_an_answer(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="scripted/echo", messages=user("an answer"))
    answer = raw.parse()
    assert answer.choices[0].message.content == "an answer"
    assert answer.usage is not None and answer.usage.total_tokens > 0
    assert answer._request_id == raw.headers["x-request-id"]


def test_a_stream_with_usage(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="scripted/echo", messages=user("a stream with usage"), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "a stream with usage"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == [] and last.usage is not None and last.usage.completion_tokens > 0


def test_the_streaming_helper_sees_the_same(client: OpenAI) -> None:
    with client.chat.completions.stream(model="scripted/echo", messages=user("the helper")) as stream:
        kinds = {event.type for event in stream}
        assert stream.get_final_completion().choices[0].message.content == "the helper"
    assert {"chunk", "content.delta", "content.done"} <= kinds


def test_a_tool_call_and_its_answer(client: OpenAI) -> None:
    asked = user('Weather in Rome? [[script tool=weather args=\'{"city": "Rome"}\']]')
    answer = client.chat.completions.create(model="scripted/tool", messages=asked, tools=[WEATHER])
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "weather"
    assert answer.choices[0].finish_reason == "tool_calls"
    again = client.chat.completions.create(
        model="scripted/echo",
        messages=[
            *user("Weather in Rome?"),
            answer.choices[0].message.to_dict(),  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ],
        tools=[WEATHER],
    )
    assert again.choices[0].message.content


def test_a_streamed_tool_call(client: OpenAI) -> None:
    asked = user('Streamed weather? [[script tool=weather args=\'{"city": "Rome"}\']]')
    stream = client.chat.completions.create(model="scripted/tool", messages=asked, tools=[WEATHER], stream=True)
    deltas = [c.choices[0].delta.tool_calls[0] for c in stream if c.choices[0].delta.tool_calls]
    assert deltas[0].function is not None and deltas[0].function.name == "weather"
    assert "".join((d.function and d.function.arguments) or "" for d in deltas) == '{"city": "Rome"}'


@pytest.mark.parametrize("stream", [False, True])
def test_the_second_time_is_a_hit_with_the_same_grammar(client: OpenAI, stream: bool) -> None:
    def ask() -> tuple[str, str, list[str | None]]:
        raw = client.chat.completions.with_raw_response.create(
            model="scripted/echo", messages=user(f"twice {stream}"), stream=stream
        )
        got: Any = raw.parse()
        chosen = [chunk.choices[0] for chunk in got] if stream else [got.choices[0]]
        text = "".join((choice.delta if stream else choice.message).content or "" for choice in chosen)
        return raw.headers["x-edgewise-cache"], text, [chosen[-1].finish_reason]

    first, second = ask(), ask()
    assert (first[0], second[0]) == ("miss", "hit")
    assert first[1:] == second[1:]


def test_parsed_output(client: OpenAI) -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        name: str

    asked = user('Which city? [[script text=\'{"name": "Rome"}\']]')
    answer = client.chat.completions.parse(model="scripted/echo", messages=asked, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Rome")


def test_models(client: OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert "scripted/echo" in listed
    assert client.models.retrieve("scripted/echo").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none/at-all")


def test_every_refusal_is_the_clients_own_exception(client: OpenAI) -> None:
    def ask(**rest: Any) -> None:
        body: dict[str, Any] = {"model": "scripted/echo", "messages": user("x"), **rest}
        client.chat.completions.create(**body)

    with pytest.raises(openai.BadRequestError) as wrong:
        ask(messages=user(5))  # type: ignore[arg-type]
    assert wrong.value.param == "messages[0].content" and wrong.value.code == "invalid_type"
    with pytest.raises(openai.BadRequestError):
        ask(temperature=3)
    with pytest.raises(openai.NotFoundError) as missing:
        ask(model="none/at-all")
    assert missing.value.code == "model_not_found" and missing.value.request_id
    with pytest.raises(openai.APIStatusError) as large:
        ask(messages=user("x" * 300_000))
    assert large.value.status_code == 413
    with pytest.raises(openai.AuthenticationError) as stranger:
        client.with_options(api_key="ew_wrong").chat.completions.create(model="m", messages=user("x"))
    assert stranger.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError):
        ask(extra_body={"api_base": "http://evil.example"})
    with pytest.raises(openai.RateLimitError) as slow:
        ask(messages=user("limit me [[script status=429 retry_after_s=300]]"))
    assert slow.value.response.headers["retry-after"] == "300"
    with pytest.raises(openai.InternalServerError):
        ask(messages=user("break [[script status=503]]"))


@pytest.mark.parametrize("point", CUTS)
def test_a_scripted_death_raises_and_keeps_nothing(client: OpenAI, point: Cut) -> None:
    asked = user(f"some longer text to be cut off [[script die={point}]]")
    for _ in range(2):
        with pytest.raises(openai.APIError):
            for _ in client.chat.completions.create(model="scripted/echo", messages=asked, stream=True):
                pass


@pytest.mark.parametrize(("cut", "stream"), [*((cut, True) for cut in CUTS), *((cut, False) for cut in CUTS[:3])])
@pytest.mark.parametrize("drop", ["end", "close", "reset"])
def test_an_upstream_that_dies_raises_every_time_and_nothing_is_cached(
    client: OpenAI, edgewise_gateway: Gateway, cut: Cut, drop: Any, stream: bool
) -> None:
    """However its connection ends: a proper end of the body, a closed socket, a reset. JSON has only three points."""
    upstream = edgewise_gateway.upstream
    text, model = f"die {cut} {drop} {stream}", f"chaos/{cut}-{drop}-{stream}"

    def ask() -> str:
        if not stream:
            return client.chat.completions.create(model=model, messages=user(text)).choices[0].message.content or ""
        pieces = client.chat.completions.create(
            model=model, messages=user(text), stream=True, stream_options={"include_usage": True}
        )
        return "".join(c.choices[0].delta.content or "" for c in pieces if c.choices)

    before, well = upstream.calls, upstream.default
    # Every try dies alike: before the first byte the gateway tries again, and would get through otherwise.
    upstream.default = Manner(cut=cut, drop=drop)
    try:
        for tries in (1, 2):
            with pytest.raises(openai.APIError):
                ask()
            assert upstream.calls >= before + tries
    finally:
        upstream.default = well
    died = upstream.calls
    assert ask() == text
    assert upstream.calls == died + 1


def test_what_is_forwarded_holds_nothing_of_ours(client: OpenAI, edgewise_gateway: Gateway) -> None:
    client.chat.completions.create(
        model="chaos/m",
        messages=user("forwarded"),
        extra_body={"cache": {"ttl": 5}, "routing": {"strategy": "simple"}, "brand_new": [1]},
    )
    seen = edgewise_gateway.upstream.requests[-1]
    assert seen.headers["authorization"] == "Bearer sk-upstream"
    assert seen.body["brand_new"] == [1] and seen.body["model"] == "m"
    assert not {"cache", "routing"} & seen.body.keys()


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_embeddings_in_both_encodings(client: OpenAI, encoding: Any) -> None:
    """By default it asks for base64, which its strict models refuse before it decodes: so it is not strict there."""
    asked = {"encoding_format": encoding} if encoding else {}
    with OpenAI(
        base_url=client.base_url, api_key=client.api_key, _strict_response_validation=encoding == "float"
    ) as other:
        answer = other.embeddings.create(model="chaos/embed", input=["a", "b"], **asked)
    assert [item.index for item in answer.data] == [0, 1]
    assert isinstance(answer.data[0].embedding, str) == (encoding == "base64")


def test_a_response(client: OpenAI) -> None:
    answer = client.responses.create(model="scripted/echo", input="a response")
    assert (answer.status, answer.output_text) == ("completed", "a response")


def test_a_streamed_response(client: OpenAI) -> None:
    with client.responses.stream(model="scripted/echo", input="a streamed response") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text == "a streamed response"


def test_a_response_that_calls_a_tool(client: OpenAI) -> None:
    tool: Any = {"type": "function", **WEATHER["function"], "strict": False}
    answer = client.responses.create(
        model="scripted/tool",
        input='Weather by response? [[script tool=weather args=\'{"city": "Rome"}\']]',
        tools=[tool],
    )
    (call,) = answer.output
    assert call.type == "function_call" and call.arguments == '{"city": "Rome"}'


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405)]
)
def test_even_what_no_client_asks_for_has_openais_shape(
    edgewise_gateway: Gateway, method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, edgewise_gateway.url + path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
