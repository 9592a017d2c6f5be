import json
from typing import Any

import pytest

from edgewise.routing import evidence
from edgewise.routing.evidence import agreement, comparable, conclusion, majority, matches, own
from tests.routing.casting import answer, request

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }
]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "x",
        "schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    },
}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def source(asked: Any, given: Any) -> str:
    return own(asked, given, base=0.8, usual_log_length=None).source


def test_each_defect_is_named_and_lowers_confidence() -> None:
    asked = request("Tell me a story.")
    for given, name in (
        (answer("Once upon", finish="length"), "truncated"),
        (answer("I'm sorry, but I can't help with that."), "refusal"),
        (answer("很抱歉，我无法回答。"), "refusal"),
        (answer(""), "empty"),
        (answer("x", finish="content_filter"), "content-filter"),
        (answer("I'm not sure, it is unclear."), "unsure"),
    ):
        found = own(asked, given, base=0.8, usual_log_length=None)
        assert (found.source, found.value < 0.5) == (name, True)
    assert own(asked, answer("Once upon a time."), base=0.8, usual_log_length=None).value == 0.8


def test_a_schema_that_does_not_hold_settles_it() -> None:
    asked = request("Count.", response_format=SCHEMA)
    assert source(asked, answer('{"n": "three"}')) == "schema"
    assert own(asked, answer('{"n": "three"}'), base=0.8, usual_log_length=None).value == 0.0
    assert own(asked, answer('```json\n{"n": 3}\n```'), base=0.8, usual_log_length=None).value > 0.8


@pytest.mark.parametrize(
    ("given", "good"),
    [
        (call("weather", city="Paris"), True),
        (call("weather", days=3), False),
        (call("weather", city="Paris", days="three"), False),
        (call("storm", city="Paris"), False),
    ],
)
def test_a_tool_call_must_name_a_tool_and_meet_its_parameters(given: dict[str, Any], good: bool) -> None:
    asked = request("Weather?", tools=TOOLS)
    found = own(asked, answer("", finish="tool_calls", tool_calls=[given]), base=0.8, usual_log_length=None)
    assert (found.value > 0.5) == good


def test_length_and_log_probabilities_speak_when_known() -> None:
    asked = request("Tell me.")
    given = answer("Well.")
    assert own(asked, given, base=0.8, usual_log_length=(6.0, 0.3)).source == "length"
    sure = answer("Well.")
    sure.choices[0]["logprobs"] = {"content": [{"token": "W", "logprob": -2.0}]}
    assert own(asked, sure, base=0.8, usual_log_length=None).value < 0.6


def test_what_can_be_compared_is_told_from_the_request() -> None:
    assert comparable(request("Weather?", tools=TOOLS)) == "tools"
    assert comparable(request("x", response_format={"type": "json_object"})) == "json"
    assert comparable(request("How many are 3 apples and 4 more?")) == "number"
    assert comparable(request("一共有多少块砖？每人12块，7个人。")) == "number"
    assert comparable(request("Which of the following is a fruit?\nA. stone\nB. apple")) == "label"
    assert comparable(request("Write a poem.")) is None
    assert comparable(request("How many are 3 and 4?", n=2)) is None
    assert comparable(request("Pick.\n \n\n  (A) stone\n  (B) apple")) == "label"


@pytest.mark.parametrize("blank", ["\n", " \n", " ", "\t\n "])
def test_a_long_run_of_blanks_is_read_once(blank: str) -> None:
    """Were it read from every place in it, this would take minutes, in which a process does nothing else."""
    assert comparable(request("Write." + blank * 200_000 + "!")) is None


@pytest.mark.parametrize(
    ("one", "two", "kind", "agree"),
    [
        ("So there are 1,200 in all.", "The answer is: $1200.00", "number", True),
        ("It is 7", "It is 8", "number", False),
        ("#### 18", "3 + 4 is 7, but the answer is 18.", "number", True),
        ("B. apple", "(B)", "label", True),
        ("Positive", "positive.", "label", True),
        ('{"a": 1.0, "b": " X "}', '{"b":"x","a":1}', "json", True),
        ('{"a": 1}', '{"a": 2}', "json", False),
    ],
)
def test_answers_agree_by_their_conclusions(one: str, two: str, kind: Any, agree: bool) -> None:
    found = agreement(answer(one), answer(two), kind)
    assert (found.source == "agreement") == agree
    assert found.value == (evidence.AGREED if agree else evidence.DISAGREED)


def test_tool_calls_agree_whatever_their_order_and_spacing() -> None:
    one = answer("", tool_calls=[call("weather", city="Paris", days=2), call("time", zone="CET")])
    two = answer("", tool_calls=[call("time", zone="cet"), call("weather", days=2.0, city="paris ")])
    assert conclusion(one, "tools") == conclusion(two, "tools")


def test_answers_without_a_conclusion_never_agree() -> None:
    assert agreement(answer("no digits"), answer("none here"), "number").source == "disagreement"


def test_a_third_opinion_sides_with_one_of_two() -> None:
    earlier = [answer("It is 7"), answer("It is 8")]
    assert majority(answer("8"), earlier, "number").source == "majority"
    assert majority(answer("9"), earlier, "number").source == "disagreement"


def test_what_the_schema_check_does_not_know_it_lets_pass() -> None:
    assert matches({"a": 1}, {"$ref": "#/x"})
    assert matches([1, 2], {"type": "array", "items": {"type": "integer"}})
    assert not matches([1, "2"], {"type": "array", "items": {"type": "integer"}})
    assert not matches(True, {"type": "integer"})
    assert matches(None, {"type": ["string", "null"]})
    assert not matches({"b": 1}, {"type": "object", "properties": {}, "additionalProperties": False})
