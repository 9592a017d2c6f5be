"""The Responses API over the corridor: translation both ways, and the grammar of its events."""

from __future__ import annotations

from typing import Any

import pytest

from edgewise.api.app import app
from edgewise.api.responses import Kept
from edgewise.api.responses_ask import chat_body, check, messages_of
from edgewise.chat import Answer
from edgewise.errors import InvalidRequest, RateLimited, UpstreamDied
from edgewise.rooms import Rooms
from edgewise.settings import Settings
from edgewise.words import Plan
from tests.api import spec
from tests.api.client import Client
from tests.api.test_chat import cut_after
from tests.fakes import FakeCaller, FakePolicy, Script, rooms, saying

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


class Shelf:
    """Keeps responses in a dict."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Kept] = {}

    async def keep(self, plan: Plan, kept: Kept) -> None:
        self.kept[plan.tenant, kept.response["id"]] = kept

    async def find(self, tenant: str, id: str) -> Kept | None:
        return self.kept.get((tenant, id))


def client(house: Rooms, shelf: Shelf | None = None) -> Client:
    return Client(app(house, Settings(), kept=shelf))


async def ask(house: Rooms, shelf: Shelf | None = None, **body: Any) -> Any:
    return await client(house, shelf).ask("POST", "/v1/responses", {"model": "m", "input": "hello", **body})


def always(answer: Answer) -> Script:
    return lambda _: answer


def text_of(response: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for item in response["output"] for part in item.get("content", ()))


async def test_a_question_is_answered_as_a_response() -> None:
    got = await ask(rooms())
    assert got.status == 200
    assert (got.json["object"], got.json["status"]) == ("response", "completed")
    assert text_of(got.json) == "hello"
    assert got.json["usage"]["total_tokens"] == 12
    assert got.headers["x-edgewise-cache"] == "miss"


async def test_it_shares_the_cache_with_chat() -> None:
    house = rooms()
    await client(house).chat("hello")
    assert (await ask(house)).headers["x-edgewise-cache"] == "hit"


async def test_the_events_of_a_text() -> None:
    got = await ask(rooms(), stream=True, input="abcdefg")
    events = got.events
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(10))
    assert "".join(e["delta"] for e in events if e["type"].endswith("delta")) == "abcdefg"
    last = events[-1]["response"]
    assert (text_of(last), last["status"], last["usage"]["total_tokens"]) == ("abcdefg", "completed", 12)
    assert len({e["response"]["id"] for e in events if "response" in e}) == 1
    assert b"[DONE]" not in got.body
    assert got.body.startswith(b"event: response.created\ndata: {")


async def test_the_events_of_calls() -> None:
    calls = [CALL, {**CALL, "id": "call_2"}]
    house = rooms(script=lambda _: saying("", finish="tool_calls", content=None, tool_calls=calls))
    events = (await ask(house, stream=True)).events
    kinds = [event["type"].removeprefix("response.") for event in events[2:-1]]
    one = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert kinds == one * 2
    output = events[-1]["response"]["output"]
    assert [(item["call_id"], item["arguments"], item["status"]) for item in output] == [
        ("call_1", '{"a":1}', "completed"),
        ("call_2", '{"a":1}', "completed"),
    ]


async def test_the_stream_ends_with_the_object_that_json_would_have_been() -> None:
    call = {"id": "call_x", "type": "custom", "custom": {"name": "g", "input": "abc"}}
    for answer in (
        saying("text"),
        saying("", content=None, refusal="I can't"),
        saying("some", finish="tool_calls", tool_calls=[CALL, call]),
        saying("cut", finish="length"),
    ):
        whole = (await ask(rooms(script=always(answer)))).json
        events = (await ask(rooms(script=always(answer)), stream=True)).events
        assert without_ids(events[-1]["response"]) == without_ids(whole)


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    return {**response, "id": "", "output": [{**item, "id": ""} for item in response["output"]]}


async def test_an_answer_that_was_cut_is_incomplete() -> None:
    got = await ask(rooms(script=lambda _: saying("cut", finish="length")))
    assert (got.json["status"], got.json["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


async def test_a_death_in_the_stream_is_a_failed_response() -> None:
    got = await ask(rooms(script=cut_after(2, UpstreamDied("The provider hung up."))), stream=True)
    last = got.events[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"] == {"code": "server_error", "message": "The provider hung up."}


async def test_errors_before_the_first_event_keep_their_status() -> None:
    got = await ask(rooms(policy=FakePolicy(refuse=RateLimited("slow", retry_after_s=3))), stream=True)
    assert (got.status, got.headers["retry-after"]) == (429, "3")


FULL: dict[str, Any] = {
    "model": "m",
    "instructions": "be brief",
    "input": [
        {"role": "user", "content": "hi"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "AA=="},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
         "content": [{"type": "output_text", "text": "I call", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True},
        {"type": "custom", "name": "g", "format": {"type": "grammar", "syntax": "lark", "definition": "a"}},
    ],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}, "verbosity": "low"},
    "reasoning": {"effort": "low"},
    "max_output_tokens": 16,
    "temperature": 0,
    "store": True,
    "metadata": {"a": "b"},
    "brand_new": 1,
}  # fmt: skip


def test_a_request_is_translated_to_chat() -> None:
    check(FULL)
    assert chat_body(FULL) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi"},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "AA=="}},
            ]},
            {"role": "assistant", "content": [{"type": "text", "text": "I call"}], "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}]},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}},
            {"type": "custom", "custom": {"name": "g", "format": {
                "type": "grammar", "grammar": {"syntax": "lark", "definition": "a"}}}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
        "verbosity": "low",
        "reasoning_effort": "low",
        "max_completion_tokens": 16,
        "temperature": 0,
        "metadata": {"a": "b"},
        "brand_new": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "x"}]}]}, "input[0].content[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"conversation": "x"}, "conversation"),
        ({"background": True}, "background"),
    ],
)
async def test_what_is_wrong_or_cannot_be_done_is_named(change: dict[str, Any], param: str) -> None:
    got = await ask(rooms(), **change)
    assert (got.status, got.error["param"]) == (400, param)


async def test_a_conversation_goes_on() -> None:
    house, shelf = rooms(), Shelf()
    first = (await ask(house, shelf, input="one", instructions="be kind")).json
    second = (await ask(house, shelf, input="two", previous_response_id=first["id"], stream=True)).events[-1]
    third = await ask(house, shelf, input="three", previous_response_id=second["response"]["id"])
    assert third.status == 200
    assert isinstance(house.caller, FakeCaller)
    told = [(m["role"], m["content"]) for m in house.caller.calls[-1].messages]
    parts = [(role, c if isinstance(c, str) else c[0]["text"]) for role, c in told]
    assert parts == [
        ("user", "one"), ("assistant", "one"), ("user", "two"), ("assistant", "two"), ("user", "three"),
    ]  # fmt: skip


async def test_a_conversation_is_its_tenants_own() -> None:
    house, shelf = rooms(policy=FakePolicy(keys={"a": "acme", "b": "bolt"})), Shelf()
    application = client(house, shelf).app
    first = (await Client(application, "a").ask("POST", "/responses", {"model": "m", "input": "x"})).json
    body = {"model": "m", "input": "y", "previous_response_id": first["id"]}
    assert (await Client(application, "b").ask("POST", "/responses", body)).status == 404
    assert (await Client(application, "a").ask("POST", "/responses", body)).status == 200


async def test_a_client_may_keep_its_response_from_being_kept() -> None:
    shelf = Shelf()
    await ask(rooms(), shelf, store=False)
    assert not shelf.kept


def test_output_goes_back_in_as_it_came() -> None:
    assert messages_of([{"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}])
    with pytest.raises(InvalidRequest):
        messages_of([{"type": "reasoning", "id": "r", "summary": []}])


@pytest.mark.data
@pytest.mark.parametrize("stream", [False, True])
async def test_everything_told_conforms_to_openais_description(stream: bool) -> None:
    call = {"id": "call_x", "type": "custom", "custom": {"name": "g", "input": "abc"}}
    answers: list[Any] = [
        saying("text"),
        saying("", content=None, refusal="I can't"),
        saying("some", finish="tool_calls", tool_calls=[CALL, call]),
        saying("cut", finish="length"),
    ]
    tools = [{"type": "function", "name": "f", "parameters": None, "strict": None}]
    scripts: list[Any] = [always(answer) for answer in answers]
    for script in [*scripts, cut_after(3, UpstreamDied("cut"))] if stream else scripts:
        got = await ask(rooms(script=script), stream=stream, tools=tools, metadata={"a": "b"})
        if not stream:
            spec.conforms(got.json, "Response")
        for event in got.events:
            spec.conforms(event, EVENTS[event["type"]])


EVENTS = {
    "response.created": "ResponseCreatedEvent",
    "response.in_progress": "ResponseInProgressEvent",
    "response.completed": "ResponseCompletedEvent",
    "response.incomplete": "ResponseIncompleteEvent",
    "response.failed": "ResponseFailedEvent",
    "response.output_item.added": "ResponseOutputItemAddedEvent",
    "response.output_item.done": "ResponseOutputItemDoneEvent",
    "response.content_part.added": "ResponseContentPartAddedEvent",
    "response.content_part.done": "ResponseContentPartDoneEvent",
    "response.output_text.delta": "ResponseTextDeltaEvent",
    "response.output_text.done": "ResponseTextDoneEvent",
    "response.refusal.delta": "ResponseRefusalDeltaEvent",
    "response.refusal.done": "ResponseRefusalDoneEvent",
    "response.function_call_arguments.delta": "ResponseFunctionCallArgumentsDeltaEvent",
    "response.function_call_arguments.done": "ResponseFunctionCallArgumentsDoneEvent",
    "response.custom_tool_call_input.delta": "ResponseCustomToolCallInputDeltaEvent",
    "response.custom_tool_call_input.done": "ResponseCustomToolCallInputDoneEvent",
}
