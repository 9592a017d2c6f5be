"""What a key is charged by how its calls were served, over real adapters, whole and streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from edgewise.assemble.edge import around
from edgewise.assemble.house import House, build
from edgewise.chat import Usage
from edgewise.settings import Settings
from tests.assemble.test_gateway import ROOT, Gateway
from tests.upstream import Manner, Upstream

CLAUDE, GPT = "anthropic/claude-sonnet-4-6", "openai/gpt-5.1"
WRITTEN = {
    "input_tokens": 10,
    "output_tokens": 20,
    "cache_creation_input_tokens": 5000,
    "cache_creation": {"ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 3000},
}


ASKED = {"prompt_tokens": 1000, "completion_tokens": 50}
CALLS = (
    (CLAUDE, Manner(usage=WRITTEN), Usage(5010, 20, cache_write_tokens=5000, cache_write_1h_tokens=3000), ""),
    (GPT, Manner(usage=ASKED, tier="priority"), Usage(1000, 50), "priority"),
    (GPT, Manner(usage=ASKED, tier="flex"), Usage(1000, 50), "flex"),
)


@pytest.fixture
async def service() -> AsyncIterator[Upstream]:
    async with Upstream() as found:
        yield found


@pytest.fixture
def house(service: Upstream) -> House:
    return build(
        Settings(
            root_key=ROOT,
            request_log=False,
            anthropic_api_key="sk-ant",
            anthropic_base_url=service.root,
            openai_api_key="sk",
            openai_base_url=service.base_url,
        )
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_charged_by_how_it_was_served(house: House, service: Upstream, *, stream: bool) -> None:
    gateway = Gateway(around(house))
    async with gateway.app.router.lifespan_context(gateway.app):
        key = await gateway.new_key(budgets=[{"per": "day", "usd": "5"}])
        owed = Decimal(0)
        for model, manner, usage, tier in CALLS:
            service.behave(manner)
            more = {"service_tier": "priority"} if model == GPT else {}
            assert (await gateway.say(f"hello {tier}", key, model, stream=stream, **more)).status == 200
            price = house.router.catalog.find(model)[0].price
            assert price is not None
            assert price.cost(usage, tier) != price.cost(Usage(usage.prompt_tokens, usage.completion_tokens))
            owed += price.cost(usage, tier)
        told = (await gateway.call("GET", "/usage", key)).json
        assert Decimal(told["budgets"][0]["used_usd"]) == Decimal(told["total"]["cost_usd"]) == owed
    await house.close()
