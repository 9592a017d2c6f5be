"""The Messages adapter: the contract over the loopback upstream, and the translation both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgewise.chat import Folding
from edgewise.errors import UpstreamRefused, UpstreamUnavailable
from edgewise.provider.anthropic import Anthropic
from edgewise.provider.anthropic_answer import AnswerStream, answer_of
from edgewise.provider.anthropic_ask import ask, generation
from edgewise.provider.http import Http
from edgewise.words import Model
from tests.provider.contract import CLOCK, TOOL, OverUpstream, ProviderContract, call, folded, streamed
from tests.upstream import Manner, Upstream

PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
async def rig(upstream: Upstream) -> AsyncIterator[OverUpstream]:
    provider = Anthropic(Http(CLOCK), CLOCK, upstream.root, "sk-ant")
    yield OverUpstream(provider, Model("anthropic", "claude-sonnet-4-5", output_tokens=64_000), upstream)
    await provider.close()


class TestAnthropic(ProviderContract):
    """The port's contract."""


def asked(rig: OverUpstream, model_id: str | None = None, **body: Any) -> dict[str, Any]:
    if model_id:
        rig.model = Model("anthropic", model_id)
    return ask(call(rig, **body), stream=False)


async def test_the_headers_of_the_api(rig: OverUpstream) -> None:
    await rig.provider.complete(call(rig))
    seen = rig.upstream.requests[0]
    assert seen.path == "/v1/messages"
    assert seen.headers["x-api-key"] == "sk-ant" and seen.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in seen.headers


async def test_overload_and_errors_in_band(rig: OverUpstream) -> None:
    with pytest.raises(UpstreamUnavailable) as caught:
        await rig.provider.complete(call(rig, **rig.arrange(Manner(status=529))))
    assert caught.value.status == 503
    manner = Manner(in_band_error={"type": "overloaded_error", "message": "Overloaded"})
    with pytest.raises(UpstreamUnavailable):
        await streamed(rig, call(rig, **rig.arrange(manner)))


async def test_cached_tokens_are_part_of_the_prompt(rig: OverUpstream) -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50}
    for stream in (False, True):
        asking = call(rig, **rig.arrange(Manner(text="a b", usage=usage)))
        answer = folded(await streamed(rig, asking)) if stream else await rig.provider.complete(asking)
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.cached_tokens, answer.usage.cache_write_tokens) == (
            160,
            100,
            50,
        )
        assert answer.usage.completion_tokens == 2


async def test_how_it_was_served_and_what_is_kept_for_an_hour_is_told(rig: OverUpstream) -> None:
    by_age = {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}
    usage = {"input_tokens": 10, "cache_creation_input_tokens": 50, "cache_creation": by_age}
    for stream in (False, True):
        for told, tier in (("standard", "default"), ("priority", "priority"), (None, None)):
            manner = Manner(text="a b", usage={**usage, "service_tier": told})
            asking = call(rig, **rig.arrange(manner))
            answer = folded(await streamed(rig, asking)) if stream else await rig.provider.complete(asking)
            assert answer.usage is not None and answer.completion.get("service_tier") == tier
            assert (answer.usage.cache_write_tokens, answer.usage.cache_write_1h_tokens) == (50, 30)


