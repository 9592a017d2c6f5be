"""Keys over HTTP: shown once, bounded by who made them, rotated with overlap, shut for good."""

from __future__ import annotations

from typing import Any

import pytest

from edgewise.api.openapi import _TERMS
from edgewise.policy.keys import KeyRow, MemoryKeys
from edgewise.policy.terms import CacheTerms, Compress, Guards, Limits, Terms, escalations
from edgewise.policy.token import is_well_formed, mint
from tests.policy.house import ROOT, PolicyHouse


@pytest.fixture
def house() -> PolicyHouse:
    return PolicyHouse()


async def test_a_new_key_opens_what_its_terms_say(house: PolicyHouse) -> None:
    made = await house.key(tenant="acme", name="ci", terms={"scopes": ["chat"]})
    assert is_well_formed(made["key"])
    assert (await house.chat(made["key"])).status == 200
    got = await house.client(made["key"]).ask("GET", "/v1/models")
    assert (got.status, got.error["code"]) == (403, "scope_missing")


async def test_a_key_is_shown_once_and_stored_nowhere(house: PolicyHouse) -> None:
    made = await house.key(tenant="acme", name="ci")
    for path in ("/admin/keys", f"/admin/keys/{made['id']}"):
        body = (await house.client().ask("GET", path)).body.decode()
        assert made["key"] not in body and "digest" not in body
    store = house.policy.desk.ring.store
    assert isinstance(store, MemoryKeys)
    assert made["key"] not in repr(await store.by_id(made["id"]))


async def test_rotation_overlaps_and_then_ends(house: PolicyHouse) -> None:
    made = await house.key(tenant="acme")
    got = await house.client().ask("POST", f"/admin/keys/{made['id']}/rotate", {"overlap_s": 60})
    fresh = got.json["key"]
    assert got.json["id"] == made["id"] and fresh != made["key"]
    assert (await house.chat(made["key"])).status == (await house.chat(fresh)).status == 200
    await house.clock.advance(61)
    assert (await house.chat(made["key"])).status == 401
    assert (await house.chat(fresh)).status == 200


async def test_a_revoked_key_stops_within_seconds(house: PolicyHouse) -> None:
    made = await house.key(tenant="acme")
    assert (await house.chat(made["key"])).status == 200
    assert (await house.client().ask("DELETE", f"/admin/keys/{made['id']}")).status == 200
    assert (await house.chat(made["key"])).status == 401
    again = await house.client().ask("DELETE", f"/admin/keys/{made['id']}")
    assert again.status == 200


async def test_an_expired_key_is_as_good_as_none(house: PolicyHouse) -> None:
    made = await house.key(tenant="acme", expires_at=house.clock.now() + 5)
    assert (await house.chat(made["key"])).status == 200
    await house.clock.advance(5)
    assert (await house.chat(made["key"])).status == 401


async def test_another_tenants_objects_do_not_exist(house: PolicyHouse) -> None:
    theirs = await house.key(tenant="umbrella")
    mine = await house.key(tenant="acme", terms={"scopes": ["*", "admin"]})
    client = house.client(mine["key"])
    never = await client.ask("GET", "/admin/keys/key_nothing")
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")):
        got = await client.ask(method, f"/admin/keys/{theirs['id']}{path}", {} if method != "GET" else None)
        assert (got.status, got.error) == (404, never.error), method
    assert (await client.ask("GET", "/admin/keys", query=b"tenant=umbrella")).status == 404
    assert [key["tenant"] for key in (await client.ask("GET", "/admin/keys")).json["data"]] == ["acme"]
    assert (await client.ask("POST", "/admin/keys", {"tenant": "umbrella"})).status == 404


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"scopes": ["*", "admin"], "models": ["*"]}, "terms.models"),
        ({"models": ["gpt-4o"], "limits": {"requests_per_minute": 100}}, "terms.limits.requests_per_minute"),
        ({"models": ["gpt-4o"]}, "terms.limits.requests_per_minute"),
        ({"models": ["gpt-4o"], "limits": {"requests_per_minute": 5}, "cache": {"shared": True}}, "terms.cache.shared"),
    ],
)
async def test_a_key_cannot_grant_more_than_it_has(house: PolicyHouse, terms: dict[str, Any], param: str) -> None:
    own = {"scopes": ["chat", "admin"], "models": ["gpt-*"], "limits": {"requests_per_minute": 10}}
    maker = await house.key(tenant="acme", terms=own)
    terms = {"scopes": ["chat"], **terms}
    if terms["scopes"] == ["*", "admin"]:
        param = "terms.scopes"
    got = await house.client(maker["key"]).ask("POST", "/admin/keys", {"terms": terms})
    assert (got.status, got.error["code"], got.error["param"]) == (403, "escalation", param)


