"""Breakers and the stores behind them: one contract, run against memory and the table."""

import asyncio

import pytest

from edgewise.aws import Aws, AwsOptions, Table
from edgewise.clock import FakeClock
from edgewise.errors import UpstreamError, UpstreamRateLimited
from edgewise.routing.breaker import LIMIT, PROBE_S, WINDOW_S, Breakers, MemoryStore, State, Store, StoreError
from edgewise.routing.dynamodb import TableStore, load_overrides, save_override
from edgewise.words import Model

MODEL = Model("p", "m")
DOWN = UpstreamError("down")


@pytest.fixture(params=["memory", "table"])
def store(request: pytest.FixtureRequest, clock: FakeClock) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return TableStore(request.getfixturevalue("state_table"), clock)


async def test_failures_are_counted_within_their_window(store: Store, clock: FakeClock) -> None:
    assert await store.read("m") == State()
    assert (await store.fail("m", clock.now())).failures == 1
    assert (await store.fail("m", clock.now() + 1)).failures == 2
    assert (await store.fail("m", clock.now() + WINDOW_S + 2)).failures == 1


async def test_of_many_that_would_probe_one_wins(store: Store, clock: FakeClock) -> None:
    await store.open("m", clock.now() - 1, 1)
    won = await asyncio.gather(*(store.probe("m", clock.now(), clock.now() + 10) for _ in range(8)))
    assert sum(won) == 1
    assert await store.probe("m", clock.now() + 11, clock.now() + 20)


async def test_opening_and_closing_are_seen_by_all(store: Store, clock: FakeClock) -> None:
    await store.open("m", clock.now() + 5, 2)
    found = await store.read("m")
    assert found.open_until == clock.now() + 5 and found.opened == 2
    await store.close("m")
    assert (await store.read("m")).open_until == 0


async def test_a_breaker_opens_probes_and_closes_for_every_environment(store: Store, clock: FakeClock) -> None:
    one, two = Breakers(clock, store, believed_s=0), Breakers(clock, store, believed_s=0)
    for _ in range(LIMIT):
        assert await one.may(MODEL)
        await one.ill(MODEL, DOWN)
    assert not await two.may(MODEL)
    await clock.advance(5.1)
    assert await two.may(MODEL)
    assert not await one.may(MODEL)
    await two.well(MODEL, 100)
    assert await one.may(MODEL)


async def test_a_probe_that_fails_opens_for_longer(store: Store, clock: FakeClock) -> None:
    breakers = Breakers(clock, store, believed_s=0)
    for _ in range(LIMIT):
        await breakers.ill(MODEL, DOWN)
    await clock.advance(5.1)
    assert await breakers.may(MODEL)
    await breakers.ill(MODEL, DOWN)
    await clock.advance(5.1)
    assert not await breakers.may(MODEL)
    await clock.advance(5.1)
    assert await breakers.may(MODEL)


async def test_a_probe_that_was_lost_is_tried_again_by_another(store: Store, clock: FakeClock) -> None:
    one, two = Breakers(clock, store, believed_s=0), Breakers(clock, store, believed_s=0)
    await one.ill(MODEL, UpstreamRateLimited("wait", retry_after_s=1.0))
    await clock.advance(1.1)
    assert await one.may(MODEL)
    assert not await two.may(MODEL)
    await clock.advance(PROBE_S + 0.1)
    assert await two.may(MODEL)


async def test_a_providers_retry_after_decides_how_long(store: Store, clock: FakeClock) -> None:
    breakers = Breakers(clock, store, believed_s=0)
    await breakers.ill(MODEL, UpstreamRateLimited("wait", retry_after_s=7.0))
    await clock.advance(6.9)
    assert not await breakers.may(MODEL)
    await clock.advance(0.2)
    assert await breakers.may(MODEL)


async def test_what_the_store_said_is_believed_for_a_few_seconds(clock: FakeClock) -> None:
    reads: list[str] = []

    class Counting(MemoryStore):
        async def read(self, name: str) -> State:
            reads.append(name)
            return await MemoryStore.read(self, name)

    breakers = Breakers(clock, Counting())
    for _ in range(50):
        await breakers.may(MODEL)
    assert len(reads) == 1
    await clock.advance(3.1)
    await breakers.may(MODEL)
    assert len(reads) == 2


async def test_a_store_that_does_not_answer_leaves_every_model_open_for_calls(clock: FakeClock) -> None:
    aws = Aws(AwsOptions(region="us-east-1", endpoint_url="http://127.0.0.1:9", access_key_id="x",
                         secret_access_key="x", max_attempts=1, connect_timeout_s=0.2))  # fmt: skip
    breakers = Breakers(clock, TableStore(Table(aws, "none"), clock), believed_s=0)
    assert await breakers.may(MODEL)
    await breakers.ill(MODEL, DOWN)
    await breakers.well(MODEL, 1.0)
    with pytest.raises(StoreError):
        await breakers.store.read("m")
    aws.close()


async def test_latency_rises_at_once_and_falls_slowly(clock: FakeClock) -> None:
    breakers = Breakers(clock)
    assert breakers.latency_ms(MODEL) is None
    await breakers.well(MODEL, 100)
    await breakers.well(MODEL, 1000)
    assert breakers.latency_ms(MODEL) == 1000
    await breakers.well(MODEL, 100)
    fallen = breakers.latency_ms(MODEL)
    assert fallen is not None and 100 < fallen < 1000


async def test_overrides_of_the_catalogue_are_kept_in_the_table(state_table: Table) -> None:
    row = {"tier": "large", "price": {"i": "1", "o": "2"}}
    await save_override(state_table, "openai/own", row)
    assert await load_overrides(state_table) == {"openai/own": row}


async def test_others_are_told_how_long_to_leave_a_model_alone(clock: FakeClock) -> None:
    breakers = Breakers(clock)
    model = Model("p", "m")
    assert await breakers.open_for_s(model.name) == 0
    await breakers.ill(model, UpstreamRateLimited("slow down", retry_after_s=7))
    assert await breakers.open_for_s(model.name) == 7
    await clock.advance(8)
    assert await breakers.open_for_s(model.name) == 0