def test_system_turns_go_to_the_top_and_turns_of_one_role_become_one(rig: OverUpstream) -> None:
    told = asked(
        rig,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Two sums"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
                {"id": "c2", "type": "function", "function": {"name": "add", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "3"}]},
            {"role": "developer", "content": "In English."},
            {"role": "user", "content": "Go on"},
        ],
    )  # fmt: skip
    assert told["system"] == "Be brief.\n\nIn English."
    assert [message["role"] for message in told["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in told["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]
    assert told["messages"][1]["content"][0] == {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}
    assert told["messages"][1]["content"][1]["input"] == {}


def test_images_by_url_and_by_data(rig: OverUpstream) -> None:
    content = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    blocks = asked(rig, messages=[{"role": "user", "content": content}])["messages"][0]["content"]
    assert blocks[1]["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert blocks[2]["source"] == {"type": "url", "url": "https://example.com/a.png"}


@pytest.mark.parametrize(
    ("choice", "parallel", "told"),
    [
        (None, None, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ({"type": "function", "function": {"name": "add"}}, False,
         {"type": "tool", "name": "add", "disable_parallel_tool_use": True}),
    ],
)  # fmt: skip
def test_tool_choice(rig: OverUpstream, choice: Any, parallel: Any, told: Any) -> None:
    made = asked(rig, tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel)
    assert made.get("tool_choice") == told
    assert made["tools"][0]["input_schema"]["properties"] == {"a": {"type": "integer"}}


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        ("claude-3-5-haiku-20241022", (3, 5)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-sonnet-4-5-20250929", (4, 5)),
        ("claude-opus-4-7", (4, 7)),
        ("us.anthropic.claude-sonnet-4-6-v1:0", (4, 6)),
        ("claude-mythos-5", (5, 0)),
        ("claude-someday", (99, 0)),
    ],
)
def test_the_generation_of_a_model(model_id: str, expected: tuple[int, int]) -> None:
    assert generation(model_id) == expected


def test_reasoning_effort_by_generation(rig: OverUpstream) -> None:
    old = asked(rig, reasoning_effort="low", max_tokens=8000, temperature=0.5)
    assert old["thinking"] == {"type": "enabled", "budget_tokens": 1024} and "temperature" not in old
    new = asked(rig, "claude-opus-4-7", reasoning_effort="high", temperature=0.5)
    assert new["thinking"] == {"type": "adaptive"} and new["output_config"] == {"effort": "high"}
    assert "temperature" not in new
    assert "thinking" not in asked(rig, "claude-sonnet-4-5", reasoning_effort="low", max_tokens=500)


def test_sampling_and_stops(rig: OverUpstream) -> None:
    told = asked(rig, temperature=1.7, top_p=0.3, stop=["\n", "END"], seed=3, presence_penalty=1, user="u1")
    assert told["temperature"] == 1.0 and "top_p" not in told
    assert told["stop_sequences"] == ["END"]
    assert told["metadata"] == {"user_id": "u1"}
    assert told["max_tokens"] == 8192
    assert asked(rig, max_completion_tokens=77)["max_tokens"] == 77


def test_structured_output(rig: OverUpstream) -> None:
    schema = {"type": "object", "properties": {}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert asked(rig, response_format=wanted)["output_config"]["format"] == {"type": "json_schema", "schema": schema}
    assert "JSON schema" in asked(rig, "claude-3-5-haiku-20241022", response_format=wanted)["system"]
    assert "JSON" in asked(rig, response_format={"type": "json_object"})["system"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}]}]},
         "messages[0].tool_calls[0].function.arguments"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(rig: OverUpstream, body: Any, param: str) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        asked(rig, **body)
    assert caught.value.param == param and caught.value.status == 400


THINKING: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm, "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "yes."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Yes."}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "now"}},
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]


def test_thinking_comes_out_and_goes_back_in(rig: OverUpstream) -> None:
    said, folding = AnswerStream(id="i", created=1, model="m"), Folding()
    for event in THINKING:
        for piece in said.chunks(event):
            folding.add(piece)
    message = folding.answer().choices[0]["message"]
    blocks = [{"type": "thinking", "thinking": "Hm, yes.", "signature": "sig"}]
    assert message["reasoning_content"] == "Hm, yes." and message["thinking_blocks"] == blocks
    assert message["tool_calls"][0]["function"] == {"name": "now", "arguments": "{}"}
    told = {
        "model": "claude",
        "content": [
            *blocks,
            {"type": "text", "text": "Yes."},
            {"type": "tool_use", "id": "t", "name": "now", "input": {}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 9},
    }
    whole = answer_of(told, id="i", created=1)
    assert {**whole.choices[0]["message"]} == {**message, "content": "Yes."}
    assert whole.usage == folding.answer().usage
    again = asked(rig, messages=[{"role": "user", "content": "?"}, message])["messages"][1]["content"]
    assert [block["type"] for block in again] == ["thinking", "text", "tool_use"]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("max_tokens", "length"), ("refusal", "content_filter"), ("stop_sequence", "stop"), ("something_new", "stop")],
)
async def test_stop_reasons(rig: OverUpstream, reason: str, finish: str) -> None:
    answer = await rig.provider.complete(call(rig, **rig.arrange(Manner(finish=reason))))
    assert answer.finish_reasons == (finish,)
