"""What a prompt can be at most, with OpenAI's own vocabularies as the referee."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from bench.garbage import ENCODINGS, KINDS, exact, garbage, of
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.chat import ChatRequest
from edgewise.price import Price
from edgewise.routing import ask
from edgewise.routing.ask import demand_of
from edgewise.routing.ask import price as worst_of
from edgewise.routing.bound import image_tokens, most_prompt_tokens, text_tokens
from edgewise.routing.tokens import Corrections, prompt_tokens
from edgewise.words import Model
from tests.routing.casting import Stage
from tests.routing.casting import request as asked_of


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
    tokens, images, _ = most_prompt_tokens(request)
    assert images == 2 and tokens < 1_000
    assert image_tokens("gpt-4o-mini-2024-07-18") == 48_169 and image_tokens("unheard-of") == 16_384
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 40_000, "format": "mp3"}}
    assert 1_000 < most_prompt_tokens(ChatRequest({"messages": [{"role": "user", "content": [sound]}]}))[0] < 1_200


HOUR = {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize(
    ("body", "long"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": HOUR}]}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "cache_control": HOUR}]}]}, True),
        ({"messages": [], "anthropic": {"cache_control": HOUR}}, True),
        ({"messages": [], "cache_control": HOUR}, True),
        ({"messages": [], "anthropic": {"cache_control": {"type": "ephemeral", "ttl": "5m"}}}, False),
        ({"messages": [], "anthropic": {"cache_control": {"type": "ephemeral"}}}, False),
    ],
)
def test_a_mark_that_keeps_a_prompt_for_an_hour_is_held_for(body: dict[str, Any], *, long: bool) -> None:
    price = Price(Decimal(3), Decimal(15), cache_write=Decimal("3.75"))
    worst = worst_of(Model("anthropic", "claude", price=price), demand_of(ChatRequest(body)), Corrections())[1]
    tokens = round(most_prompt_tokens(ChatRequest(body)).most_tokens)
    images = 4_784 * most_prompt_tokens(ChatRequest(body)).images
    assert worst == ((tokens + images) * Decimal(6 if long else "3.75") + 4096 * 15) / 10**6


@pytest.mark.parametrize(("tier", "times"), [(None, 1), ("default", 1), ("flex", 1), ("priority", 2), ("auto", 2)])
def test_a_dearer_tier_is_held_for_and_a_cheaper_one_is_not_relied_on(tier: str | None, times: int) -> None:
    tiers = {"flex": Price(Decimal(1), Decimal(1)), "priority": Price(Decimal(4), Decimal(4))}
    model = Model("openai", "gpt-x", price=Price(Decimal(2), Decimal(2), tiers=tiers))
    body = {**of("hello").body, "max_tokens": 10}
    usual = worst_of(model, demand_of(ChatRequest(body)), Corrections())[1]
    asked = worst_of(model, demand_of(ChatRequest({**body, "service_tier": tier})), Corrections())[1]
    assert usual is not None and asked is not None
    # The wish itself is counted among what may be read.
    assert times * usual <= asked <= times * usual * Decimal("1.3")


@pytest.mark.parametrize(
    ("plan", "routing", "reads"),
    [
        ({}, {}, False),
        ({"capped": True}, {}, True),
        ({}, {"max_cost_usd": 1}, True),
        ({}, {"dry_run": True}, True),
    ],
)
async def test_letters_are_counted_only_where_somebody_must_know_the_most(
    monkeypatch: pytest.MonkeyPatch, plan: dict[str, Any], routing: dict[str, Any], *, reads: bool
) -> None:
    """Normalising a long text takes longer than all the rest of a decision."""
    counted = []

    def count(request: ChatRequest) -> Any:
        counted.append(request)
        return most_prompt_tokens(request)

    monkeypatch.setattr(ask, "most_prompt_tokens", count)
    choice = await Stage().choose(asked_of(model="small/mini", routing=routing), **plan)
    assert bool(counted) is reads and choice.worst_usd is not None


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "JVBERi0"}}]}]},
        {"messages": [{"role": "user", "content": "news?"}], "web_search_options": {}},
    ],
)
def test_what_may_be_of_any_length_has_no_bound_of_its_own(body: dict[str, Any]) -> None:
    assert most_prompt_tokens(ChatRequest(body))[0] == math.inf
