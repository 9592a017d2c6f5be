"""Compression: nothing by default, and only what was asked for is cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.chat import ChatRequest
from edgewise.policy.compress import compress
from edgewise.policy.terms import Compress
from tests.policy.rig import Rig


def chat(*messages: tuple[str, str], **names: str) -> ChatRequest:
    return ChatRequest({"model": "m", "messages": [{"role": role, "content": text} for role, text in messages]})


LONG = "The quick brown fox jumps over the lazy dog, and then it turns round and does the same again. " * 2


def test_whitespace_goes_outside_code_and_stays_inside() -> None:
    request = chat(("user", "a   b\n\n\n\nc  \n```\nx  =  1\n\n\n\ny\n```\n  d  e"))
    shorter, saved = compress(request, Compress(whitespace=True))
    assert shorter.messages[0]["content"] == "a b\n\nc\n```\nx  =  1\n\n\n\ny\n```\n  d e"
    assert saved > 0


@pytest.mark.parametrize(
    "text",
    [
        '{"text":  "two  spaces",\n\n\n\n "n": 1}',
        "~~~\nmake:  all\n\n\n\n~~~",
        "    indented  =  code  # like   this",
        "name\t\tage",
        "| a   | b |",
        "Name    Age   City",
        'replace "a  b" by `c  d`',
        "```python\nx  =  1\n",
    ],
)
def test_what_spaces_mean_something_in_keeps_them(text: str) -> None:
    request = chat(("user", text))
    assert compress(request, Compress(whitespace=True))[0] is request


def test_only_what_users_said_is_shortened() -> None:
    wide = f"a   b\n\n\n\n{LONG}"
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":   1}'}}
    kept: list[dict[str, Any]] = [
        {"role": "system", "content": wide},
        {"role": "developer", "content": wide},
        {"role": "assistant", "content": wide, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": wide},
    ]
    request = ChatRequest({"messages": [*kept, {"role": "user", "content": f"{LONG}\n\nwhy   so?"}]})
    shorter, _ = compress(request, Compress(whitespace=True, duplicates=True))
    assert shorter.messages == [*kept, {"role": "user", "content": "why so?"}]


@given(
    st.lists(st.sampled_from([LONG, "x  =  1", "", "def f():", '{"a":  1}']), max_size=8).map("\n\n".join),
    st.sampled_from(["```", "~~~"]),
)
def test_code_in_fences_arrives_letter_by_letter(code: str, fence: str) -> None:
    block = f"{fence}\n{code}\n{fence}"
    request = chat(("user", f"{LONG}\n\nold"), ("assistant", "yes"), ("user", f"look   here\n\n{block}\n\nwhy?"))
    shorter, _ = compress(request, Compress(whitespace=True, duplicates=True))
    assert block in shorter.messages[-1]["content"]


def test_what_is_dropped_for_having_been_said_is_still_there() -> None:
    """Old turns go first: a paragraph whose only other copy goes with them stays."""
    request = chat(("user", LONG * 4), ("assistant", "ok"), ("user", f"{LONG * 4}\n\nand?"))
    shorter, _ = compress(request, Compress(duplicates=True, history_tokens=64))
    assert [m["content"] for m in shorter.messages] == [f"{LONG * 4}\n\nand?"]


def test_a_paragraph_that_was_there_goes() -> None:
    request = chat(("user", f"{LONG}\n\nfirst"), ("assistant", LONG), ("user", f"{LONG}\n\nsecond"))
    shorter, saved = compress(request, Compress(duplicates=True))
    assert [m["content"] for m in shorter.messages] == [f"{LONG}\n\nfirst", LONG, "second"]
    assert saved >= 40


def test_old_turns_go_whole_and_the_last_stays() -> None:
    tool: list[dict[str, Any]] = [
        {"role": "user", "content": "old " * 200},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},
        {"role": "tool", "tool_call_id": "c", "content": "result " * 50},
        {"role": "assistant", "content": "so"},
    ]
    request = ChatRequest(
        {"messages": [{"role": "system", "content": "be kind"}, *tool, {"role": "user", "content": "new " * 300}]}
    )
    shorter, _ = compress(request, Compress(history_tokens=64))
    assert [m["role"] for m in shorter.messages] == ["system", "user"]
    assert shorter.messages[-1]["content"].startswith("new")
    same, saved = compress(request, Compress(history_tokens=100_000))
    assert same is request and saved == 0


def test_who_asks_the_same_again_still_asks() -> None:
    """A provider refuses an empty message, and a question that is repeated is a question."""
    request = chat(("user", LONG), ("assistant", "no"), ("user", LONG))
    assert compress(request, Compress(duplicates=True))[0] is request


def test_what_the_operator_said_in_the_middle_outlives_the_turns_around_it() -> None:
    request = chat(("user", LONG * 4), ("assistant", "ok"), ("system", "In French now."), ("user", "and?"))
    shorter, _ = compress(request, Compress(history_tokens=64))
    assert [m["content"] for m in shorter.messages] == ["In French now.", "and?"]


@pytest.mark.parametrize("text", ["[" * 200_000, "    " + " " * 200_000 + "x", "\t" + " \t" * 100_000 + "x"])
def test_no_text_is_refused_nor_read_again_and_again(text: str) -> None:
    """Each character of a long run once: were it from every place in it, this would take minutes."""
    request = chat(("user", text))
    assert compress(request, Compress(whitespace=True))[0] is request


def test_the_examples_most_like_the_question_stay_in_order() -> None:
    def example(question: str, answer: str) -> list[dict[str, str]]:
        return [
            {"role": "system", "name": "example_user", "content": question},
            {"role": "system", "name": "example_assistant", "content": answer},
        ]

    messages = [
        *example("How do I bake bread?", "flour"),
        *example("What is the capital of France?", "Paris"),
        *example("Which city is the capital of Spain?", "Madrid"),
        {"role": "user", "content": "What is the capital of Italy?"},
    ]
    shorter, _ = compress(ChatRequest({"messages": messages}), Compress(examples=2))
    assert [m["content"] for m in shorter.messages][1::2] == ["Paris", "Madrid"]


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "tool"]), st.text(max_size=60)), max_size=12))
def test_the_last_question_always_arrives(messages: list[tuple[str, str]]) -> None:
    request = chat(*messages, ("user", "the question"))
    shorter, saved = compress(request, Compress(duplicates=True, history_tokens=64, examples=1))
    assert shorter.messages[-1]["content"] == "the question" and saved >= 0


async def test_it_is_off_by_default_and_tells_what_it_saved(rig: Rig) -> None:
    request = chat(("user", "a" + " " * 400 + "b"))
    assert (await rig.plan(await rig.key(), request)).request is request
    plan = await rig.plan(await rig.key(compress={"whitespace": True}), request)
    assert int(plan.headers["x-edgewise-compressed-tokens"]) >= 90
