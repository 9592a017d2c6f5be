import random

import pytest

from edgewise.routing.complexity import weights
from edgewise.routing.guarantee import RECENT, operating_point, since_the_change
from edgewise.routing.learn import PLACES, Learner, PairedTest

HARD = ("theorem", "lattice", "isomorphism", "manifold", "cohomology", "functor")
EASY = ("apple", "bread", "garden", "window", "kitten", "summer")


def questions(count: int, seed: int = 1) -> list[tuple[str, float]]:
    """Questions of two subjects; the strong model gains on one of them only."""
    dice = random.Random(seed)
    found = []
    for _ in range(count):
        hard = dice.random() < 0.5
        words = dice.sample(HARD if hard else EASY, 3)
        gain = float(dice.random() < (0.6 if hard else 0.05))
        found.append((f"what is the {words[0]} of a {words[1]} with a {words[2]}", gain))
    return found


def taught(count: int) -> Learner:
    learner = Learner(weights())
    for text, gain in questions(count):
        seen = learner.read(text)
        learner.see(seen)
        learner.learn(seen, gain)
    return learner


def test_a_subject_where_the_strong_model_gains_is_recognised() -> None:
    learner = taught(300)
    hard = learner.gain(learner.read("what is the cohomology of a lattice with a functor"))
    easy = learner.gain(learner.read("what is the kitten of a garden with a window"))
    assert hard > 0.35 and easy < 0.25
    assert learner.test.serving and "passed on 300 labels" in learner.test.reason()


def test_labels_dealt_at_random_never_serve() -> None:
    served = 0
    for seed in range(8):
        learner, dice = Learner(weights()), random.Random(seed)
        for text, _ in questions(200, seed):
            seen = learner.read(text)
            learner.learn(seen, float(dice.random() < 0.3))
        served += learner.test.serving
    assert served <= 1


def test_over_all_its_looks_chance_passes_less_than_once_in_twenty() -> None:
    dice, runs = random.Random(11), 400
    passed = 0
    for _ in range(runs):
        test = PairedTest()
        for _ in range(800):
            test.add(dice.gauss(0.0, 1.0), float(dice.random() < 0.2))
        passed += test.serving
    assert passed / runs <= 0.05 + 0.02  # two standard errors of 400 runs


def test_what_is_learned_of_the_mean_gain_does_not_count_against_the_ranking() -> None:
    earned = []
    for seed in range(10):
        learner, dice = Learner(weights()), random.Random(100 + seed)
        for text, _ in questions(200, seed):
            seen = learner.read(text)
            learner.see(seen)
            learner.learn(seen, float(dice.random() < 0.3))
        mean, square = learner.test.earned()
        earned.append(mean / ((square - mean * mean) / 200) ** 0.5)
    assert sum(earned) / len(earned) > -0.5


def test_after_a_change_it_is_proved_anew() -> None:
    test = PairedTest()
    for number in range(400):
        test.add(float(number % 2), float(number % 2))
    for number in range(400):
        test.add(float(number % 2), float(1 - number % 2))
    assert not test.serving and test.count < 400
    for number in range(800):
        test.add(float(number % 2), float(number % 2))
    assert test.serving


def test_a_test_that_turned_stops_serving() -> None:
    test = PairedTest()
    for number in range(300):
        test.add(float(number % 2), float(number % 2))
    assert test.serving
    for number in range(400):
        test.add(float(number % 2), float(1 - number % 2))
    assert not test.serving


def test_the_state_fits_an_item_and_comes_back_the_same() -> None:
    learner = taught(150)
    state = learner.dump()
    assert len(state) < 256_000 and 3 * 4 * PLACES < 256_000
    again = Learner.load(state, weights())
    text = "what is the theorem of a garden with a functor"
    assert again.gain(again.read(text)) == pytest.approx(learner.gain(learner.read(text)), abs=1e-6)
    assert again.test.reason() == learner.test.reason()


def test_a_state_of_another_version_is_refused() -> None:
    import json
    import zlib

    text = json.dumps({"version": 0}).encode()
    with pytest.raises(ValueError, match="version"):
        Learner.load(zlib.compress(len(text).to_bytes(4, "big") + text), weights())


def test_a_guarantee_is_chosen_by_a_bound_and_kept_on_fresh_questions() -> None:
    dice = random.Random(3)

    def drawn(count: int) -> tuple[list[float], list[float]]:
        scores = [dice.random() for _ in range(count)]
        return scores, [float(dice.random() < 0.5 * max(0.0, score - 0.4)) for score in scores]

    broken = 0
    for _ in range(40):
        found = operating_point(*drawn(600), delta=0.02)
        assert found is not None and found.strong_share < 1
        scores, gains = drawn(4000)
        lost = sum(g for s, g in zip(scores, gains, strict=True) if s < found.threshold) / len(scores)
        broken += lost > 0.02
    assert broken <= 4


def test_a_guarantee_needs_labels() -> None:
    assert operating_point([0.5] * 10, [0.0] * 10, delta=0.1) is None


def test_a_guarantee_that_nothing_meets_is_none() -> None:
    assert operating_point([n / 100 for n in range(100)], [1.0] * 100, delta=0.01) is None


def test_a_promise_is_open_again_when_the_traffic_turns_and_seldom_else() -> None:
    alarms = found = off = 0
    for seed in range(100):
        dice = random.Random(seed)
        calm = [(dice.random(), float(dice.random() < 0.05)) for _ in range(500)]
        alarms += since_the_change(calm) is not calm
        turned = [*calm, *((dice.random(), float(dice.random() < 0.4)) for _ in range(RECENT))]
        kept = since_the_change(turned)
        found += kept is not turned
        off += abs(len(kept) - RECENT)
    assert alarms <= 5 and found >= 98 and off / 100 < 10


def test_a_turn_takes_with_it_the_good_labels_from_before() -> None:
    """As labels come one by one it is seen while most of the newest are still from before it. Of a window of `RECENT`,
    twenty would go on counting."""
    left = 0
    for seed in range(40):
        dice = random.Random(seed)
        proof = [(dice.random(), float(dice.random() < 0.05)) for _ in range(500)]
        old = len(proof)
        for _ in range(200):
            longer = [*proof, (dice.random(), float(dice.random() < 0.25))]
            proof = since_the_change(longer)
            old = max(0, old - (len(longer) - len(proof)))
        left += old
    assert left / 40 < 10
