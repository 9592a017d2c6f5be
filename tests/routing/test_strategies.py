from dataclasses import replace as changed
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.errors import InvalidRequest, NotAllowed
from edgewise.routing.ask import Ask, Candidate, Demand
from edgewise.routing.names import STRATEGIES
from edgewise.routing.options import Options
from edgewise.routing.room import MOST_SESSIONS, SESSION_CHARS
from edgewise.routing.scorer import KAPPA, hull, pays, plans
from edgewise.routing.strategies import BY_NAME
from edgewise.words import Attempt, Model
from tests.routing.casting import Stage, answer, plan_for, request

NUMBERS = "How many of 120 apples are left after 3 friends take 7 each?"


def candidate(name: str, cost: float, quality: float, latency_ms: float = 500) -> Candidate:
    price = Decimal(repr(cost))
    return Candidate(Model("p" + name, name), price, price * 3, latency_ms, quality)


def ask(*candidates: Candidate, **fields: Any) -> Ask:
    return Ask(Demand(100, 200, frozenset()), candidates, fields.pop("options", Options()), **fields)


MARKET = st.lists(st.tuples(st.floats(1e-5, 1e-1), st.floats(0.05, 0.99)), min_size=1, max_size=8).map(
    lambda rows: tuple(candidate(f"m{n}", cost, quality) for n, (cost, quality) in enumerate(rows))
)


