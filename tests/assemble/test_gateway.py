"""The whole gateway as it is assembled, over real adapters: what one room says, the others act on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgewise.assemble.edge import around
from edgewise.assemble.house import House, build
from edgewise.clock import SystemClock
from edgewise.record.rollups import total
from edgewise.settings import Settings
from tests.api.client import Client, Got

ROOT = "ew_root_of_the_test"


@pytest.fixture
async def house(places: dict[str, Any]) -> House:
    return build(
        Settings(
            root_key=ROOT,
            scripted_model=True,
            request_log=False,
            cache_timeout_s=5,
            **places,
        )
    )


class Gateway(Client):
    """The gateway's app, asked as a given key."""

    async def call(self, method: str, path: str, key: str | None, body: Any = None, query: bytes = b"") -> Got:
        self.key = key
        return await self.ask(method, f"/v1{path}", body, query=query)

    async def say(self, text: str, key: str, model: str = "scripted/small", **more: Any) -> Got:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return await self.call("POST", "/chat/completions", key, body)

    async def new_key(self, tenant: str = "acme", **terms: Any) -> str:
        made = await self.call("POST", "/admin/keys", ROOT, {"name": "app", "tenant": tenant, "terms": terms})
        assert made.status in (200, 201), made.body
        key: str = made.json["key"]
        return key


@pytest.fixture
async def gateway(house: House) -> AsyncIterator[Gateway]:
    application = around(house)
    async with application.router.lifespan_context(application):
        yield Gateway(application)


def told(answer: Got, name: str) -> str | None:
    return answer.headers.get(f"x-edgewise-{name}")


async def test_a_key_pays_for_what_it_asks_and_not_for_what_is_cached(gateway: Gateway) -> None:
    key = await gateway.new_key()
    first, again = await gateway.say("hello", key), await gateway.say("hello", key)
    assert (told(first, "cache"), told(again, "cache")) == ("miss", "hit")
    assert float(told(first, "cost-usd") or 0) > 0
    assert told(again, "cost-usd") == "0"
    assert told(again, "saved-usd") == told(first, "cost-usd")
    usage = (await gateway.call("GET", "/usage", key)).json
    assert usage["tenant"] == "acme"
    assert (usage["total"]["requests"], usage["total"]["hits"]) == (2, 1)


async def test_tenants_never_share_an_answer(gateway: Gateway) -> None:
    one, other = await gateway.new_key(), await gateway.new_key("bolt")
    await gateway.say("whose?", one)
    assert told(await gateway.say("whose?", other), "cache") == "miss"


async def test_a_budget_that_is_spent_refuses_and_says_that_a_retry_is_no_use(gateway: Gateway) -> None:
    key = await gateway.new_key(budgets=[{"usd": "0.000001", "per": "day"}])
    answer = await gateway.say("too dear", key, max_tokens=1000)
    assert answer.status == 429
    assert answer.error["code"] == "insufficient_quota"
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("by", ["request", "key"])
async def test_a_wrong_hit_that_is_reported_is_not_served_again(gateway: Gateway, by: str) -> None:
    key = await gateway.new_key()
    await gateway.say("wrong?", key)
    hit = await gateway.say("wrong?", key)
    assert told(hit, "cache") == "hit"
    opinion = {"request_id": hit.headers["x-request-id"], "score": -1, "reason": "wrong_hit"}
    if by == "key":
        opinion |= {"request_id": SystemClock().token("req_"), "cache_key": told(hit, "cache-key")}
    assert (await gateway.call("POST", "/feedback", key, opinion)).status == 200
    assert told(await gateway.say("wrong?", key), "cache") == "miss"


async def test_purging_needs_the_admin_scope_and_empties_the_cache(gateway: Gateway) -> None:
    key = await gateway.new_key()
    await gateway.say("purge me", key)
    assert (await gateway.call("DELETE", "/admin/cache", key)).status == 403
    purged = await gateway.call("DELETE", "/admin/cache", ROOT, query=b"tenant=acme&namespace=default")
    assert purged.status == 200, purged.body
    assert told(await gateway.say("purge me", key), "cache") == "miss"


async def test_a_dry_run_explains_itself_and_asks_nobody(gateway: Gateway) -> None:
    key = await gateway.new_key()
    answer = await gateway.say("why?", key, routing={"dry_run": True})
    assert answer.status == 200
    assert "choices" not in answer.json
    assert told(await gateway.say("why?", key), "cache") == "miss"


async def test_a_dry_run_is_no_traffic(gateway: Gateway, house: House) -> None:
    """Neither in metrics nor in usage nor in the cache's own counts, whether it finds an answer or none."""

    async def counted() -> list[Any]:
        counters = house.record.counters.all()
        await house.memory.rollups.flush()
        cells = await house.memory.rollups.store.read("acme", "hour", 0, 2**33)
        traffic = {name: count for name, count in counters.items() if name != "CostMicroUSD"}
        return [traffic, total(cells).told(3600), house.cache.stats.wire(), house.cache.describe()["in_flight"]]

    key = await gateway.new_key()
    await gateway.say("kept", key)
    before = await counted()
    for text in ("why?", "kept"):
        for stream in (False, True):
            assert (await gateway.say(text, key, stream=stream, routing={"dry_run": True})).status == 200
    assert await counted() == before


async def test_everything_is_shut_without_a_key(gateway: Gateway) -> None:
    for method, path in (
        ("GET", "/models"), ("POST", "/chat/completions"), ("GET", "/files"), ("GET", "/batches"), ("GET", "/usage"),
        ("GET", "/admin/keys"), ("GET", "/admin/stats"), ("DELETE", "/admin/cache"), ("POST", "/responses"),
        ("POST", "/embeddings"), ("POST", "/feedback"), ("GET", "/responses/resp_x"), ("POST", "/uploads"),
        ("POST", "/batches"), ("GET", "/files/file-x/content"), ("POST", "/responses/resp_x/cancel"),
    ):  # fmt: skip
        answer = await gateway.call(method, path, None, {} if method == "POST" else None)
        assert answer.status == 401, f"{method} {path}: {answer.status} {answer.body!r}"
        assert answer.error["code"] == "invalid_api_key"


async def test_a_structured_answer_that_does_not_fit_is_asked_for_once_more(gateway: Gateway) -> None:
    """Where the key wants it: `scripted/echo` repeats the question, which is no JSON; both tries are charged."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}
    plain, mending = await gateway.new_key(), await gateway.new_key("bolt", repair_json=True)
    text = "not json [[script text=nothing]]"
    assert told(await gateway.say(text, plain, "scripted/echo", **asked), "attempts") == "1"
    assert told(await gateway.say(text, mending, "scripted/echo", **asked), "attempts") == "2"


async def test_readiness_is_told_by_part(house: House, gateway: Gateway) -> None:
    ready = await gateway.ask("GET", "/readyz")
    assert (ready.status, ready.json["parts"]) == (200, {"cache": True, "state": True})
    house.settings = house.settings.model_copy(update={"cache_table": "no-such-table"})
    ready = await gateway.ask("GET", "/readyz")
    assert (ready.status, ready.json["parts"]["cache"]) == (503, False)
