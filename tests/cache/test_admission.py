"""Only answers worth keeping are kept; each refusal has its word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgewise.cache.admission import Admission, flaw, refusal
from edgewise.chat import Answer, CacheAsk
from edgewise.words import Late
from tests.cache.parts import answer_of, plan_of, query_of

KEEP = Admission()


def call(arguments: str | None, name: str = "weather") -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (answer_of("Paris."), ""),
        (answer_of("Par", "length"), "truncated"),
        (answer_of("Par", "content_filter"), "filtered"),
        (answer_of("Par", None), "unfinished"),
        (answer_of("Par", "eos_but_unheard_of"), "unfinished"),
        (answer_of(""), "empty"),
        (answer_of(None), "empty"),
        (answer_of(None, refusal="I can't help with that."), "refused"),
        (answer_of("I'm sorry, but I can't assist with that."), "refused"),
        (answer_of("I’m sorry, I cannot help with that request."), "refused"),
        (answer_of("抱歉,我无法回答这个问题。"), "refused"),
        (answer_of("I'm sorry for your loss. Here is what to do next: call the registrar."), ""),
        (answer_of("Sorry is a word that I can provide many synonyms for."), ""),
        (answer_of(None, "tool_calls", tool_calls=[call('{"city": "Paris"}')]), ""),
        (answer_of(None, "tool_calls", tool_calls=[call("")]), ""),
        (answer_of(None, "tool_calls", tool_calls=[call('{"city": "Par')]), "broken-tool-call"),
        (answer_of(None, "tool_calls", tool_calls=[call("[1]")]), "broken-tool-call"),
        (answer_of(None, "tool_calls", tool_calls=[call("{}"), call("{}", "")]), "broken-tool-call"),
        (answer_of("text", "tool_calls"), "broken-tool-call"),
        (answer_of(None, "stop", tool_calls=[call("{}")]), ""),
        (answer_of(None, "tool_calls", tool_calls=[{"type": "custom", "custom": {"name": "sh", "input": "ls"}}]), ""),
        (answer_of(None, "tool_calls", tool_calls=[{"type": "custom", "custom": {}}]), "broken-tool-call"),
        (answer_of(None, "function_call", function_call={"name": "f", "arguments": "{"}), "broken-tool-call"),
        (Answer({"error": {"message": "overloaded"}}), "error"),
        (Answer({"choices": []}), "empty"),
    ],
)
def test_the_word_for_each_flaw(answer: Answer, word: str) -> None:
    assert flaw(answer, {}, KEEP) == word


def test_one_bad_choice_spoils_all() -> None:
    """With `n` above 1 every choice must be whole."""
    good, bad = answer_of("a").choices[0], answer_of("b", "length").choices[0]
    assert flaw(Answer({"choices": [good, {**bad, "index": 1}]}), {}, KEEP) == "truncated"


def test_promised_json_must_parse() -> None:
    """JSON mode and schemas promise JSON; what does not parse is not kept."""
    for kind in ("json_object", "json_schema"):
        body = {"response_format": {"type": kind}}
        assert flaw(answer_of('{"a": 1}'), body, KEEP) == ""
        assert flaw(answer_of('{"a": 1'), body, KEEP) == "broken-json"
    assert flaw(answer_of('{"a": 1'), {"response_format": {"type": "text"}}, KEEP) == ""


def test_the_operator_may_refuse_tool_calls_and_large_answers() -> None:
    calls = answer_of(None, "tool_calls", tool_calls=[call("{}")])
    assert flaw(calls, {}, Admission(tool_calls="skip")) == "tool-calls"
    assert flaw(answer_of("x" * 1_000), {}, Admission(most_bytes=900)) == "too-big"


def test_what_the_request_says_comes_first() -> None:
    """Off, no-store, skip and flags each have their own word."""
    good = answer_of()
    assert refusal(good, query_of(), plan_of(), KEEP) == ""
    assert refusal(good, query_of(), plan_of(mode="off"), KEEP) == "off"
    assert refusal(good, query_of(), plan_of(ask=CacheAsk(no_store=True)), KEEP) == "no-store"
    assert refusal(good, query_of(nearness="skip"), plan_of(), KEEP) == "skip"
    assert refusal(good, query_of(), plan_of(flags=("pii:email",)), KEEP) == "flagged"
    assert refusal(good, query_of(), replace(plan_of(), late=Late(flags=("guardrail:down",))), KEEP) == "flagged"
