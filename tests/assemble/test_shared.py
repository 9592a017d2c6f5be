"""A namespace that tenants share, in the assembled gateway: another is served only once enough have asked, to the
letter, by meaning and for vectors, and nothing in an answer tells a hit from a miss."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgewise.assemble.house import build
from edgewise.aws import Table
from edgewise.clock import minted_at
from edgewise.settings import Settings, Upstream
from tests import upstream as loopback
from tests.api.client import Got
from tests.assemble.test_meaning import QUESTION, REPEAT, Opened, settings

TENANTS = ("acme", "bolt", "crane", "drum")
SHARING = {"cache": {"mode": "semantic", "namespace": "faq", "shared": True}}
TELLING = ("x-edgewise-cache-kind", "x-edgewise-cache-reason", "x-edgewise-cache-key", "x-edgewise-similarity",
           "x-edgewise-saved-usd", "x-edgewise-cost-usd", "x-edgewise-attempts", "age",
           "openai-processing-ms")  # fmt: skip


@pytest.fixture
async def shared(
    moto_url: str, cache_table: Table, state_table: Table, bucket: str
) -> AsyncIterator[tuple[Opened, dict[str, str], loopback.Upstream]]:
    async with loopback.Upstream() as service:
        chosen: Settings = settings(
            moto_url,
            cache_table,
            state_table,
            bucket,
            upstreams=(Upstream(name="them", base_url=service.base_url),),
            cache_quorum=3,
        )
        opened = Opened(build(chosen))
        async with opened.gateway.app.router.lifespan_context(opened.gateway.app):
            keys = {tenant: await opened.gateway.new_key(tenant, **SHARING) for tenant in TENANTS}
            yield opened, keys, service


async def said(opened: Opened, key: str, text: str) -> Got:
    got = await opened.gateway.say(text, key, "them/small")
    await opened.house.background.drain(within_s=5)
    return got


def tells_nothing(*answers: Got) -> bool:
    return all(
        got.status == 200
        and got.headers["x-edgewise-cache"] == "shared"
        and not [name for name in TELLING if name in got.headers]
        for got in answers
    ) and len({frozenset(got.headers) for got in answers}) == 1  # fmt: skip


async def test_to_the_letter_three_must_have_asked(shared: tuple[Opened, dict[str, str], loopback.Upstream]) -> None:
    """The fourth asks nobody; who asked before has the answer as their own."""
    opened, keys, service = shared
    answers, calls = [], []
    for tenant in TENANTS:
        answers.append(await said(opened, keys[tenant], "What is the same for all?"))
        calls.append(service.calls)
    assert calls == [1, 2, 3, 3]
    answers.append(await said(opened, keys["acme"], "What is the same for all?"))
    assert service.calls == 3 and tells_nothing(*answers)


@pytest.mark.parametrize("stream", [False, True])
async def test_nor_does_the_answer_s_own_name(
    stream: bool, shared: tuple[Opened, dict[str, str], loopback.Upstream]
) -> None:
    """A provider's id or time would tell a live answer from a kept one."""
    opened, keys, service = shared
    now, named = opened.house.clock.now(), []
    for tenant in TENANTS:
        got = await opened.gateway.say("Who is it?", keys[tenant], "them/small", stream=stream)
        await opened.house.background.drain(within_s=5)
        told = (
            [json.loads(line[6:]) for line in got.body.split(b"\n\n") if line[:7] == b"data: {"]
            if stream
            else [got.json]
        )
        assert len({(each["id"], each["created"]) for each in told}) == 1
        named.append((minted_at(told[0]["id"]) or 0.0, told[0]["created"]))
    assert service.calls == 3
    assert all(abs(at - now) < 60 for pair in named for at in pair), named


async def test_by_meaning_too(shared: tuple[Opened, dict[str, str], loopback.Upstream]) -> None:
    """Who asks in other words counts, and is served once enough have asked; two keys of one tenant are one."""
    opened, keys, service = shared
    again = await opened.gateway.new_key("bolt", **SHARING)
    answers = []
    for key, text, calls in (
        (keys["acme"], QUESTION, 1),
        (keys["bolt"], REPEAT, 2),
        (again, REPEAT, 2),
        (keys["crane"], QUESTION, 3),
        (keys["drum"], "how do I reset my password ?!", 3),
    ):
        answers.append(await said(opened, key, text))
        assert service.calls == calls, text
    assert tells_nothing(*answers)
    kinds = [(note.cache, note.cache_kind, note.similarity) for note in opened.notes if note.route.endswith("tions")]
    assert kinds[-1][0] == "hit" and kinds[-1][2] is None


async def test_vectors_too(shared: tuple[Opened, dict[str, str], loopback.Upstream]) -> None:
    opened, keys, service = shared
    answers: list[Any] = []
    for tenant in TENANTS:
        body = {"model": "them/e", "input": ["the same"]}
        answers.append(await opened.gateway.call("POST", "/embeddings", keys[tenant], body))
        await opened.house.background.drain(within_s=5)
    assert service.calls == 3 and tells_nothing(*answers)


async def test_a_name_of_a_namespace_alone_shares_nothing(
    shared: tuple[Opened, dict[str, str], loopback.Upstream],
) -> None:
    """A key that merely names it has a namespace of its own by that name."""
    opened, _, service = shared
    one, other = await opened.gateway.new_key("one"), await opened.gateway.new_key("other")
    for key in (one, other, one):
        got = await opened.gateway.say("mine?", key, "them/small", cache={"namespace": "faq"})
        await opened.house.background.drain(within_s=5)
    assert service.calls == 2 and got.headers["x-edgewise-cache"] == "hit"


async def test_a_shared_entry_that_is_reported_wrong_is_gone_for_all(
    shared: tuple[Opened, dict[str, str], loopback.Upstream],
) -> None:
    opened, keys, service = shared
    for tenant in TENANTS[:3]:
        await said(opened, keys[tenant], "What is wrong here?")
    hit = await said(opened, keys["drum"], "What is wrong here?")
    assert service.calls == 3
    opinion = {"request_id": hit.headers["x-request-id"], "score": -1, "reason": "wrong_hit"}
    assert (await opened.gateway.call("POST", "/feedback", keys["drum"], opinion)).status == 200
    await said(opened, keys["acme"], "What is wrong here?")
    assert service.calls == 4
