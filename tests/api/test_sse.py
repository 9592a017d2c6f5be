"""The grammar of a stream, whatever an upstream sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.api.sse import DONE, Grammar, padding
from edgewise.chat import Answer, Chunk, Folding, completion, unfold
from edgewise.errors import UpstreamDied


def chunk(*choices: dict[str, Any], **rest: Any) -> Chunk:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": list(choices), **rest}


def told(chunks: list[Chunk], *, include_usage: bool = False) -> list[Any]:
    """What a client reads of `chunks`."""
    grammar = Grammar(include_usage=include_usage)
    sent = b"".join([*map(grammar.events, chunks), grammar.end()])
    assert sent.endswith(DONE)
    return [json.loads(line[6:]) for line in sent.split(b"\n\n")[:-2]]


def deltas(chunks: list[Chunk]) -> list[Any]:
    return [(c["choices"][0]["delta"], c["choices"][0]["finish_reason"]) for c in told(chunks)]


def choice(delta: dict[str, Any] | None = None, reason: str | None = None, **rest: Any) -> dict[str, Any]:
    return {"index": 0, **({"delta": delta} if delta is not None else {}), "finish_reason": reason, **rest}


def test_a_role_chunk_is_made_when_the_upstream_has_none() -> None:
    assert deltas([chunk(choice({"content": "a"})), chunk(choice({}, "stop"))]) == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "a"}, None),
        ({}, "stop"),
    ]


def test_a_first_chunk_that_holds_everything_is_taken_apart() -> None:
    assert deltas([chunk(choice({"role": "assistant", "content": "a"}, "stop"))]) == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "a"}, None),
        ({}, "stop"),
    ]


def test_a_last_token_merged_with_the_reason_is_taken_apart() -> None:
    assert deltas([chunk(choice({"role": "assistant", "content": ""})), chunk(choice({"content": "b"}, "length"))]) == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "b"}, None),
        ({}, "length"),
    ]


def test_a_role_on_every_chunk_is_told_once() -> None:
    assert deltas(
        [chunk(choice({"role": "assistant", "content": "a"})), chunk(choice({"role": "assistant", "content": "b"}))]
    ) == [({"role": "assistant", "content": ""}, None), ({"content": "a"}, None), ({"content": "b"}, None)]


def test_a_chunk_without_delta_or_reason_has_them() -> None:
    (first, last) = told([chunk({"index": 0}), chunk({"index": 0, "finish_reason": "stop"})])
    assert first["choices"][0]["finish_reason"] is None
    assert first["choices"][0]["logprobs"] is None
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}


def test_tool_calls_begin_with_null_content() -> None:
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    first, second, *_ = deltas(
        [chunk(choice({"role": "assistant", "tool_calls": [call]})), chunk(choice({}, "tool_calls"))]
    )
    assert first == ({"role": "assistant", "content": None}, None)
    assert second == ({"tool_calls": [call]}, None)


def test_usage_on_every_chunk_becomes_one_last_chunk() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    chunks = [
        chunk(choice({"content": "a"}), usage=usage),
        chunk(choice({}, "stop"), usage={**usage, "total_tokens": 3}),
    ]
    *before, last = told(chunks, include_usage=True)
    assert all(c["usage"] is None for c in before)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 3)
    assert all("usage" not in c for c in told(chunks))


def test_chunks_without_choices_are_not_told() -> None:
    """Azure begins with one that holds only its filter's results; clients read `choices[0]` of every chunk."""
    chunks = [chunk(prompt_filter_results=[]), chunk(choice({"content": "a"}, "stop"))]
    assert all(c["choices"] for c in told(chunks))


def test_one_stream_has_one_identity() -> None:
    chunks = [{**chunk(choice({"content": "a"})), "id": str(n), "created": n, "model": f"m{n}"} for n in range(3)]
    assert {(c["id"], c["created"], c["model"]) for c in told(chunks)} == {("0", 0, "m0")}


def test_choices_begin_each_with_a_role() -> None:
    chunks = [chunk({"index": n, "delta": {"content": "a"}, "finish_reason": None}) for n in (0, 1, 0, 1)]
    roles = [c["choices"][0]["index"] for c in told(chunks) if "role" in c["choices"][0]["delta"]]
    assert roles == [0, 1]


def test_fields_that_nobody_knows_stay() -> None:
    (_, second, *_) = told([chunk(choice({"content": "a", "reasoning_content": "b"}, x=1), service_tier="flex")])
    assert second["service_tier"] == "flex"
    assert second["choices"][0]["x"] == 1
    assert second["choices"][0]["delta"]["reasoning_content"] == "b"


@pytest.mark.parametrize("text", ["\n\n", "\r\n", "data: [DONE]\n\n", "\u2028", "\x85", "\x00", "𝄞", '"'])
def test_no_text_breaks_an_event(text: str) -> None:
    grammar = Grammar(include_usage=False)
    sent = grammar.events(chunk(choice({"role": "assistant"}))) + grammar.events(chunk(choice({"content": text})))
    assert sent.count(b"\n") == 4 and b"\r" not in sent


def test_a_broken_stream_ends_with_the_error_alone() -> None:
    sent = Grammar.failed(UpstreamDied("cut"))
    assert json.loads(sent[6:])["error"]["code"] == "upstream_died"
    assert b"[DONE]" not in sent


def test_padding_has_many_lengths() -> None:
    numbers = iter([n / 100 for n in range(100)])
    make = padding(lambda: next(numbers))
    assert {len(make()) for _ in range(50)} >= {1, 5, 16}


answers = st.builds(
    lambda text, calls, reason: Answer(
        completion(
            [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": text or None,
                        "refusal": None,
                        **({"tool_calls": calls} if calls else {}),
                    },
                    "logprobs": None,
                    "finish_reason": reason,
                }
            ],
            id="c",
            created=1,
            model="m",
            usage=None,
        )
    ),
    st.text(max_size=60),
    st.lists(
        st.builds(
            lambda name, arguments: {
                "id": "call",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            },
            st.text(max_size=5),
            st.text(max_size=20),
        ),
        max_size=3,
    ),
    st.sampled_from(["stop", "length", "tool_calls"]),
)


@given(answer=answers, piece_chars=st.integers(1, 30))
def test_what_is_told_folds_back_to_the_answer_however_it_was_cut(answer: Answer, piece_chars: int) -> None:
    def folded(chunks: list[Chunk]) -> Any:
        folding = Folding()
        for piece in chunks:
            folding.add(piece)
        return folding.answer().completion["choices"]

    pieces = list(unfold(answer, id="c", created=1, piece_chars=piece_chars))
    assert folded(told(pieces)) == folded(told(list(unfold(answer, id="d", created=2))))
    if answer.choices[0]["message"]["content"] or answer.tool_calls:
        assert folded(told(pieces))[0]["message"].get("tool_calls", []) == answer.tool_calls
