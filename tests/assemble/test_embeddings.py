"""Embeddings in the assembled gateway: kept for every process, purged like anything, and made here on a laptop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgewise.assemble.edge import around
from edgewise.assemble.house import build
from edgewise.aws import Table
from edgewise.settings import Settings, Upstream
from tests import upstream as loopback
from tests.assemble.test_gateway import ROOT, Gateway, told


@pytest.fixture
async def service() -> AsyncIterator[loopback.Upstream]:
    async with loopback.Upstream() as found:
        yield found


@pytest.fixture
def settings(moto_url: str, cache_table: Table, service: loopback.Upstream) -> Settings:
    return Settings(
        root_key=ROOT,
        local_model=True,
        request_log=False,
        local_aws_url=moto_url,
        cache_table=cache_table.name,
        cache_timeout_s=5,
        upstreams=(Upstream(name="them", base_url=service.base_url),),
    )


async def embedded(gateway: Gateway, *texts: str, key: str = ROOT, model: str = "them/e", **more: Any) -> Any:
    return await gateway.call("POST", "/embeddings", key, {"model": model, "input": list(texts), **more})


def gateway_of(settings: Settings) -> Gateway:
    """A process of its own: nothing in memory."""
    return Gateway(around(build(settings)))


async def test_what_one_process_embedded_another_has(settings: Settings, service: loopback.Upstream) -> None:
    one, other = gateway_of(settings), gateway_of(settings)
    async with one.app.router.lifespan_context(one.app), other.app.router.lifespan_context(other.app):
        first = await embedded(one, "a", "bb")
        await one.app.state.background.drain(within_s=5)
        again = await embedded(other, "bb", "ccc")
        assert told(again, "cache-reason") == "1 of 2 cached" and service.requests[-1].body["input"] == ["ccc"]
        assert again.json["data"][0]["embedding"] == first.json["data"][1]["embedding"]
        await other.app.state.background.drain(within_s=5)
        purged = await other.call("DELETE", "/admin/cache", ROOT, query=b"model=them/e&all=true")
        assert purged.json["removed"] == 3
        assert told(await embedded(other, "a"), "cache") == "miss"


async def test_an_alias_embeds_as_its_first_model(settings: Settings, service: loopback.Upstream) -> None:
    """And is a name that a key may be given, as for chat."""
    aliases = {"vectors": ["them/e", "them/f"], "nearer": "vectors", "round": "round"}
    gateway = gateway_of(settings.model_copy(update={"aliases": aliases}))
    async with gateway.app.router.lifespan_context(gateway.app):
        terms = {"models": ["nearer"]}
        key = (await gateway.call("POST", "/admin/keys", ROOT, {"name": "a", "terms": terms})).json["key"]
        got = await embedded(gateway, "a", key=key, model="nearer")
        assert got.status == 200 and told(got, "model") == "them/e", got.body
        assert service.requests[-1].body["model"] == "e"
        assert (await embedded(gateway, "a", key=key, model="them/e")).status == 403
        assert told(await embedded(gateway, "a", model="them/e"), "cache") == "miss", "another tenant's"
        assert (await embedded(gateway, "a", model="round")).status == 404


@pytest.mark.parametrize("how", ["memory", "off"])
async def test_an_operator_may_keep_them_out_of_the_table(
    how: Any, settings: Settings, service: loopback.Upstream
) -> None:
    chosen = settings.model_copy(update={"cache_embeddings": how})
    one, other = gateway_of(chosen), gateway_of(chosen)
    async with one.app.router.lifespan_context(one.app), other.app.router.lifespan_context(other.app):
        assert told(await embedded(one, "a"), "cache") == ("off" if how == "off" else "miss")
        assert told(await embedded(one, "a"), "cache") == ("off" if how == "off" else "hit")
        assert told(await embedded(other, "a"), "cache") != "hit"


async def test_a_table_that_is_away_costs_a_call(settings: Settings, service: loopback.Upstream) -> None:
    gateway = gateway_of(settings.model_copy(update={"cache_table": "nowhere"}))
    async with gateway.app.router.lifespan_context(gateway.app):
        got = await embedded(gateway, "a")
        assert (got.status, told(got, "cache-reason")) == (200, "store-error")


@pytest.mark.parametrize(("model", "dim"), [("local/fast-use", 512), ("local/minilm-l6", 384)])
async def test_on_a_laptop_the_embedders_of_this_process_answer(model: str, dim: int, settings: Settings) -> None:
    gateway = gateway_of(settings)
    async with gateway.app.router.lifespan_context(gateway.app):
        got = await embedded(gateway, "How do I pay?", "How can I pay?", "A recipe for pasta", model=model)
        assert got.status == 200, got.body
        rows = [row["embedding"] for row in got.json["data"]]
        assert {len(row) for row in rows} == {dim}
        near, far = (sum(a * b for a, b in zip(rows[0], row, strict=True)) for row in rows[1:])
        assert near > far + 0.2
        assert told(got, "cost-usd") == "0" and got.json["usage"]["total_tokens"] > 0
        assert told(await embedded(gateway, "How do I pay?", model=model), "cache") == "hit"
        listed = {each["id"] for each in (await gateway.call("GET", "/models", ROOT)).json["data"]}
        assert model in listed
        wrong = await embedded(gateway, "x", model=model, dimensions=7)
        assert (wrong.status, wrong.error["param"]) == (400, "dimensions")


async def test_elsewhere_they_are_not_there(settings: Settings) -> None:
    gateway = gateway_of(settings.model_copy(update={"local_model": False, "upstreams": ()}))
    async with gateway.app.router.lifespan_context(gateway.app):
        assert (await embedded(gateway, "x", model="local/fast-use")).status == 404
