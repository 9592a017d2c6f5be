"""What a prompt can be at most, with OpenAI's own vocabularies as the referee."""

from __future__ import annotations

import math
from typing import Any

import pytest
from bench.garbage import ENCODINGS, KINDS, exact, garbage, of
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.chat import ChatRequest
from edgewise.routing.bound import image_tokens, most_prompt_tokens, text_tokens
from edgewise.routing.tokens import prompt_tokens


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_more_tokens_than_its_bound(kind: str, encoding: str) -> None:
    for seed in range(12):
        request = of(garbage(kind, 400, seed), "and one more")
        assert exact(request, encoding) <= most_prompt_tokens(request)[0]


@settings(max_examples=150)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.sampled_from(ENCODINGS))
def test_the_bound_holds_for_any_text(texts: list[str], encoding: str) -> None:
    assert exact(of(*texts), encoding) <= most_prompt_tokens(of(*texts))[0]


def test_a_tenth_above_the_estimate_is_no_bound() -> None:
    """Why there are two: for such text the estimate is too low."""
    request = of(garbage("rare chinese", 400, 0))
    assert exact(request, "cl100k_base") > 1.1 * prompt_tokens(request) + 16


def test_what_normalises_to_more_is_bounded_by_what_it_becomes() -> None:
    assert text_tokens("ﷺ") == 33 and len("ﷺ".encode()) == 3


def test_every_field_that_may_be_put_into_a_prompt_counts() -> None:
    base = most_prompt_tokens(of("hello"))[0]
    for name, value in {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x" * 500: {}}}}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"description": "y" * 500}}},
        "functions": [{"name": "z" * 500}],
        "prediction": {"type": "content", "content": "w" * 500},
    }.items():
        assert most_prompt_tokens(ChatRequest({**of("hello").body, name: value}))[0] >= base + 500


def test_what_is_not_text_has_the_most_of_its_kind() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000}}
    request = ChatRequest({"messages": [{"role": "user", "content": [picture, picture]}]})
    tokens, images = most_prompt_tokens(request)
    assert images == 2 and tokens < 1_000
    assert image_tokens("gpt-4o-mini-2024-07-18") == 48_169 and image_tokens("unheard-of") == 16_384
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 40_000, "format": "mp3"}}
    assert 1_000 < most_prompt_tokens(ChatRequest({"messages": [{"role": "user", "content": [sound]}]}))[0] < 1_200


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "JVBERi0"}}]}]},
        {"messages": [{"role": "user", "content": "news?"}], "web_search_options": {}},
    ],
)
def test_what_may_be_of_any_length_has_no_bound_of_its_own(body: dict[str, Any]) -> None:
    assert most_prompt_tokens(ChatRequest(body))[0] == math.inf
