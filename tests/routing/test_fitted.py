"""Plans fitted to labelled traffic: two subjects, in one of which agreement can be trusted."""

import random

import numpy as np
import pytest

from edgewise.chat import ChatRequest
from edgewise.routing.complexity import weights
from edgewise.routing.fitted import FittedPlans, PlanKey
from edgewise.routing.fitting import MARKET, beats_mix, fitted, hull, lambdas
from edgewise.routing.learn import Learner, Seen
from tests.routing.casting import Stage, request
from tests.routing.test_learn import questions

PLANS = (
    PlanKey(("small/mini",)),
    PlanKey(("big/opus",)),
    PlanKey(("small/mini", "other/flash"), None, "big/opus"),
)
COST = (0.0002, 0.01, 0.003)


def table(count: int, *, learnable: bool = True) -> FittedPlans | None:
    dice, learner = random.Random(5), Learner(weights())
    seen: list[Seen] = []
    quality = []
    for text, _ in questions(count, 5):
        hard = ("theorem" in text or "functor" in text or "lattice" in text) if learnable else dice.random() < 0.5
        seen.append(learner.read(text))
        quality.append(
            [float(dice.random() < (0.3 if hard else 0.92)), float(dice.random() < 0.9), float(dice.random() < 0.88)]
        )
    return fitted(seen, PLANS, np.array(quality), np.tile(COST, (count, 1)), reference=1)


def test_too_few_labels_make_no_table() -> None:
    assert table(100) is None


def test_a_table_holds_the_references_quality_for_less() -> None:
    found = table(600)
    assert found is not None and "less on 600 labels" in found.tested
    learner = Learner(weights())
    easy, _, _ = found.best(learner.read("what is the kitten of a garden with a window"))
    hard, _, _ = found.best(learner.read("what is the theorem of a lattice with a functor"))
    assert easy.first == ("small/mini",) and easy.strong is None
    assert hard != easy


def test_a_table_needs_a_reference_to_beat() -> None:
    learner = Learner(weights())
    seen = [learner.read(text) for text, _ in questions(200)]
    quality = np.tile([0.0, 1.0, 0.0], (200, 1))
    assert fitted(seen, PLANS, quality, np.tile(COST, (200, 1)), reference=1) is None


async def test_a_room_with_a_table_uses_it_where_answers_can_be_compared() -> None:
    stage = Stage()
    stage.room.knowing.plans = table(600)
    choice = await stage.choose(request("what is the kitten of a garden with a window"))
    assert choice.reason.startswith("fitted plan")
    assert choice.expected.quality == pytest.approx(0.9, abs=0.15)
    assert any(row["chosen"] for row in choice.considered)
    other = await stage.choose(request("what is the kitten of a window", model="auto:simple"))
    assert other.strategy == "simple"


async def test_a_table_of_models_that_are_not_candidates_is_silent() -> None:
    stage = Stage(rows={"small/mini": {"tier": "small", "price": {"i": "1", "o": "1"}},
                        "new/model": {"tier": "large", "quality": 0.99, "price": {"i": "2", "o": "2"}}})  # fmt: skip
    found = table(600)
    assert found is not None
    stage.room.knowing.plans = FittedPlans((PLANS[1],), found.lam, found.base[:1], found.weights[:1], found.rarity, "t")
    choice = await stage.choose(ChatRequest({"model": "auto", "messages": [{"role": "user", "content": "hello"}]}))
    assert not choice.reason.startswith("fitted")


def test_models_that_differ_in_price_alone_beat_no_random_mix() -> None:
    dice, learner = random.Random(8), Learner(weights())
    seen = [learner.read(text) for text, _ in questions(400)]
    quality = np.array([[float(dice.random() < chance) for chance in (0.6, 0.9)] for _ in seen])
    assert fitted(seen, PLANS[:2], quality, np.tile(COST[:2], (400, 1)), reference=1) is None


def test_a_dollar_is_never_asked_to_buy_much_more_than_at_the_top_of_the_market() -> None:
    quality, cost = np.array([0.5, 0.8, 0.9]), np.array([1.0, 2.0, 10.0])
    assert lambdas(quality, cost).max() == pytest.approx(MARKET * 0.1 / 8)
    assert len(hull(quality, cost)) == 3 and hull(np.array([0.9, 0.8]), np.array([1.0, 2.0])) == [0]


def test_a_mix_of_equal_cost_is_what_must_be_beaten() -> None:
    dice = np.random.default_rng(4)
    models = (dice.random((2000, 2)) < (0.5, 0.9)).astype(float)
    cost = np.tile((1.0, 9.0), (2000, 1))
    halfway = np.where(dice.random(2000) < 0.5, models[:, 0], models[:, 1])
    assert not beats_mix(halfway, 5.0, models, cost)
    assert beats_mix((dice.random(2000) < 0.8).astype(float), 5.0, models, cost)
