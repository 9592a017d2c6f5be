"""Labels from many environments become the states that all of them load."""

import random
import zlib
from dataclasses import replace

import pytest

from edgewise.aws import Table
from edgewise.background import Background
from edgewise.chat import CacheAsk
from edgewise.clock import FakeClock
from edgewise.routing.dynamodb_learn import LearnTable
from edgewise.routing.fitted import FittedPlans
from edgewise.routing.guarantee import RECENT
from edgewise.routing.knowing import Knowing
from edgewise.routing.labels import Asked, Label, Panel
from edgewise.routing.learn import Stored
from edgewise.routing.learning import Learning
from edgewise.routing.upkeep import fold, learner_of
from tests.routing.casting import Stage, plan_for, request
from tests.routing.test_fitted import table as plans_of
from tests.routing.test_learn import questions

PAIR = "small/mini|big/opus"
NUMBERS = "How many of 120 apples are left after 3 friends take 7 each?"


@pytest.fixture
def table(state_table: Table, clock: FakeClock) -> LearnTable:
    return LearnTable(state_table, clock)


def environment(table: LearnTable, clock: FakeClock) -> tuple[Stage, Learning]:
    """A room of one environment over the shared table."""
    stage = Stage(clock=clock, table=table, background=Background())
    return stage, stage.room.learning


async def test_labels_of_all_environments_are_folded_once(table: LearnTable, clock: FakeClock) -> None:
    knowing = Knowing()
    for number, (text, gain) in enumerate(questions(30)):
        await clock.advance(0.01)
        await table.write(PAIR, Label(knowing.read(text).seen, gain, "acme", drawn=number < 20))
    assert (await fold(table))["labels"] == 30
    assert (await fold(table))["labels"] == 0
    stored = await table.load(PAIR)
    assert stored is not None and stored.version == 1 and len(stored.state) < 256_000
    assert learner_of(stored).test.count == 30
    assert len(await table.proof(PAIR, "acme")) == 20
    stage, learning = environment(table, clock)
    await learning.load()
    assert stage.room.knowing.learners[PAIR].test.count == 30


async def test_what_was_proved_before_a_change_never_counts_again(table: LearnTable, clock: FakeClock) -> None:
    """However long ago it was and however good the labels are that came since, also where it is loaded anew."""
    seen = Knowing().read(NUMBERS).seen
    await table.save_proof(PAIR, "acme", [(0.5, 0.0)] * 400)
    held = []
    for gains in ([0.0] * 30 + [1.0] * RECENT, [0.0] * RECENT, [0.0] * RECENT):
        for gain in gains:
            await clock.advance(0.01)
            await table.write(PAIR, Label(seen, gain, "acme", drawn=True))
        await fold(table)
        held.append([gain for _, gain in await table.proof(PAIR, "acme")])
    assert held == [[1.0] * RECENT + [0.0] * RECENT * times for times in range(3)]
    stage, learning = environment(table, clock)
    await learning._load_proof(PAIR, "acme")
    assert [gain for _, gain in stage.room.knowing.proofs[PAIR, "acme"]] == held[-1]


async def test_and_where_no_table_gathers_them_a_process_forgets_what_was_before_a_change() -> None:
    knowing = Knowing()
    seen = knowing.read(NUMBERS).seen
    knowing.prove(PAIR, "acme", [(0.5, 0.0)] * 400)
    for gain in (1.0, 0.0, 0.0):
        for _ in range(RECENT):
            knowing.learn(PAIR, Label(seen, gain, "acme", drawn=True))
    assert [gain for _, gain in knowing.proofs[PAIR, "acme"]] == [1.0] * RECENT + [0.0] * RECENT * 2


async def test_a_state_is_read_again_only_when_its_version_has_changed(table: LearnTable, clock: FakeClock) -> None:
    _, learning = environment(table, clock)
    await table.save(PAIR, Stored(zlib.compress(b"\0\0\0\x02{}"), 1, ""))
    await learning.load()
    first = learning.knowing.learners[PAIR]
    await learning.load()
    assert learning.knowing.learners[PAIR] is first
    await table.save(PAIR, Stored(first.dump(), 2, ""))
    await learning.load()
    assert learning.knowing.learners[PAIR] is not first


async def test_a_state_is_written_over_its_own_version_only(table: LearnTable) -> None:
    assert await table.save(PAIR, Stored(b"one", 1, ""))
    assert not await table.save(PAIR, Stored(b"other", 1, ""))
    assert await table.save(PAIR, Stored(b"two", 2, ""))


async def test_expired_states_and_labels_are_not_read(table: LearnTable, clock: FakeClock) -> None:
    seen = Knowing().read("how many").seen
    await table.write(PAIR, Label(seen, 1.0))
    await table.save(PAIR, Stored(b"one", 1, ""))
    await table.save_proof(PAIR, "acme", [(0.5, 1.0)])
    await table.write_panel(Panel(seen, {"a": (0, 0.1)}))
    await table.remember("req_1", Asked(seen, "small/mini", ("small/mini", "big/opus"), "acme"))
    await clock.advance(91 * 86_400)
    assert await table.load(PAIR) is None
    assert await table.labels(PAIR, "") == []
    assert await table.versions() == {} and await table.panels() == []
    assert await table.proof(PAIR, "acme") == [] and await table.recall("acme", "req_1") is None


async def test_a_state_that_cannot_be_read_begins_anew() -> None:
    assert learner_of(Stored(zlib.compress(b"\0\0\0\x02{}"), 3, "")).test.count == 0


