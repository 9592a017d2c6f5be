"""What the table of fields takes and refuses, and that this is what OpenAI's description takes and refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.api import fields
from edgewise.errors import InvalidRequest
from tests.api import spec

USER = {"role": "user", "content": "x"}
FULL: dict[str, Any] = {
    "model": "gpt-x",
    "messages": [
        {"role": "developer", "content": "be brief"},
        {"role": "system", "content": [{"type": "text", "text": "be kind"}], "name": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"file_id": "file-1", "filename": "a.pdf", "file_data": "AA=="}},
            ],
            "name": "u",
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "audio": {"id": "a"},
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}},
            ],
        },
        {"role": "tool", "content": "ok", "tool_call_id": "c1"},
        {"role": "tool", "content": [{"type": "text", "text": "ok"}], "tool_call_id": "c2"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "function_call": None},
        {"role": "function", "content": None, "name": "f"},
    ],
    "stream": False,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 0.5,
    "top_p": 1,
    "n": 2,
    "stop": ["a", "b"],
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "presence_penalty": -2,
    "frequency_penalty": 1.5,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 20,
    "seed": 42,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True, "description": "d"},
    },
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {}, "strict": None, "description": "d"}},
        {"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}},
        {
            "type": "custom",
            "custom": {
                "name": "h",
                "format": {"type": "grammar", "grammar": {"definition": "a", "syntax": "lark"}},
            },
        },
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "functions": [{"name": "f", "parameters": {}, "description": "d"}],
    "function_call": {"name": "f"},
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "service_tier": "flex",
    "store": True,
    "metadata": {"a": "b"},
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "mp3"},
    "prediction": {"type": "content", "content": "x"},
    "reasoning_effort": "high",
    "verbosity": "low",
    "web_search_options": {
        "search_context_size": "low",
        "user_location": {"type": "approximate", "approximate": {"city": "Rome"}},
    },
}


def refused(body: dict[str, Any]) -> InvalidRequest | None:
    try:
        fields.check(body, fields.CHAT, ("model", "messages"))
    except InvalidRequest as error:
        return error
    return None


def test_every_field_of_the_description_is_taken() -> None:
    assert refused(FULL) is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"model": ""}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}]},
        "messages[0].content[0].image_url",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {}}]}]},
        "messages[0].tool_calls[0].function.name",
    ),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"n": 0}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": True}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": [1]}, "stop[0]"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"logit_bias": {"1": 0.5}}, "logit_bias.1"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"seed": 2**63}, "seed"),
    ({"seed": 1e300}, "seed"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": "json"}, "response_format"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a"),
    ({"safety_identifier": "x" * 65}, "safety_identifier"),
    ({"functions": []}, "functions"),
    ({"modalities": "text"}, "modalities"),
    ({"audio": {"voice": "alloy"}}, "audio.format"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"reasoning_effort": 3}, "reasoning_effort"),
]


@pytest.mark.parametrize(("change", "param"), WRONG)
def test_a_wrong_value_is_named_by_its_path(change: dict[str, Any], param: str) -> None:
    error = refused({"model": "m", "messages": [USER], **change})
    assert error is not None and error.status == 400
    assert error.param == param
    assert param in error.message


@pytest.mark.parametrize(
    "extra",
    [
        {"brand_new": {"a": [1, None]}},
        {"reasoning_effort": "gigantic"},
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]},
        {"tools": [{"type": "web_search"}]},
        {"response_format": {"type": "grammar", "grammar": "x"}},
        {"messages": [{"role": "user", "content": "x", "cache_control": {"type": "ephemeral"}}]},
    ],
)
def test_what_the_description_does_not_name_passes(extra: dict[str, Any]) -> None:
    assert refused({"model": "m", "messages": [USER], **extra}) is None


@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key", "headers", "extra_headers", "callbacks"])
def test_a_client_cannot_say_where_its_request_goes(name: str) -> None:
    """A client's own base URL would receive the provider's key (CVE-2024-6587)."""
    error = refused({"model": "m", "messages": [USER], name: "https://evil.example"})
    assert error is not None and error.param == name


# Where the table differs from the description on purpose; see the docstring of `edgewise.api.fields`.
OPEN = ("enum", "const")
JUNK: list[Any] = [None, True, 0, 1, -3, 2.0, 0.25, 3.7, 1e12, "", "x", "auto", [], [1], ["x"], [{}], {}, {"a": 1}]


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each value inside `value` is."""
    found = [at] if at else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found += paths(item, (*at, key))
    return found


PATHS = paths(FULL)
LENIENT = {"content", "tool_calls"}


@pytest.mark.data
@settings(max_examples=600, deadline=None)
@given(where=st.sampled_from(PATHS), junk=st.sampled_from([*JUNK, "DELETE"]))
def test_the_table_agrees_with_the_description(where: tuple[Any, ...], junk: Any) -> None:
    """Any value at any place: refused here exactly if OpenAI's description refuses it, but for what is named."""
    body = copy.deepcopy(FULL)
    box: Any = body
    for step in where[:-1]:
        box = box[step]
    if junk == "DELETE":
        del box[where[-1]]
    else:
        box[where[-1]] = junk
    flaws = list(spec.validator("CreateChatCompletionRequest").iter_errors(body))
    ours = refused(body)
    if flaws and ours is None:
        assert all(_lenient(where, junk, body) for _ in flaws), (where, junk, flaws[0].message)
    if ours is not None and not flaws:
        assert _strict(where, junk), (where, junk, ours.message)


def _lenient(where: tuple[Any, ...], junk: Any, body: dict[str, Any]) -> bool:
    """Taken here though the description refuses it."""
    grows = {"reasoning_effort", "verbosity", "service_tier", "prompt_cache_retention", "modalities", "voice",
             "format", "detail", "syntax", "search_context_size", "type"}  # fmt: skip
    if junk in ("", "x", "auto", "DELETE") and any(step in grows for step in where):
        return True
    if where[-1] == "modalities" and junk == ["x"]:
        return True
    if where[-1] == "voice" and isinstance(junk, str | dict):
        return True
    # null stands for "not set" in every optional field at the top, and for no calls.
    return junk is None and (len(where) == 1 or where[-1] == "tool_calls")


def _strict(where: tuple[Any, ...], junk: Any) -> bool:
    """Refused here though the description takes it."""
    return where[-1] in ("max_tokens", "max_completion_tokens", "model")