async def test_a_key_cannot_change_itself_nor_outlive_its_maker(house: PolicyHouse) -> None:
    soon = house.clock.now() + 100
    maker = await house.key(tenant="acme", terms={"scopes": ["*", "admin"]}, expires_at=soon)
    client = house.client(maker["key"])
    assert (await client.ask("PATCH", f"/admin/keys/{maker['id']}", {"name": "x"})).status == 403
    assert (await client.ask("POST", "/admin/keys", {"expires_at": soon + 10})).json["expires_at"] == soon


async def test_administration_is_for_administrators(house: PolicyHouse) -> None:
    plain = await house.key(tenant="acme")
    for key, status in ((None, 401), ("ew_live_nonsense", 401), (plain["key"], 403)):
        for method, path in (("GET", "/admin/keys"), ("POST", "/admin/keys"), ("GET", "/admin/bans")):
            assert (await house.client(key).ask(method, path, {} if method == "POST" else None)).status == status
    admin = await house.key(tenant="acme", terms={"scopes": ["admin"]})
    got = await house.client(admin["key"]).ask("PUT", "/admin/tenants/acme/budgets", {"budgets": []})
    assert got.status == 403


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"is_root": True}, "is_root"),
        ({"terms": {"scopes": ["root"]}}, "terms.scopes"),
        ({"terms": {"budgets": [{"per": "week", "usd": "1"}]}}, "terms.budgets.0.per"),
        ({"terms": {"budgets": [{"per": "day", "usd": "-1"}]}}, "terms.budgets.0.usd"),
        ({"terms": {"budgets": [{"per": "day", "usd": "NaN"}]}}, "terms.budgets.0.usd"),
        ({"tenant": "a#b"}, "tenant"),
        ({"expires_at": 1e12}, "expires_at"),
    ],
)
async def test_what_is_no_field_or_no_value_is_named(house: PolicyHouse, form: dict[str, Any], param: str) -> None:
    got = await house.client().ask("POST", "/admin/keys", form)
    assert (got.status, got.error["param"]) == (400, param)


async def test_tenants_budgets_and_usage_are_told(house: PolicyHouse) -> None:
    made = await house.key(tenant="acme", terms={"budgets": [{"per": "day", "usd": "2"}]})
    budgets = {"budgets": [{"per": "month", "usd": "50", "soft": 0.8}]}
    assert (await house.client().ask("PUT", "/admin/tenants/acme/budgets", budgets)).status == 200
    shown = (await house.client().ask("GET", f"/admin/keys/{made['id']}")).json["budgets"]
    assert [(b["scope"], b["per"], b["usd"], b["used_usd"]) for b in shown] == [
        ("key", "day", "2", "0"),
        ("tenant", "month", "50", "0"),
    ]


async def test_repeated_bad_keys_ban_the_address_until_it_is_lifted(house: PolicyHouse) -> None:
    good = await house.key(tenant="acme")
    for number in range(20):
        await house.chat(mint(lambda n, number=number: number.to_bytes(n, "big")))  # type: ignore[misc]
        await house.background.drain()
    got = await house.chat(good["key"])
    assert (got.status, got.error["code"]) == (403, "banned")
    (ban,) = (await house.client().ask("GET", "/admin/bans")).json["data"]
    assert ban["whom"] == "address:127.0.0.1"
    assert house.record.counters["Banned"] == 1
    assert (await house.client().ask("DELETE", f"/admin/bans/{ban['whom']}")).status == 200
    assert (await house.chat(good["key"])).status == 200
    assert (await house.client().ask("DELETE", f"/admin/bans/{ban['whom']}")).status == 404


async def test_a_ban_ends_by_itself(house: PolicyHouse) -> None:
    made = await house.key(tenant="acme")
    got = await house.client().ask("POST", "/admin/bans", {"whom": f"key:{made['id']}", "for_s": 60})
    assert got.status == 201
    assert (await house.chat(made["key"])).headers["retry-after"] == "60"
    await house.clock.advance(61)
    assert (await house.chat(made["key"])).status == 200


def test_what_a_key_without_bounds_may_grant() -> None:
    free = Terms(scopes=frozenset({"*", "admin"}))
    assert escalations(Terms(), free) == []
    assert escalations(Terms(scopes=frozenset({"admin"})), Terms()) == ["scopes"]


def test_a_rows_representation_holds_no_key() -> None:
    row = KeyRow("k", "t", "n", "abcd", {}, Terms(), 0.0)
    assert ROOT not in repr(row)


def test_the_description_of_the_api_has_every_term() -> None:
    told = _TERMS["properties"]
    assert set(told) == set(Terms.model_fields)
    for name, model in (("limits", Limits), ("cache", CacheTerms), ("guards", Guards), ("compress", Compress)):
        assert set(told[name]["properties"]) == set(model.model_fields), name
