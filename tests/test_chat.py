"""A stream is the same answer in pieces."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgewise.chat import Answer, Folding, Usage, completion, text_of, unfold
from edgewise.price import Price

texts = st.text(max_size=80)
calls = st.lists(
    st.builds(
        lambda number, name, arguments: {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        st.integers(0, 10**6),
        st.text("abc_", min_size=1, max_size=8),
        texts,
    ),
    min_size=1,
    max_size=3,
)
messages = st.one_of(
    st.builds(lambda text: {"role": "assistant", "content": text, "refusal": None}, st.text(min_size=1, max_size=80)),
    st.builds(lambda text: {"role": "assistant", "content": None, "refusal": text}, st.text(min_size=1, max_size=80)),
    st.builds(
        lambda text, thought: {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "reasoning_content": thought,
            "annotations": [{"type": "url_citation", "n": 1}],
        },
        st.text(min_size=1, max_size=80),
        st.text(min_size=1, max_size=80),
    ),
    st.builds(lambda tools: {"role": "assistant", "content": None, "refusal": None, "tool_calls": tools}, calls),
)


def choice_of(index: int, message: dict[str, Any]) -> dict[str, Any]:
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    tokens = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]
    logprobs = {"content": tokens, "refusal": None} if message.get("content") and index % 2 == 0 else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}


answers = st.builds(
    lambda found, prompt, done: Answer(
        {
            **completion(
                [choice_of(index, message) for index, message in enumerate(found)],
                id="x",
                created=1,
                model="m",
                usage=Usage(prompt, done, cached_tokens=prompt // 2),
            ),
            "service_tier": "default",
            "system_fingerprint": "fp",
            "a_field_of_tomorrow": {"k": [1]},
        }
    ),
    st.lists(messages, min_size=1, max_size=3),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)


@given(answers, st.integers(1, 100))
def test_an_answer_taken_apart_and_put_together_is_the_same(answer: Answer, piece_chars: int) -> None:
    folding = Folding()
    for piece in unfold(answer, id="x", created=1, piece_chars=piece_chars):
        folding.add(piece)
    assert folding.finished
    assert folding.answer().completion == answer.completion


@given(answers)
def test_a_replayed_stream_has_the_grammar_of_a_live_one(answer: Answer) -> None:
    """The role comes first, each choice ends with its reason in a chunk of its own, the usage comes last."""
    pieces = list(unfold(answer, id="x", created=1))
    assert pieces[-1]["choices"] == []
    assert pieces[-1]["usage"] == answer.completion["usage"]
    for choice in answer.choices:
        mine = [p["choices"][0] for p in pieces if p["choices"] and p["choices"][0]["index"] == choice["index"]]
        assert mine[0]["delta"]["role"] == "assistant"
        assert [p["finish_reason"] for p in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1]["delta"] == {}
        assert mine[-1]["finish_reason"] == choice["finish_reason"]


def test_a_stream_that_stops_early_is_not_finished() -> None:
    folding = Folding()
    folding.add({"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Par"}}]})
    assert not folding.finished
    assert folding.answer().text == "Par"


def test_text_of_parts_is_their_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]
    assert text_of(parts) == "a\nb"
    assert text_of(None) == ""


def test_a_price_charges_cached_tokens_as_cached_and_a_long_prompt_by_its_own_step() -> None:
    long = Price(Decimal(6), Decimal("22.5"))
    price = Price(Decimal(3), Decimal(15), cached_input=Decimal("0.3"), above=(200_000, long))
    assert price.cost(Usage(1000, 100, cached_tokens=400)) == Decimal("0.00342")
    assert price.cost(Usage(250_000, 0)) == Decimal("1.5")
