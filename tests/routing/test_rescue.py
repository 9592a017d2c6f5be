"""Who may step in, and what is held for it."""

from decimal import Decimal

import pytest

from edgewise.errors import NotAllowed
from edgewise.routing.names import Alias
from tests.routing.casting import ROWS, Stage, request


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


async def test_options_of_the_key_and_the_alias_reach_the_drive() -> None:
    stage = Stage(aliases={"mine": Alias(("small/mini", "other/flash"), {"hedge": True})})
    choice = await stage.choose(request(model="mine"), routing={"max_attempts": 1})
    assert (choice.hedge, choice.max_attempts) == (True, 1)