def test_every_name_has_its_strategy() -> None:
    assert set(BY_NAME) == set(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
async def test_every_strategy_returns_a_choice_that_says_why(name: str) -> None:
    choice = await Stage().choose(request(model=f"auto:{name}"))
    assert choice.strategy == name
    assert choice.reason and choice.steps[-1].accept is None
    assert choice.worst_usd is not None and choice.expected.cost_usd is not None
    assert choice.worst_usd >= choice.expected.cost_usd
    assert choice.considered and choice.features["candidates"]


@given(MARKET)
def test_no_model_on_the_hull_is_beaten_by_another(market: tuple[Candidate, ...]) -> None:
    kept = hull(market)
    assert kept
    for one in kept:
        assert not any(other.cost <= one.cost and other.quality > one.quality for other in market)


@given(MARKET, st.sampled_from(["tools", "number", None]))
@settings(max_examples=60)
def test_a_chosen_plan_is_never_dearer_than_another_that_is_as_good(market: tuple[Candidate, ...], kind: Any) -> None:
    scored = plans(ask(*market, comparable=kind))
    best = scored[0]
    assert not any(plan.quality >= best.quality and plan.cost < best.cost - 1e-12 for plan in scored)


@given(st.floats(0, 1), st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_a_cascade_that_pays_is_cheaper_than_going_straight(accept: float, first: float, strong: float) -> None:
    if pays(accept, first, strong):
        assert accept > first / strong
        assert first + (1 - accept) * KAPPA * strong < strong


@given(MARKET)
@settings(max_examples=60)
def test_no_cascade_starts_with_a_dominated_model(market: tuple[Candidate, ...]) -> None:
    names = {c.model.name for c in hull(market)}
    for plan in plans(ask(*market)):
        assert plan.first[0].model.name in names


async def test_confidence_and_cascading_check_every_answer_but_the_last() -> None:
    for name in ("confidence", "cascading"):
        choice = await Stage().choose(request(model=f"auto:{name}"))
        *early, last = choice.steps
        assert early and all(step.accept == "own" for step in early)
        assert last.models[0].name == "big/opus"


async def test_a_small_try_that_cannot_pay_is_not_made() -> None:
    rows = {
        "small/mini": {"tier": "small", "quality": 0.5, "price": {"i": "2.9", "o": "14"}},
        "big/opus": {"tier": "large", "quality": 0.9, "price": {"i": "3", "o": "15"}},
    }
    choice = await Stage(rows=rows).choose(request(model="auto:confidence"))
    assert [step.models[0].name for step in choice.steps] == ["big/opus"]


async def test_cost_aware_keeps_within_the_budget_or_refuses() -> None:
    stage = Stage()
    asked = request(model="auto:cost-aware", max_tokens=200, routing={"max_cost_usd": "0.001"})
    choice = await stage.choose(asked)
    assert choice.steps[0].models[0].name != "big/opus"
    with pytest.raises(InvalidRequest, match="within"):
        await stage.choose(request(model="auto:cost-aware", routing={"max_cost_usd": "0.0000001"}))


async def test_a_shadow_price_routes_cheaper_while_money_is_short() -> None:
    dear = ask(candidate("a", 0.0005, 0.75), candidate("b", 0.005, 0.9), options=Options(prefer="best"))
    short = ask(*dear.candidates, options=dear.options, window_lambda=400.0)
    assert BY_NAME["cost_aware"](dear).steps[-1].models[0].id == "b"
    assert BY_NAME["cost_aware"](short).steps[0].models[0].id == "a"


async def test_two_cheap_models_are_asked_at_once_only_where_answers_can_be_compared() -> None:
    stage = Stage()
    rows = (await stage.choose(request(NUMBERS))).considered
    assert any("+" in row["plan"] for row in rows)
    rows = (await stage.choose(request("Write a poem about the sea."))).considered
    assert not any("+" in row["plan"] for row in rows)


def test_learned_refuses_until_it_has_proved_itself() -> None:
    market = (candidate("weak", 0.0001, 0.6), candidate("strong", 0.01, 0.9))
    refused = BY_NAME["learned"](ask(*market))
    assert refused.steps[0].models[0].id == "strong" and "refuses" in refused.reason
    assert BY_NAME["learned"](ask(*market, gain=0.0)).steps[0].models[0].id == "weak"
    assert BY_NAME["learned"](ask(*market, gain=0.9)).steps[0].models[0].id == "strong"


def test_an_unproven_guarantee_is_kept_by_the_reference_model() -> None:
    market = (candidate("weak", 0.0001, 0.6), candidate("strong", 0.01, 0.9))
    options = Options(guarantee={"model": "strong", "delta": 0.02})
    assert BY_NAME["learned"](ask(*market, gain=0.0, options=options)).steps[0].models[0].id == "strong"


@pytest.mark.parametrize("routing", [{"session": "s"}, {"strategy": "simple"}, {"strategy": "sticky", "session": "s"}])
async def test_nothing_a_request_asks_for_undoes_a_guarantee(routing: dict[str, Any]) -> None:
    """Neither a session that was with the cheap model before, nor a strategy that would pick it."""
    stage, key = Stage(), {"guarantee": {"model": "big/opus", "delta": 0.02}}
    first = request(routing={"session": "s", "strategy": "simple", "prefer": "cheap"})
    choice, live = await stage.ask(first)
    stage.room.observe(plan_for(first), choice, stage.trail, live.answer)
    assert live.model.name != "big/opus"
    promised = await stage.choose(request(routing=routing), routing=key)
    assert promised.steps[0].models[0].name == "big/opus" and "big/opus answers" in promised.reason


async def test_a_guarantee_of_a_model_that_the_key_may_not_use_is_refused() -> None:
    asked = request(routing={"guarantee": {"model": "big/opus"}})
    with pytest.raises(NotAllowed):
        await Stage().choose(asked, models=("small/*", "other/*"))
    with pytest.raises(InvalidRequest):
        await Stage().choose(request(routing={"guarantee": {"model": "big/opus", "delta": 2}}))


def test_weights_share_out_the_traffic() -> None:
    market = (candidate("a", 0.1, 0.5), candidate("b", 0.1, 0.5))
    options = Options(weights={"pa/a": 3, "pb/b": 1})
    points = [n / 100 for n in range(100)]
    chosen = [BY_NAME["weighted"](ask(*market, options=options, uniform=lambda p=p: p)) for p in points]
    assert sum(choice.steps[0].models[0].id == "a" for choice in chosen) == 75


def test_the_quicker_and_the_less_busy_of_two_is_chosen() -> None:
    market = (candidate("slow", 0.1, 0.5, 900), candidate("quick", 0.1, 0.5, 100))
    assert BY_NAME["lowest_latency"](ask(*market)).steps[0].models[0].id == "quick"
    busy = ask(*market, in_flight={"pquick/quick": 20})
    assert BY_NAME["lowest_latency"](busy).steps[0].models[0].id == "slow"
    assert BY_NAME["least_busy"](busy).steps[0].models[0].id == "slow"


def test_a_session_keeps_its_place_when_another_model_goes() -> None:
    market = tuple(candidate(f"m{n}", 0.1, 0.5) for n in range(5))
    moved = 0
    for number in range(200):
        options = Options(session=f"s{number}")
        before = BY_NAME["sticky"](ask(*market, options=options)).steps[0].models[0].id
        after = BY_NAME["sticky"](ask(*market[:-1], options=options)).steps[0].models[0].id
        moved += before not in (after, "m4")
    assert moved == 0


async def test_a_conversation_stays_with_the_model_that_answered_it() -> None:
    stage = Stage()
    asked = request(routing={"session": "s", "strategy": "sticky"})
    choice, live = await stage.ask(asked)
    stage.room.observe(plan_for(asked), choice, stage.trail, live.answer)
    again = await stage.choose(request("Prove it step by step.", routing={"session": "s"}))
    assert again.steps[0].models[0].name == live.model.name
    assert "session" in again.reason


async def test_a_session_of_the_same_name_is_another_tenants_own() -> None:
    stage = Stage()
    asked = request(routing={"session": "s", "models": ["small/mini", "big/opus"], "strategy": "sticky"})
    mine = plan_for(asked)
    theirs = changed(mine, principal=changed(mine.principal, tenant="bolt"))
    for plan, name in ((mine, "small/mini"), (theirs, "big/opus")):
        answered = Attempt(stage.room.catalog.models[name])
        stage.room.observe(plan, await stage.choose(asked), [answered], answer("fine"))
    for plan, name in ((mine, "small/mini"), (theirs, "big/opus")):
        choice = await stage.room.choose(asked, plan, stage.room.resolve(asked, plan))
        assert choice.steps[0].models[0].name == name


async def test_sessions_are_forgotten_from_the_oldest_and_their_names_are_cut() -> None:
    stage = Stage()
    choice = await stage.choose(request())
    for number in range(MOST_SESSIONS + 50):
        asked = request(routing={"session": f"{number:06d}" + "x" * 5000})
        stage.room.observe(plan_for(asked), choice, [Attempt(choice.steps[0].models[0])], answer("fine"))
    kept = stage.room._sessions
    assert len(kept) == MOST_SESSIONS
    assert max(len(name) for _, name in kept) == SESSION_CHARS
    assert next(iter(kept))[1].startswith("000050")


async def test_what_a_request_needs_decides_who_may_answer() -> None:
    rows = {
        "small/blind": {
            "tier": "small",
            "quality": 0.9,
            "price": {"i": "0.1", "o": "0.1"},
            "capabilities": ["streaming"],
        },
        "big/seer": {"tier": "large", "quality": 0.9, "price": {"i": "3", "o": "15"}},
    }
    stage = Stage(rows=rows)
    seen = request(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}])
    assert (await stage.choose(seen)).steps[0].models[0].name == "big/seer"
    tools = request(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    assert (await stage.choose(tools)).steps[0].models[0].name == "big/seer"
    with pytest.raises(InvalidRequest):
        await stage.choose(request("word " * 200_000))


async def test_a_named_model_is_answered_by_no_other() -> None:
    choice = await Stage().choose(request(model="small/mini"))
    assert choice.fallbacks == () and choice.strategy == "fallback"
    allowed = await Stage().choose(request(model="small/mini", routing={"fallbacks": ["big/opus"]}))
    assert [model.name for model in allowed.fallbacks] == ["big/opus"]


async def test_an_unknown_price_is_never_taken_for_free() -> None:
    rows = {
        "mystery/model": {"tier": "large", "quality": 0.99},
        "big/opus": {"tier": "large", "quality": 0.8, "price": {"i": "3", "o": "15"}},
    }
    choice = await Stage(rows=rows).choose(request())
    assert choice.steps[0].models[0].name == "big/opus"
    assert "mystery/model" not in [model.name for model in choice.fallbacks]
    only = await Stage(rows=rows).choose(request(model="mystery/model"))
    assert only.worst_usd is None and only.expected.cost_usd is None
