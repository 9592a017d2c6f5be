"""Questions asked together, in the assembled house: one budget that holds, one call for many items."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise import Assistant
from edgewise.chat import Answer
from edgewise.clock import SystemClock
from edgewise.errors import QuotaExceeded
from edgewise.jobs.tasks import Batcher
from edgewise.jobs.tasks.gather import Asked, Failed, Purse, Unasked
from edgewise.jobs.tasks.pursed import Pursed
from edgewise.price import Price
from edgewise.settings import Settings
from edgewise.words import Attempt, Choice, Model, Plan, Step
from tests import fakes
from tests.jobs.test_killed import listening, served_by
from tests.upstream import Manner, Upstream

SETTINGS = Settings(root_key="ew_test", request_log=False)
EACH_USD = Decimal(4 * 1 + 4 * 1000) / 1_000_000
"""What one of these questions costs: four words in, four out."""
WORST_USD = Decimal(20 * 1000) / 1_000_000
"""Less than what is held for one whose answer may take twenty tokens."""


def questions(number: int) -> list[str]:
    return [f"question number {n} please" for n in range(number)]


@pytest.mark.parametrize("rooms", [0, 1, 3, 50])
async def test_questions_together_never_cost_more_than_their_budget(upstream: Upstream, rooms: int) -> None:
    """Room for so many worst cases at once; what they did not cost lets others in."""
    budget = WORST_USD * rooms * Decimal("1.1")
    async with Assistant(served_by(upstream, SETTINGS), model="up/m") as assistant:
        outcome = await assistant.gather(questions(12), budget_usd=budget, max_tokens=20, max_concurrent=8)
    asked = [one for one in outcome if isinstance(one, Asked)]
    spent = sum((one.cost_usd or Decimal(0) for one in asked), Decimal(0))
    assert spent == EACH_USD * len(asked) <= budget
    assert upstream.calls == len(asked) and upstream.most_in_flight <= max(rooms, 1)
    unasked = [one for one in outcome if isinstance(one, Unasked)]
    assert len(asked) + len(unasked) == 12
    assert not unasked or budget - spent < WORST_USD * Decimal("1.1")
    assert [one.value.text for one in asked] == [
        q for q, one in zip(questions(12), outcome, strict=True) if one in asked
    ]


async def test_without_a_budget_all_are_asked_and_a_failure_is_its_own(upstream: Upstream) -> None:
    upstream.behave(Manner(status=400, body=b'{"error": {"message": "no", "type": "invalid_request_error"}}'))
    async with Assistant(served_by(upstream, SETTINGS), model="up/m") as assistant:
        outcome = await assistant.gather(questions(4), max_concurrent=1)
        assert [type(one) for one in outcome] == [Failed, Asked, Asked, Asked]
        again = await assistant.gather(questions(4)[1:], budget_usd=Decimal(0))
    assert [one.cost_usd for one in again if isinstance(one, Asked)] == [0, 0, 0], "what is cached costs nothing"


async def test_what_nobody_knows_the_price_of_is_not_asked(upstream: Upstream) -> None:
    settings = served_by(upstream, SETTINGS).model_copy(update={"model_overrides": {}})
    async with Assistant(settings, model="up/m") as assistant:
        outcome = await assistant.gather(questions(2), budget_usd=Decimal(100))
    assert [type(one) for one in outcome] == [Unasked, Unasked] and upstream.calls == 0


MODEL = Model("p", "m", price=Price(Decimal(1), Decimal(1)))
money = st.decimals(min_value=0, max_value=1, places=2)


class Mending(fakes.FakePolicy):
    """Has every answer mended."""

    async def mend(self, plan: Plan, answer: Answer, again: Any) -> Answer:
        mended: Answer = await again(plan.request)
        return mended


@given(worst=st.lists(money, min_size=1, max_size=10), shares=st.lists(st.none() | money, min_size=10), budget=money)
async def test_the_purse_is_never_overdrawn(
    worst: list[Decimal], shares: list[Decimal | None], budget: Decimal
) -> None:
    """Whatever the worst cases are, and whatever of them is used, is unknown, or is spent on mending."""
    purse, spent, low = Purse(budget), Decimal(0), budget

    async def one(number: int, most: Decimal) -> None:
        nonlocal spent, low
        policy = Pursed(Mending(), purse)
        plan: Any = Plan(principal=None, request=None)  # type: ignore[arg-type]
        try:
            taken = await policy.reserve(plan, Choice((Step((MODEL,)),), "fixed", "", worst_usd=most))
        except QuotaExceeded:
            assert policy.refused
            return
        await asyncio.sleep(0)
        answer = await policy.mend(plan, fakes.saying("x"), _again)
        assert isinstance(answer, Answer)
        share = shares[number]
        cost = None if share is None else share * taken.amount
        spent += taken.amount if cost is None else cost
        assert purse.left is not None
        low = min(low, purse.left)
        await policy.settle(taken, [Attempt(MODEL, cost_usd=cost)])

    await asyncio.gather(*(one(n, most) for n, most in enumerate(worst)))
    assert low >= 0 and purse.left == budget - spent >= 0


async def _again(_request: Any) -> Answer:
    return fakes.saying("y")


async def test_single_calls_become_joint_ones(upstream: Upstream) -> None:
    """Ten texts that are embedded one by one reach the provider as three lists."""
    async with (
        listening(served_by(upstream, SETTINGS)) as url,
        openai.AsyncOpenAI(base_url=url, api_key="ew_test", max_retries=0) as client,
    ):

        async def embed(texts: list[str]) -> Sequence[list[float] | BaseException]:
            made = await client.embeddings.create(model="up/e", input=texts)
            return [one.embedding for one in made.data]

        batcher = Batcher(embed, SystemClock(), most=4, wait_s=0.05)
        vectors = await asyncio.gather(*(batcher(f"text {n}") for n in range(10)))
        alone = await client.embeddings.create(model="up/e", input="text 7")
    assert vectors[7] == alone.data[0].embedding and len(vectors) == 10
    assert [len(seen.body["input"]) for seen in upstream.requests[:3]] == [4, 4, 2]
