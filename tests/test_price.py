"""What a call costs, by how it was served: exact, and never less than the dearest that is known."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.chat import Usage
from edgewise.price import Price, price_of, tier_asked

GPT_5 = {
    "i": "1.25", "o": "10", "r": "0.125", "b": {"i": "0.625", "o": "5"},
    "t": {"flex": {"i": "0.625", "o": "5", "r": "0.0625"}, "priority": {"i": "2.5", "o": "20", "r": "0.25"}},
}  # fmt: skip
USAGE = Usage(1_000_000, 100_000, cached_tokens=400_000)


@pytest.mark.parametrize(
    ("tier", "usd"),
    [
        ("", "1.8"),
        ("default", "1.8"),
        ("standard", "1.8"),
        ("flex", "0.9"),
        ("priority", "3.6"),
        ("fast", "3.6"),
        # In a batch what was cached is at the batch's price of input, where no list says less.
        ("batch", "1.125"),
        ("scale", "3.6"),
        ("auto", "3.6"),
    ],
)
def test_a_call_costs_what_the_tier_does_that_it_was_served_in(tier: str, usd: str) -> None:
    assert price_of(GPT_5).cost(USAGE, tier) == Decimal(usd)


def test_a_prompt_that_is_kept_for_an_hour_costs_more_to_write() -> None:
    usage = Usage(1_000_000, cache_write_tokens=900_000, cache_write_1h_tokens=500_000)
    listed = price_of({"i": "3", "o": "15", "r": "0.3", "w": "3.75", "h": "6"})
    assert listed.cost(usage) == Decimal("0.3") + Decimal("1.5") + Decimal(3)
    unlisted = price_of({"i": "3", "o": "15", "w": "3.75"})
    assert unlisted.cost(usage) == listed.cost(usage), "twice the price of input"
    dear = Price(Decimal(1), Decimal(1), cache_write=Decimal(5))
    assert dear.cost(Usage(10**6, cache_write_tokens=10**6, cache_write_1h_tokens=10**6)) == 5


def test_the_step_of_a_long_prompt_is_the_tiers_own() -> None:
    long = {"a": [272_000, {"i": "5", "o": "22.5"}], "i": "2.5", "o": "15"}
    price = price_of({**long, "t": {"flex": {"a": [272_000, {"i": "2.5", "o": "11.25"}], "i": "1.25", "o": "7.5"}}})
    assert price.cost(Usage(300_000), "flex") == Decimal("0.75")
    assert price.cost(Usage(300_000)) == Decimal("1.5")


usd = st.decimals("0", "500", places=4).map(str)
rates = st.fixed_dictionaries({"i": usd, "o": usd}, optional={"r": usd, "w": usd, "h": usd})
steps = st.builds(lambda row, above: {**row, "a": [200_000, above]}, rates, rates)
rows = st.builds(
    lambda row, tiers: {**row, "t": tiers} if tiers else row,
    rates | steps,
    st.dictionaries(st.sampled_from(["batch", "flex", "priority"]), rates | steps, max_size=3),
)


@given(rows)
def test_a_price_is_read_as_it_was_written(row: dict[str, Any]) -> None:
    price = price_of(row)
    assert price_of(price.row()) == price


@given(rows, st.sampled_from(["auto", "scale", "reserved"]), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_tier_that_nobody_knows_is_never_cheaper_than_one_that_is_known(
    row: dict[str, Any], tier: str, prompt: int, answer: int
) -> None:
    price, usage = price_of(row), Usage(prompt, answer)
    assert price.cost(usage, tier) == max(price.cost(usage, known) for known in ("", *price.tiers))


def test_a_wish_is_read_in_either_dialect() -> None:
    assert tier_asked({"service_tier": "flex"}) == "flex"
    assert tier_asked({"anthropic": {"service_tier": "auto"}}) == "auto"
    assert tier_asked({"anthropic": "odd", "service_tier": None}) == ""
