"""What the assembled gateway learns: labels in through its door, upkeep run, other routes out. No text is kept."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from edgewise.assemble.edge import around
from edgewise.assemble.house import House, build
from edgewise.assemble.upkeep import chores_of
from edgewise.aws import Item, Table
from edgewise.chat import Answer, ChatRequest
from edgewise.clock import Deadline, FakeClock
from edgewise.settings import Settings, Upstream
from edgewise.upkeep import keep_up
from edgewise.words import Attempt, Model, Note
from tests.api.client import Got
from tests.assemble.test_gateway import ROOT, Gateway, told
from tests.routing.casting import FakeCaller

ROWS: dict[str, dict[str, Any]] = {
    "scripted/weak": {"tier": "small", "quality": 0.75, "price": {"i": "0.1", "o": "0.4"}, "auto": True},
    "scripted/other": {"tier": "small", "quality": 0.74, "price": {"i": "0.15", "o": "0.6"}, "auto": True},
    "scripted/strong": {"tier": "large", "quality": 0.9, "price": {"i": "3", "o": "15"}, "auto": True},
}
for name in ("echo", "tool", "json"):
    ROWS[f"scripted/{name}"] = {"auto": False}


@dataclass
class Running:
    """A gateway with its house and the lines of its record."""

    house: House
    gateway: Gateway
    notes: list[Note]
    table: Table

    async def ask(self, text: str, key: str, **routing: Any) -> Got:
        got = await self.gateway.say(text, key, "auto", routing=routing)
        assert got.status == 200, got.body
        await self.house.background.drain()
        return got

    async def upkeep(self) -> Any:
        return await keep_up([chore for chore in chores_of(self.house) if chore.name == "learning"])

    async def rows(self, pk: str) -> list[Item]:
        return [row async for row in self.table.query(pk)]


@pytest.fixture
async def running(moto_url: str, state_table: Table) -> AsyncIterator[Running]:
    house = build(
        Settings(
            root_key=ROOT,
            scripted_model=True,
            request_log=False,
            local_aws_url=moto_url,
            state_table=state_table.name,
            cache_mode="off",
            model_overrides=ROWS,
        )
    )
    notes: list[Note] = []
    house.record.watch(lambda note, _: notes.append(note))
    application = around(house)
    async with application.router.lifespan_context(application):
        yield Running(house, Gateway(application), notes, state_table)


def number(n: int, says: int | None = None) -> str:
    """A question whose answers can be compared; scripted models say what the script in it tells them."""
    return f"How many of {n} apples are left? [[script text={n if says is None else says}]]"


async def test_a_shadow_call_is_behind_the_answer_with_a_line_and_a_charge_of_its_own(running: Running) -> None:
    key = await running.gateway.new_key(budgets=[{"per": "day", "usd": "1"}])
    got = await running.ask(number(12), key, strategy="simple", prefer="best", shadow=1.0)
    assert told(got, "attempts") == "1"
    (answer, shadow) = running.notes
    assert (shadow.route, shadow.request_id, shadow.tenant) == ("shadow", answer.request_id, "acme")
    assert {attempt.role for attempt in shadow.attempts} == {"shadow"} and shadow.cost_usd
    (budget,) = (await running.gateway.call("GET", "/usage", key)).json["budgets"]
    assert float(budget["used_usd"]) == pytest.approx(float(answer.cost_usd or 0) + float(shadow.cost_usd))
    usage = (await running.gateway.call("GET", "/usage", key)).json["total"]
    assert usage["requests"] == 1 and float(usage["cost_usd"]) == pytest.approx(float(budget["used_usd"]))


async def test_a_shadow_call_that_the_budget_has_no_room_for_is_not_made(running: Running) -> None:
    routing = {"strategy": "simple", "prefer": "cheap", "shadow": 1.0}
    weighed = await running.gateway.say(number(12), ROOT, "auto", max_tokens=20, routing={**routing, "dry_run": True})
    enough = float(weighed.json["worst_usd"])
    key = await running.gateway.new_key(budgets=[{"per": "day", "usd": f"{enough:.6f}"}])
    got = await running.gateway.say(number(12), key, "auto", max_tokens=20, routing=routing)
    await running.house.background.drain()
    running.notes.pop(0)
    assert got.status == 200 and [note.route for note in running.notes] == ["/v1/chat/completions"]


async def test_a_stream_is_asked_again_too(running: Running) -> None:
    key = await running.gateway.new_key()
    routing = {"strategy": "simple", "prefer": "best", "shadow": 1.0}
    await running.gateway.say(number(7), key, "auto", routing=routing, stream=True)
    await running.house.background.drain()
    assert [note.route for note in running.notes] == ["/v1/chat/completions", "shadow"]
    assert len(await running.rows("learn#panel")) == 1


class TwoSubjects(FakeCaller):
    """Everybody knows about gardens; of theorems the cheap models know nothing, each in its own way."""

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        hard = "theorem" in str(request.messages[-1]["content"])
        wrong = {"weak": "1", "other": "2"} if hard else {}
        self.script = lambda asked: wrong.get(asked.id, "12")
        return await FakeCaller.complete(self, model, request, deadline, trail)


def of_subject(n: int) -> str:
    dice = random.Random(n)
    words = ("theorem", "lattice", "functor", "manifold") if n % 2 else ("garden", "apple", "bread", "window")
    return f"How many of {n} in a {words[0]} and a {dice.choice(words[1:])} of a {dice.choice(words[1:])} are left?"


async def test_labels_that_come_in_by_the_door_change_the_route_once_upkeep_has_run(running: Running) -> None:
    """Where the cheap ones agree they are right, and that is one subject of two."""
    running.house.rooms.caller = TwoSubjects(FakeClock())
    key = await running.gateway.new_key(routing={"shadow": 1.0, "strategy": "learned"})
    first = await running.ask(of_subject(1), key)
    assert told(first, "model") == "scripted/strong" and "not proved" in (told(first, "route-reason") or "")
    for n in range(2, 181):
        await running.ask(of_subject(n), key)
    done = (await running.upkeep())["learning"]
    assert done["labels"] == 180 and "less on 180 labels" in done["plans"]
    await running.house.router.learning.load()
    easy, hard = [await running.ask(of_subject(n), key, strategy="hybrid", shadow=0.0) for n in (500, 501)]
    assert (told(easy, "model"), told(hard, "model")) == ("scripted/weak", "scripted/strong")
    assert (told(easy, "route-reason") or "").startswith("fitted plan")
    learned = await running.ask(of_subject(502), key, shadow=0.0)
    assert told(learned, "model") == "scripted/weak" and "gain" in (told(learned, "route-reason") or "")


async def test_a_guarantee_is_proved_on_the_tenants_own_labels_and_reopened_when_they_turn(running: Running) -> None:
    promise = {"shadow": 1.0, "guarantee": {"model": "scripted/strong", "delta": 0.05}}
    mine, other = await running.gateway.new_key(routing=promise), await running.gateway.new_key("bolt", routing=promise)
    for n in range(90):
        await running.ask(number(n), mine)
    await running.upkeep()
    await running.house.router.learning.load()
    router = running.house.router

    async def asked(key: str, n: int) -> Got:
        await running.ask(number(n), key, shadow=0.0)
        return await running.ask(number(n + 1), key, shadow=0.0)

    kept = await asked(mine, 500)
    assert told(kept, "model") == "scripted/weak" and "guarantee" in (told(kept, "route-reason") or "")
    assert told(await asked(other, 500), "model") == "scripted/strong", "another tenant's traffic proves nothing"
    pair = "scripted/weak|scripted/strong"
    proof = await running.house.router.learning.table.proof(pair, "acme")  # type: ignore[union-attr]
    assert len(proof) == 90
    from edgewise.routing.guarantee import since_the_change

    turned = since_the_change([*proof, *((score, 1.0) for score, _ in proof[:80])])
    assert len(turned) == 80
    await router.learning.table.save_proof(pair, "acme", turned)  # type: ignore[union-attr]
    await router.learning._load_proof(pair, "acme")
    assert told(await asked(mine, 700), "model") == "scripted/strong"


async def test_an_opinion_becomes_a_label_once_without_any_text(running: Running) -> None:
    key = await running.gateway.new_key(routing={"shadow": 0.0, "strategy": "learned"})
    got = await running.ask("Which secret word do I mean, xylophone?", key)
    opinion = {"request_id": got.headers["x-request-id"], "score": -1}
    for _ in range(2):
        assert (await running.gateway.call("POST", "/feedback", key, opinion)).status == 200
    rows = await running.rows("learn#scripted/weak|scripted/strong")
    assert len(rows) == 1 and rows[0]["drawn"] is False
    kept = await running.rows(f"ask#acme#{got.headers['x-request-id']}")
    assert kept[0]["served"] == "scripted/strong" and "expires_at" in kept[0]
    assert b"xylophone" not in json.dumps([*rows, *kept], default=repr).encode()
    assert (await running.upkeep())["learning"]["labels"] == 1


async def test_nothing_is_remembered_of_a_key_that_does_not_learn(running: Running) -> None:
    key = await running.gateway.new_key()
    got = await running.ask("Hello there", key)
    assert await running.rows(f"ask#acme#{got.headers['x-request-id']}") == []


async def test_a_models_price_can_be_changed_while_it_runs(running: Running) -> None:
    call, key = running.gateway.call, await running.gateway.new_key()
    row = {"price": {"i": "1000", "o": "1000"}, "tier": "huge"}
    assert (await call("PUT", "/admin/models/scripted/weak", key, row)).status == 403
    assert (await call("PUT", "/admin/models/scripted/weak", ROOT, {"prize": 1})).error["param"] == "prize"
    assert (await call("PUT", "/admin/models/scripted/weak", ROOT, {"price": {"i": "x", "o": "1"}})).status == 400
    assert (await call("PUT", "/admin/models/scripted/weak", ROOT, {**row, "quality": 0.5})).status == 200
    assert (await call("GET", "/admin/models", ROOT)).json["data"][0]["model"] == "scripted/weak"
    before = running.house.router.catalog
    await running.gateway.say("x", key, "scripted/weak")
    await running.house.background.drain()
    assert running.house.router.catalog is not before
    got = await running.gateway.say("hello", key, "scripted/weak")
    assert float(told(got, "cost-usd") or 0) > 0.001
    assert (await call("DELETE", "/admin/models/scripted/weak", ROOT)).json["deleted"] is True
    assert (await call("GET", "/admin/models", ROOT)).json["data"] == []


def test_upstreams_can_be_overridden_too() -> None:
    from edgewise.assemble.house import _catalog

    settings = Settings(upstreams=(Upstream(name="vllm", base_url="http://127.0.0.1:9", models=("a",)),))
    found = _catalog(settings, {}, {"vllm/a": {"tier": "large", "price": {"i": "1", "o": "2"}}})
    assert found.models["vllm/a"].tier == "large" and found.models["vllm/a"].price is not None
