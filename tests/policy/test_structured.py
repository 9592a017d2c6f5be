"""Structured output: what does not fit is named, what fits passes, and a schema that loops ends."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.chat import ChatRequest
from edgewise.policy.structured import problems, repair, unfence
from tests.fakes import saying

SCHEMA = {
    "type": "object",
    "required": ["name", "tags"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": ["integer", "null"], "minimum": 0},
        "tags": {"type": "array", "maxItems": 2, "items": {"enum": ["a", "b"]}},
        "parent": {"$ref": "#"},
    },
}


def asked(schema: Any) -> ChatRequest:
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    return ChatRequest({"messages": [{"role": "user", "content": "?"}], "response_format": form}, stream=True)


def found(schema: Any, value: Any, **rest: Any) -> list[str]:
    return problems(asked(schema), saying(value if isinstance(value, str) else json.dumps(value), **rest))


def test_what_fits_passes() -> None:
    assert found(SCHEMA, {"name": "x", "tags": ["a"], "parent": {"name": "y", "tags": [], "age": None}}) == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("not json", "The answer is not JSON."),
        ({"tags": []}, "$.name is missing."),
        ({"name": "", "tags": []}, "$.name: minLength is 1."),
        ({"name": "x", "tags": ["c"]}, '$.tags[0] must be one of ["a", "b"].'),
        ({"name": "x", "tags": [], "more": 1}, "$.more is not in the schema."),
        ({"name": "x", "tags": [], "age": True}, "$.age must be of type integer or null."),
        ({"name": "x", "tags": [], "parent": {"name": "y"}}, "$.parent.tags is missing."),
    ],
)
def test_what_does_not_fit_is_named(value: Any, problem: str) -> None:
    assert found(SCHEMA, value) == [problem]


def test_what_asking_again_would_not_mend_is_left_alone() -> None:
    assert found(SCHEMA, "{", finish="length") == []
    assert found(SCHEMA, "", refusal="no") == []
    assert problems(ChatRequest({"messages": []}), saying("x")) == []


def test_the_second_question_shows_what_was_wrong() -> None:
    request = asked(SCHEMA)
    again = repair(request, saying("{}"), ["$.name is missing."])
    assert not again.stream and again.messages[1]["content"] == "{}"
    assert "$.name is missing." in again.messages[2]["content"]
    assert again.body["response_format"] == request.body["response_format"]


def test_a_fence_is_mended_without_a_call() -> None:
    assert unfence('```json\n{"a": 1}\n```') == '{"a": 1}'
    assert unfence('{"a": "```"}') == '{"a": "```"}'


def test_schemas_that_loop_end() -> None:
    assert found({"$ref": "#"}, {}) == []
    bomb: dict[str, Any] = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 50}}, "$ref": "#/$defs/a"}
    found(bomb, {})


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)
schemas = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "integer", "maximum": 1},
            {"enum": ["a", 1]},
            {"const": None},
            {},
            {"minItems": 1},
        ]
    ),
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.fixed_dictionaries({"a": inner}), "required": st.just(["a"])}
        )
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)})
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(schema=schemas, value=values)
def test_it_agrees_with_the_reference(schema: dict[str, Any], value: Any) -> None:
    mine = problems(asked(schema), saying(json.dumps(value)))
    assert (mine == []) == jsonschema.Draft202012Validator(schema).is_valid(value)
