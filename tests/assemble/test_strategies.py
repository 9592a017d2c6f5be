"""Every strategy by name, asked for in every way there is, through the assembled gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from edgewise.assemble.edge import around
from edgewise.assemble.house import build
from edgewise.routing.names import STRATEGIES
from edgewise.settings import Settings
from edgewise.words import Note
from tests.api.client import Got
from tests.assemble.test_gateway import ROOT, Gateway, told
from tests.assemble.test_learning import ROWS

WAYS = ("suffix", "body", "header", "key", "alias")
PRESETS = ("auto:cheap", "auto:balanced", "auto:best")
QUESTION = "How many of 120 apples are left after 3 friends take 7 each?"
POOL = ["scripted/weak", "scripted/other", "scripted/strong"]


class Asker:
    """A gateway of three priced models, and what its record says."""

    def __init__(self, gateway: Gateway, notes: list[Note]) -> None:
        self.gateway, self.notes = gateway, notes

    async def ask(self, strategy: str, way: str, **routing: Any) -> Got:
        """The same wish, said in one of the ways. `routing` is what else is wished, in the body."""
        spelt = strategy.replace("_", "-")
        body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
        headers, key = {}, ROOT
        match way:
            case "suffix":
                body["model"] = f"auto:{spelt}"
            case "body":
                routing = {"strategy": strategy, **routing}
            case "header":
                headers["x-edgewise-route"] = spelt
            case "key":
                key = await self.gateway.new_key(routing={"strategy": strategy})
            case _:
                body["model"] = f"by-{spelt}"
        if routing:
            body["routing"] = routing
        self.gateway.key = key
        got = await self.gateway.ask("POST", "/v1/chat/completions", body, headers=headers)
        assert got.status == 200, got.body
        return got


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    aliases = {f"by-{name.replace('_', '-')}": {"models": POOL, "strategy": name} for name in STRATEGIES}
    house = build(
        Settings(
            root_key=ROOT,
            scripted_model=True,
            request_log=False,
            cache_mode="off",
            model_overrides=ROWS,
            aliases=aliases,
        )
    )
    notes: list[Note] = []
    house.record.watch(lambda note, _: notes.append(note))
    application = around(house)
    async with application.router.lifespan_context(application):
        yield Asker(Gateway(application), notes)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_strategy_is_chosen_in_every_way_and_tells_what_it_expects(asker: Asker, strategy: str) -> None:
    for way in WAYS:
        weighed = (await asker.ask(strategy, way, dry_run=True)).json
        assert weighed["strategy"] == strategy, way
        expected = weighed["expected"]
        assert 0 < expected["quality"] <= 1 and expected["latency_ms"] > 0, way
        assert 0 < Decimal(str(expected["cost_usd"])) <= Decimal(str(weighed["worst_usd"])), way
        asker.notes.clear()
        got = await asker.ask(strategy, way)
        (note,) = asker.notes
        assert note.strategy == strategy and note.features["candidates"], way
        assert told(got, "route-reason") and (told(got, "model") or "") in POOL, way
        assert Decimal(told(got, "cost-usd") or "0") == sum(
            (a.cost_usd or Decimal(0) for a in note.attempts), Decimal(0)
        )


@pytest.mark.parametrize("preset", PRESETS)
async def test_a_preset_says_what_a_dollar_is_worth(asker: Asker, preset: str) -> None:
    weighed = (await asker.ask("hybrid", "body", dry_run=True)).json
    body = {"model": preset, "messages": [{"role": "user", "content": QUESTION}], "routing": {"dry_run": True}}
    asker.gateway.key = ROOT
    other = (await asker.gateway.ask("POST", "/v1/chat/completions", body)).json
    assert other["features"]["prefer"] == preset.removeprefix("auto:")
    cost, usual = Decimal(str(other["expected"]["cost_usd"])), Decimal(str(weighed["expected"]["cost_usd"]))
    assert {"auto:cheap": cost <= usual, "auto:balanced": cost == usual, "auto:best": cost >= usual}[preset]


async def test_the_nearer_wish_wins(asker: Asker) -> None:
    """The request's own over the key's, and a strategy in the body over the one in a header."""
    key = await asker.gateway.new_key(routing={"strategy": "simple"})
    asker.gateway.key = key
    body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
    body["routing"] = {"strategy": "weighted"}
    await asker.gateway.ask("POST", "/v1/chat/completions", body, headers={"x-edgewise-route": "least-busy"})
    assert asker.notes[-1].strategy == "weighted"


async def test_a_name_that_is_no_strategy_is_an_error(asker: Asker) -> None:
    got = await asker.gateway.say(QUESTION, ROOT, "auto", routing={"strategy": "magic"})
    assert got.status == 400 and got.error["param"] == "routing.strategy"


@pytest.mark.parametrize(("word", "answers", "roles"), [
    ("yes", "scripted/weak", ["answer", "judge"]), ("no", "scripted/strong", ["answer", "judge", "answer"]),
])  # fmt: skip
@pytest.mark.parametrize("judge", ["scripted/other", "self"])
async def test_a_verdict_is_in_the_attempts_the_cost_and_the_hold(
    asker: Asker, word: str, answers: str, roles: list[str], judge: str
) -> None:
    """A scripted judge says what the script in the question tells it to."""
    routing = {"strategy": "confidence", "prefer": "best", "models": ["scripted/weak", "scripted/strong"]}
    text = f"Is the sky blue by day? [[script text={word}]]"
    plain = await asker.gateway.say(text, ROOT, "auto", routing={**routing, "dry_run": True})
    judged = await asker.gateway.say(text, ROOT, "auto", routing={**routing, "judge": judge, "dry_run": True})
    assert Decimal(judged.json["worst_usd"]) > Decimal(plain.json["worst_usd"])
    asker.notes.clear()
    got = await asker.gateway.say(text, ROOT, "auto", routing={**routing, "judge": judge})
    (note,) = asker.notes
    assert told(got, "model") == answers and [attempt.role for attempt in note.attempts] == roles
    assert note.cost_usd == sum((a.cost_usd or Decimal(0) for a in note.attempts), Decimal(0)) > 0
    if word == "yes":
        assert note.confidence_source == ("self-check" if judge == "self" else "judge")


@pytest.mark.parametrize(
    "wrong",
    [
        Settings(root_key=ROOT, routing={"strategy": "foo"}),
        Settings(root_key=ROOT, aliases={"fast": {"models": POOL, "strategy": "foo"}}),
    ],
)
def test_a_strategy_that_there_is_not_is_told_before_anybody_asks(wrong: Settings) -> None:
    with pytest.raises(ValueError, match=r"^the setting `(routing|aliases\.fast)`: There is no routing strategy 'foo'"):
        build(wrong)
