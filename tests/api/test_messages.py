"""Anthropic's dialect as plain values: what a request becomes, and a message told whole or in events."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.api import fields
from edgewise.api.app import app
from edgewise.api.messages_ask import chat_body, check
from edgewise.api.messages_tell import Telling, whole
from edgewise.chat import Answer, Usage, completion, unfold
from edgewise.errors import InvalidRequest
from edgewise.settings import Settings
from tests.api.client import Client
from tests.fakes import rooms

SIGNED = [{"type": "thinking", "thinking": "Hm, hm.", "signature": "sig"}, {"type": "redacted_thinking", "data": "x"}]
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["f", "g"]),
            "arguments": st.dictionaries(st.text(max_size=3), st.integers(-(2**63), 2**63 - 1)),
        }
    ),
    max_size=3,
)


def answer(finish: str = "stop", calls: list[dict[str, Any]] | None = None, **message: Any) -> Answer:
    said: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, **message}
    if calls:
        said["tool_calls"] = [
            {"id": f"call_{n}", "type": "function",
             "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])}}
            for n, call in enumerate(calls)
        ]  # fmt: skip
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish}
    return Answer(completion([choice], id="c", created=1, model="m", usage=Usage(20, 10, 5, 3)))


def asked(body: dict[str, Any]) -> dict[str, Any]:
    check(body)
    return chat_body(body)


def put_together(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client puts together from `events`, which must come in their order."""
    first, *rest = events
    assert first["type"] == "message_start"
    message: dict[str, Any] = {**first["message"], "content": []}
    arguments: list[str] | None = None
    opened = False
    for event in rest[:-2]:
        match event["type"]:
            case "content_block_start":
                assert not opened and event["index"] == len(message["content"])
                message["content"].append(dict(event["content_block"]))
                opened, arguments = True, []
            case "content_block_delta":
                assert opened and event["index"] == len(message["content"]) - 1
                kind, *_ = (key for key in event["delta"] if key != "type")
                if kind == "partial_json":
                    assert arguments is not None
                    arguments.append(event["delta"][kind])
                else:
                    message["content"][-1][kind] += event["delta"][kind]
            case "content_block_stop":
                assert opened
                if arguments:
                    message["content"][-1]["input"] = json.loads("".join(arguments))
                opened = False
            case other:
                raise AssertionError(other)
    assert not opened
    assert [event["type"] for event in rest[-2:]] == ["message_delta", "message_stop"]
    return {**message, **rest[-2]["delta"], "usage": rest[-2]["usage"]}


def told(given_answer: Answer) -> list[dict[str, Any]]:
    telling = Telling("msg_1", "asked")
    events = [event for piece in unfold(given_answer, id="c", created=1) for event in telling.add(piece)]
    return [*events, *telling.end()]


@given(
    st.text(max_size=600),
    CALLS,
    st.sampled_from(["stop", "length", "content_filter", "tool_calls"]),
    st.sampled_from([{}, {"reasoning_content": "Hm, hm.", "thinking_blocks": SIGNED}, {"reasoning_content": "Hm."}]),
)
def test_a_message_is_the_same_whole_and_in_events(
    text: str, calls: list[dict[str, Any]], finish: str, thoughts: dict[str, Any]
) -> None:
    said = answer(finish, calls, content=text or None, **thoughts)
    assert put_together(told(said)) == whole(said, "msg_1")


def test_a_thought_comes_before_the_words_and_its_signature_closes_it() -> None:
    message = whole(answer(content="Yes.", reasoning_content="Hm, hm.", thinking_blocks=SIGNED), "msg_1")
    assert message["content"] == [*SIGNED, {"type": "text", "text": "Yes."}]
    assert message["usage"] == {
        "input_tokens": 12, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 10,
    }  # fmt: skip


def test_a_stream_without_a_piece_is_still_a_message() -> None:
    assert [event["type"] for event in Telling("msg_1", "m").end()] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


def test_results_of_tools_come_right_behind_their_calls() -> None:
    body = {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "nobody's", "signature": ""},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}},
            ]},
            {"role": "user", "content": [
                {"type": "text", "text": "Here:"},
                {"type": "tool_result", "tool_use_id": "t1", "content": "sunny", "is_error": False},
            ]},
        ],
    }  # fmt: skip
    assert asked(body)["messages"] == [
        {"role": "system", "content": "one\n\ntwo"},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "user", "content": "Here:"},
    ]  # fmt: skip


