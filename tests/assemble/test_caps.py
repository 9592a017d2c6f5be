"""A budget's cap holds whatever is asked: what routing says a request may cost, what policy holds, what it then costs.

The referee is OpenAI's own vocabulary: each answer costs the exact tokens of its prompt and as many as it may have.
"""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from bench.garbage import ENCODINGS, KINDS, exact, garbage
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.capped import Capped
from edgewise.chat import ChatRequest, Usage
from edgewise.clock import FakeClock
from edgewise.errors import QuotaExceeded
from edgewise.policy.budgets import Ledger, lines_of, picodollars
from edgewise.policy.terms import Terms
from edgewise.policy.tills import MemoryTills
from edgewise.price import Price
from edgewise.routing.ask import demand_of, price
from edgewise.routing.tokens import Corrections
from edgewise.words import Attempt, Choice, Model, Principal, Step, longest_answer
from tests.fakes import FakeCaller

MODEL = Model(
    "openai", "gpt-x", price=Price(Decimal("2.5"), Decimal(10), cache_write=Decimal("3.125")), context_tokens=128_000
)


@cache
def asked(kind: str, size: int, seed: int, encoding: str) -> tuple[ChatRequest, int]:
    """A request and the exact tokens of its prompt."""
    text = garbage(kind, size, seed)
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "max_completion_tokens": 1 + seed * 7}
    return ChatRequest(body), exact(ChatRequest(body), encoding)


requests = st.builds(
    asked, st.sampled_from(KINDS), st.sampled_from([1, 40, 300]), st.integers(0, 5), st.sampled_from(ENCODINGS)
)


@settings(max_examples=60)
@given(st.lists(requests, min_size=1, max_size=40), st.integers(1, 50), st.randoms(use_true_random=False))
def test_no_text_spends_above_the_cap(many: list[tuple[ChatRequest, int]], cents: int, rng: random.Random) -> None:
    asyncio.run(_spend(many, Decimal(cents) / 1000, rng))


async def _spend(many: list[tuple[ChatRequest, int]], cap: Decimal, rng: random.Random) -> None:
    clock = FakeClock()
    terms = Terms.model_validate({"budgets": [{"per": "forever", "usd": str(cap)}]})
    lines = lines_of(Principal("acme", "k_1", settings={"terms": terms}), clock.now())
    ledger = Ledger(MemoryTills(), clock)
    spent, held = Decimal(0), []
    for request, tokens in many:
        worst = price(MODEL, demand_of(request), Corrections())[1]
        usage = Usage(tokens, request.output_limit or 0, cache_write_tokens=tokens)
        assert worst is not None and MODEL.price is not None and MODEL.price.cost(usage) <= worst
        try:
            hold = await ledger.reserve(lines, Choice((Step((MODEL,)),), "fixed", "", worst_usd=worst))
        except QuotaExceeded:
            used = (await ledger.tills.used([lines[0].till], clock.now()))[0]
            assert used + picodollars(worst) > lines[0].till.cap, "refused, though there was room for it"
        else:
            assert hold is not None
            held.append((hold, MODEL.price.cost(usage)))
        while held and rng.random() < 0.5:
            done, cost = held.pop(rng.randrange(len(held)))
            await ledger.settle(done, [Attempt(MODEL, cost_usd=cost)])
            spent += cost
    for done, cost in held:
        await ledger.settle(done, [Attempt(MODEL, cost_usd=cost)])
        spent += cost
    assert spent <= cap
    assert (await ledger.tills.used([lines[0].till], clock.now()))[0] == picodollars(spent)


@pytest.mark.parametrize(
    ("model", "bound"),
    [
        (Model("o", "m", output_tokens=9_000), 9_000),
        (Model("o", "m"), 4_096),
        (Model("o", "m", capabilities=frozenset({"reasoning"})), 16_384),
        (Model("o", "m", context_tokens=2_048), 1_024),
    ],
)
async def test_where_nobody_bounds_an_answer_the_gateway_does(model: Model, bound: int) -> None:
    request = ChatRequest({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
    caller = FakeCaller(FakeClock())
    await Capped(caller).complete(model, request, None, [])  # type: ignore[arg-type]
    assert caller.calls[-1].body["max_completion_tokens"] == bound == longest_answer(model)
    limited = ChatRequest({**request.body, "max_tokens": 7})
    await Capped(caller).complete(model, limited, None, [])  # type: ignore[arg-type]
    assert "max_completion_tokens" not in caller.calls[-1].body


def test_a_prompt_that_nothing_bounds_has_no_worst_case_but_the_models_window() -> None:
    file: dict[str, Any] = {"type": "file", "file": {"file_data": "JVBERi0"}}
    request = ChatRequest({"messages": [{"role": "user", "content": [file]}], "max_tokens": 10})
    known = price(MODEL, demand_of(request), Corrections())[1]
    assert known == Decimal("3.125") * 128_000 / 10**6 + Decimal(10) * 10 / 10**6
    window = Model("openai", "gpt-y", price=MODEL.price)
    assert price(window, demand_of(request), Corrections())[1] is None
