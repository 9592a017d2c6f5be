"""Who may step in, and what is held for it."""

from decimal import Decimal

import pytest

from edgewise.errors import NotAllowed
from edgewise.routing.names import Alias
from tests.routing.casting import ROWS, Stage, answer, request


async def test_a_restricted_key_cannot_name_other_models_in_its_options() -> None:
    """Neither in place of the model that it may use, nor for when that one fails."""
    for option in ("models", "fallbacks", "context_fallbacks", "content_fallbacks"):
        for allowed in (("small/*",), ("cheap", "small/*")):
            stage = Stage(aliases={"cheap": Alias(("small/mini",))})
            asked = request(model="cheap" if "cheap" in allowed else "small/mini", routing={option: ["big/opus"]})
            with pytest.raises(NotAllowed):
                await stage.choose(asked, models=allowed)


async def test_the_same_model_elsewhere_is_left_out_where_the_key_or_the_request_rules_it_out() -> None:
    rows = {**ROWS, "twin/mini": {**ROWS["small/mini"], "price": {"i": "9", "o": "9"}}}
    stage = Stage(rows=rows)
    whole = await stage.choose(request(model="small/mini"))
    assert [m.name for m in whole.fallbacks] == ["twin/mini"]
    assert whole.worst_usd is not None and whole.worst_usd > Decimal("0.009"), "the dearer twin is held for"
    assert (await stage.choose(request(model="small/mini"), models=("small/*",))).fallbacks == ()
    assert (await stage.choose(request(model="small/mini", routing={"only": ["small"]}))).fallbacks == ()


async def test_what_steps_in_is_held_for_and_of_unknown_price_makes_the_whole_unknown() -> None:
    stage = Stage(rows={**ROWS, "odd/new": {"tier": "small", "quality": 0.7, "price": None, "latency_ms": 400}})
    alone = await stage.choose(request(model="small/mini"))
    for option in ("fallbacks", "context_fallbacks", "content_fallbacks"):
        dear = await stage.choose(request(model="small/mini", routing={option: ["big/opus"]}))
        assert alone.worst_usd is not None and dear.worst_usd is not None and dear.worst_usd > 10 * alone.worst_usd
        assert "big/opus" in {m.name for m in dear.models}
        assert (await stage.choose(request(model="small/mini", routing={option: ["odd/new"]}))).worst_usd is None


async def test_only_who_may_step_in_is_held_for() -> None:
    """A list whose models may not stand in for one another costs no more than the one that answers."""
    stage = Stage(aliases={"pair": Alias(("small/mini", "big/opus")), "own": Alias(("small/mini",))})
    alone = (await stage.choose(request(model="own"))).worst_usd
    dear = (await stage.choose(request(model="big/opus"))).worst_usd
    both = await stage.choose(request(model="pair"))
    assert alone is not None and dear is not None and both.worst_usd == dear > 10 * alone
    for routing, worst in (
        ({"allow_fallbacks": False}, alone),
        ({"fallbacks": ["other/flash"]}, alone),
        ({"allow_fallbacks": False, "context_fallbacks": ["big/opus"]}, dear),
        ({"allow_fallbacks": False, "content_fallbacks": ["big/opus"]}, alone + dear),
        ({"hedge": True}, 2 * dear),
        ({"allow_fallbacks": False, "hedge": True}, alone),
    ):
        found = await stage.choose(request(model="pair", routing=routing))
        assert found.worst_usd == worst, routing
    for strategy in ("cascading", "confidence", "hybrid", "simple", "cost_aware"):
        free = await stage.choose(request(model=f"auto:{strategy}"))
        strict = await stage.choose(request(model=f"auto:{strategy}", routing={"allow_fallbacks": False}))
        asked = [m.name for step in strict.steps for m in step.models]
        assert free.worst_usd is not None and strict.worst_usd == await _together(stage, asked) <= free.worst_usd


async def _together(stage: Stage, names: list[str]) -> Decimal:
    """What these models cost at most, each asked by its name and nobody in its place."""
    alone = [await stage.choose(request(model=name, routing={"allow_fallbacks": False})) for name in names]
    return sum((choice.worst_usd for choice in alone if choice.worst_usd is not None), Decimal(0))


async def test_what_a_list_has_of_unknown_price_is_not_asked_under_a_budget() -> None:
    rows = {**ROWS, "odd/new": {"tier": "small", "quality": 0.7, "price": None, "latency_ms": 400}}
    stage = Stage(rows=rows, aliases={"pair": Alias(("small/mini", "odd/new"))})
    free, held = await stage.choose(request(model="pair")), await stage.choose(request(model="pair"), capped=True)
    assert ([m.name for m in free.fallbacks], free.worst_usd) == (["odd/new"], None)
    assert held.fallbacks == () and held.worst_usd is not None


async def test_every_answer_that_a_filter_cut_is_held_for() -> None:
    stage = Stage()
    listed = {"content_fallbacks": ["other/flash", "middle/chat"], "allow_fallbacks": False}
    choice = await stage.choose(request(model="small/mini", routing=listed))
    cut = answer("", finish="content_filter")
    stage.caller.script = lambda _: cut
    _, live = await stage.ask(request(model="small/mini", routing=listed))
    assert live.answer is not None and len(stage.trail) == 3
    assert choice.worst_usd == await _together(stage, [model.name for model in choice.models])


async def test_options_of_the_key_and_the_alias_reach_the_drive() -> None:
    stage = Stage(aliases={"mine": Alias(("small/mini", "other/flash"), {"hedge": True})})
    choice = await stage.choose(request(model="mine"), routing={"max_attempts": 1})
    assert (choice.hedge, choice.max_attempts) == (True, 1)