def test_a_wished_form_and_effort_take_chats_names() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    body = {
        "model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}],
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": schema}},
        "tool_choice": {"type": "any"}, "tools": [{"name": "f", "input_schema": schema}],
    }  # fmt: skip
    chat = asked(body)
    assert chat["reasoning_effort"] == "high"
    assert chat["response_format"]["json_schema"]["schema"] == schema
    assert chat["tool_choice"] == "required"
    assert "anthropic" not in chat


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "text", "enabled"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "text"]), inner, max_size=2),
    max_leaves=4,
)
BLOCKS: list[dict[str, Any]] = [
    {"type": "text", "text": "Hi."},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}, "cache_control": {"type": "ephemeral"}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "So."}},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}, "title": "T"},
    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "1"}]},
    {"type": "tool_result", "tool_use_id": "t", "is_error": True},
]
SAID: list[dict[str, Any]] = [
    {"type": "text", "text": "Hi."},
    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
    {"type": "redacted_thinking", "data": "d"},
]
OPTIONS: dict[str, list[Any]] = {
    "system": ["Be brief.", [{"type": "text", "text": "So.", "cache_control": {"type": "ephemeral"}}]],
    "tools": [
        [{"name": "f", "input_schema": {"type": "object"}}],
        [{"name": "g", "input_schema": {}, "type": "custom"}],
    ],
    "tool_choice": [{"type": kind, "name": "f"} for kind in ("auto", "any", "tool", "none")],
    "thinking": [{"type": "enabled", "budget_tokens": 2000}, {"type": "adaptive"}, {"type": "disabled"}],
    "output_config": [{"effort": "high"}, {"format": {"type": "json_schema", "schema": {"type": "object"}}}],
    "metadata": [{"user_id": "u"}, {"user_id": None}],
    "stop_sequences": [[], ["a", "b", "c", "d", "e"]],
    "temperature": [0.5],
    "top_k": [5],
    "stream": [True],
    "cache": [{"no-store": True}],
}


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A request that is right but for, now and then, junk in the place of one of its values."""
    body: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": []}
    for _ in range(draw(st.integers(1, 3))):
        role = draw(st.sampled_from(["user", "assistant"]))
        listed = st.lists(st.sampled_from(SAID if role == "assistant" else BLOCKS), min_size=1, max_size=4)
        blocks = [dict(block) for block in draw(listed)]
        body["messages"].append({"role": role, "content": draw(st.just("x") | st.just(blocks))})
    for name in draw(st.lists(st.sampled_from(sorted(OPTIONS)), unique=True, max_size=5)):
        body[name] = draw(st.sampled_from(OPTIONS[name]))
    if draw(st.booleans()):
        turn = body["messages"][0]
        parts = [turn["content"][0]] if isinstance(turn["content"], list) else []
        place = draw(st.sampled_from([body, turn, *parts]))
        place[draw(st.sampled_from(sorted(place)))] = draw(JUNK)
    return body


@given(bodies())
@settings(max_examples=300)
def test_whatever_is_not_refused_is_a_chat_request(body: dict[str, Any]) -> None:
    """Nothing raises but a refusal, and what comes out is what chat's own table takes."""
    with contextlib.suppress(InvalidRequest):
        chat = asked(body)
        # Only OpenAI stops at four.
        chat["stop"] = chat.get("stop", ["."])[:4]
        flaws = [fields.CHAT[name](value) for name, value in chat.items() if name in fields.CHAT]
        assert flaws == [None] * len(flaws)
        assert chat["messages"]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"container": "c"}, "container"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"something_new": 1}, "something_new"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "odd"}}, "tool_choice.type"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "s"}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t",
                                                     "content": [{"type": "search_result"}]}]}]},
         "messages[0].content[0].content[0]"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1}}, "thinking.budget_tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(part: dict[str, Any], param: str) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], **part}
    with pytest.raises(InvalidRequest) as caught:
        asked(body)
    assert caught.value.param == param


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_nobody_thought_of_is_told_in_this_dialect_without_its_inner_text(streamed: bool) -> None:
    def broken(_: Any) -> Any:
        raise ValueError("an inner secret")

    house = rooms(script=broken)
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    got = await Client(app(house, Settings()), "ew_test").ask("POST", "/v1/messages", body)
    assert got.status == 500
    assert got.json["type"] == "error" and got.json["error"]["type"] == "api_error"
    assert got.json["request_id"] == got.headers["request-id"] == got.headers["x-request-id"]
    assert b"secret" not in got.body


async def test_every_way_to_the_route_and_its_dry_run() -> None:
    client = Client(app(rooms(), Settings()), "ew_test")
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    for path in ("/v1/messages", "/messages"):
        assert (await client.ask("POST", path, body)).json["content"] == [{"type": "text", "text": "x"}]
    asked_anew = {**body, "max_tokens": 6, "routing": {"dry_run": True}}
    planned = await client.ask("POST", "/v1/messages", asked_anew)
    assert planned.json["object"] == "edgewise.route"
