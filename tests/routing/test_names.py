import pytest

from edgewise.errors import InvalidRequest, ModelNotFound, NotAllowed
from edgewise.routing.names import Alias
from edgewise.routing.options import parse
from tests.routing.casting import Stage, plan_for, request


def stage() -> Stage:
    return Stage(
        aliases={
            "fast": Alias.of("small/mini"),
            "team": Alias.of(
                {"models": ["middle/chat", "big/opus"], "strategy": "weighted", "weights": {"big/opus": 1}}
            ),
            "house": Alias.of({"models": ["auto"], "prefer": "best"}),
        }
    )


async def test_a_suffix_names_a_strategy_or_a_preference() -> None:
    given = stage()
    assert (await given.choose(request(model="auto:smart-cascade"))).strategy == "smart_cascade"
    assert (await given.choose(request(model="auto:nitro"))).strategy == "lowest_latency"
    cheap = await given.choose(request(model="auto:cheap"))
    best = await given.choose(request(model="auto:best"))
    assert cheap.expected.cost_usd is not None and best.expected.cost_usd is not None
    assert cheap.expected.cost_usd < best.expected.cost_usd


async def test_an_alias_brings_its_models_and_its_options() -> None:
    choice = await stage().choose(request(model="team"))
    assert choice.strategy == "weighted"
    assert choice.steps[0].models[0].name == "big/opus"


async def test_an_alias_of_auto_is_routed() -> None:
    assert (await stage().choose(request(model="house"))).strategy == "hybrid"


async def test_a_models_own_colon_is_not_a_suffix() -> None:
    given = Stage(rows={"ollama/llama3:8b": {"tier": "small", "price": {"i": "1", "o": "1"}}})
    assert (await given.choose(request(model="ollama/llama3:8b"))).steps[0].models[0].id == "llama3:8b"


def test_an_unknown_name_is_told_what_is_missing() -> None:
    asked = request(model="openai/gpt-5")
    with pytest.raises(ModelNotFound, match="No provider 'openai'"):
        stage().room.resolve(asked, plan_for(asked))


def test_a_key_may_ask_auto_and_is_answered_by_what_it_may_use() -> None:
    asked = request()
    target = stage().room.resolve(asked, plan_for(asked, models=("small/*",)))
    assert {model.provider for model in target.models} == {"small"}


def test_a_key_without_any_of_the_models_is_refused() -> None:
    asked = request(model="big/opus")
    with pytest.raises(NotAllowed):
        stage().room.resolve(asked, plan_for(asked, models=("small/*",)))


def test_a_targets_name_changes_with_everything_that_may_change_the_answer() -> None:
    given = stage()

    def name(model: str = "auto", **routing: object) -> str:
        asked = request(model=model, routing=routing)
        return given.room.resolve(asked, plan_for(asked)).name

    assert name() == name(dry_run=True) == name(session="s1")
    assert len({name(), name(prefer="best"), name(strategy="simple"), name("team"), name(only="big")}) == 5
    assert name("big/opus") == "big/opus"


@pytest.mark.parametrize(
    "bad", [{"strategyy": "simple"}, {"strategy": "best-ever"}, {"prefer": "dear"}, {"weights": 3}]
)
def test_an_option_that_means_nothing_is_refused_by_name(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(bad)
    assert caught.value.param == f"routing.{next(iter(bad))}"


def test_later_options_lie_over_earlier_ones() -> None:
    found = parse({"prefer": "best", "hedge": "yes"}, {"prefer": "cheap"}, {"models": "a, b"})
    assert (found.prefer, found.hedge, found.models) == ("cheap", True, ("a", "b"))


def test_what_the_house_prefers_changes_what_auto_stands_for() -> None:
    cheap, best = Stage(), Stage()
    cheap.room.defaults, best.room.defaults = {"prefer": "cheap"}, {"prefer": "best"}
    for model, same in (("auto", False), ("small/mini", True)):
        asked = request(model=model)
        names = {each.room.resolve(asked, plan_for(asked)).name for each in (cheap, best)}
        assert (len(names) == 1) is same
