"""Labels from many environments become learners that all of them load."""

import pytest

from edgewise.aws import Table
from edgewise.background import Background
from edgewise.clock import FakeClock
from edgewise.routing.dynamodb import LearnTable
from edgewise.routing.knowing import Knowing
from edgewise.routing.learn import Stored
from edgewise.routing.upkeep import fold, learner_of, refresh
from tests.routing.casting import Stage, request
from tests.routing.test_learn import questions

PAIR = "small/mini|big/opus"


@pytest.fixture
def table(state_table: Table, clock: FakeClock) -> LearnTable:
    return LearnTable(state_table, clock)


async def test_labels_of_all_environments_are_folded_once(table: LearnTable, clock: FakeClock) -> None:
    knowing = Knowing()
    for text, gain in questions(30):
        await clock.advance(0.01)
        await table.write(PAIR, knowing.read(text).seen, gain)
    assert (await fold(table))["labels"] == 30
    assert (await fold(table))["labels"] == 0
    stored = await table.load(PAIR)
    assert stored is not None and stored.version == 1 and len(stored.state) < 256_000
    assert learner_of(stored).test.count == 30
    await refresh(knowing, table)
    assert knowing.learners[PAIR].test.count == 30


async def test_a_state_is_written_over_its_own_version_only(table: LearnTable) -> None:
    assert await table.save(PAIR, Stored(b"one", 1, ""))
    assert not await table.save(PAIR, Stored(b"other", 1, ""))
    assert await table.save(PAIR, Stored(b"two", 2, ""))


async def test_expired_states_and_labels_are_not_read(table: LearnTable, clock: FakeClock) -> None:
    knowing = Knowing()
    await table.write(PAIR, knowing.read("how many").seen, 1.0)
    await table.save(PAIR, Stored(b"one", 1, ""))
    await clock.advance(91 * 86_400)
    assert await table.load(PAIR) is None
    assert await table.labels(PAIR, "") == []
    assert await table.pairs() == []


async def test_a_state_that_cannot_be_read_begins_anew() -> None:
    import zlib

    assert learner_of(Stored(zlib.compress(b"\0\0\0\x02{}"), 3, "")).test.count == 0


async def test_a_room_writes_its_labels_and_loads_what_was_folded(table: LearnTable, clock: FakeClock) -> None:
    stage = Stage(clock=clock)
    stage.room.table, stage.room.background = table, Background()
    stage.room.learn(request("How many?"), "small/mini", "big/opus", 1.0)
    await stage.room.background.drain()
    assert not stage.room.knowing.learners
    await fold(table)
    await stage.choose(request("How many?"))
    await stage.room.background.drain()
    assert stage.room.knowing.learners[PAIR].test.count == 1