async def test_an_opinion_finds_its_question_once_and_only_in_its_own_tenant(
    table: LearnTable, clock: FakeClock
) -> None:
    _, learning = environment(table, clock)
    seen = learning.knowing.read("how many").seen
    await table.remember("req_1", Asked(seen, "small/mini", ("small/mini", "big/opus"), "acme"))
    assert not await learning.told("bolt", "req_1", -1.0)
    assert await learning.told("acme", "req_1", -1.0)
    assert not await learning.told("acme", "req_1", 1.0)
    ((_, label),) = await table.labels(PAIR, "")
    assert label.gain == pytest.approx(0.6) and not label.drawn and label.question.places == seen.places


@pytest.mark.parametrize(
    ("served", "score", "gain"),
    [("weak", -1.0, 0.6), ("weak", -0.5, 0.3), ("weak", 1.0, 0.0), ("strong", -1.0, 0.0), ("strong", 1.0, None),
     ("weak", 0.0, None), ("other", -1.0, None)],
)  # fmt: skip
def test_an_opinion_says_only_what_it_can_of_the_pair(served: str, score: float, gain: float | None) -> None:
    label = Asked(Knowing().read("x").seen, served, ("weak", "strong"), "acme").label(score)
    assert (label.gain if label else None) == (None if gain is None else pytest.approx(gain))


async def test_of_a_request_that_must_not_be_stored_nothing_is_remembered(
    table: LearnTable, clock: FakeClock, state_table: Table
) -> None:
    stage, _ = environment(table, clock)
    asked = replace(request(NUMBERS, routing={"shadow": 1.0, "strategy": "simple"}), cache=CacheAsk(no_store=True))
    assert await stage.follow_up(asked, *await stage.ask(asked)) is None
    assert [row async for row in state_table.query("ask#acme#req_1")] == []


async def test_past_a_soft_limit_no_money_is_spent_on_learning(table: LearnTable, clock: FakeClock) -> None:
    stage, _ = environment(table, clock)
    asked = request(NUMBERS, routing={"shadow": 1.0, "strategy": "simple", "prefer": "best"})
    choice, live = await stage.ask(asked)
    assert stage.room.follow_up(plan_for(asked, prefer_cheap=True), choice, live, "req_1") is None
    assert stage.room.follow_up(plan_for(asked), choice, live, "req_2") is not None
    assert stage.background is not None
    await stage.background.drain()


def panels(count: int) -> list[Panel]:
    """Two cheap models that agree, and are right, on one subject only; each knows the strong one's answer there."""
    dice, knowing = random.Random(7), Knowing()
    found = []
    for text, _ in questions(count, 7):
        easy = any(word in text for word in ("apple", "bread", "garden"))
        right = dice.random() < (0.97 if easy else 0.3)
        said = {"small/mini": (0 if right else 1, 0.0002), "other/flash": (0 if right else 2, 0.0001),
                "big/opus": (0, 0.01)}  # fmt: skip
        found.append(Panel(knowing.read(text).seen, said, "small/mini", "prior"))
    return found


async def test_panels_become_plans_that_every_environment_uses(table: LearnTable, clock: FakeClock) -> None:
    stage, learning = environment(table, clock)
    for panel in panels(200):
        await clock.advance(0.01)
        await table.write_panel(panel)
    assert "less on 200 labels" in (await fold(table))["plans"]
    assert (await fold(table))["plans"] == "nothing new"
    await table.write_panel(panels(1)[0])
    assert (await fold(table))["plans"] == "waits for more than 1 new"
    await learning.load()
    choice = await stage.choose(request("How many apples of a garden with a bread make 12?"))
    assert choice.reason.startswith("fitted plan")
    good, count = stage.room.knowing.counts.seen["small/mini prior"]
    assert count == 200 and 0 < good < 200


async def test_too_few_panels_make_no_plans_but_are_counted(table: LearnTable, clock: FakeClock) -> None:
    for panel in panels(5):
        await clock.advance(0.01)
        await table.write_panel(panel)
    assert "no plan holds" in (await fold(table))["plans"]
    stage, learning = environment(table, clock)
    await learning.load()
    assert stage.room.knowing.plans is None and stage.room.knowing.counts.seen


def test_a_table_of_plans_comes_back_nearly_the_same() -> None:
    found = plans_of(600)
    assert found is not None
    state = found.dump()
    again = FittedPlans.load(state)
    seen = Knowing().read("what is the theorem of a garden with a functor").seen
    for (_, quality, cost), (_, other, paid) in zip(found.worth(seen), again.worth(seen), strict=True):
        assert other == pytest.approx(quality, abs=0.01) and paid == pytest.approx(cost, rel=0.05)
    assert len(state) < 150_000 and again.tested == found.tested
    with pytest.raises(ValueError, match="version"):
        FittedPlans.load(zlib.compress(b"\0\0\0\x02{}"))


async def test_a_panel_is_asked_behind_the_answer_and_teaches_all(table: LearnTable, clock: FakeClock) -> None:
    stage, _ = environment(table, clock)
    stage.caller.script = lambda model: "97" if model.name == "other/flash" else "99"
    asked = request(NUMBERS, routing={"shadow": 1.0, "strategy": "simple", "prefer": "best"})
    choice, live = await stage.ask(asked)
    assert stage.caller.asked == [live.model.name]
    await stage.follow_up(asked, choice, live)
    assert sorted(stage.caller.asked) == ["big/opus", "other/flash", "small/mini"]
    ((_, panel),) = await table.panels()
    assert panel.said["big/opus"][0] == panel.said["small/mini"][0] != panel.said["other/flash"][0]
    assert panel.right() == {"small/mini": True, "big/opus": True, "other/flash": False}
    await fold(table)
    assert len(await table.proof("other/flash|big/opus", "acme")) == 1
