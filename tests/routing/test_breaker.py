"""Breakers and the stores behind them: one contract, run against memory and the table."""

import asyncio

import pytest

from edgewise.aws import Aws, AwsOptions, Table
from edgewise.clock import FakeClock
from edgewise.errors import UpstreamError, UpstreamRateLimited
from edgewise.routing.breaker import LIMIT, PROBE_S, WINDOW_S, Breakers, MemoryStore, State, Store, StoreError
from edgewise.routing.dynamodb import TableStore
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
    assert not await store.close("m", clock.now()), "it rests"
    assert await store.close("m", clock.now() + 6)
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
    await two.well(MODEL, clock.now())
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


async def test_failures_with_answers_between_them_open_nothing(store: Store, clock: FakeClock) -> None:
    """One call in a hundred always fails somewhere; only failures in a row say that a provider is down."""
    one, two = Breakers(clock, store, believed_s=0), Breakers(clock, store, believed_s=0)
    for _ in range(3 * LIMIT):
        await one.ill(MODEL, DOWN)
        assert await two.may(MODEL)
        await two.well(MODEL, clock.now())
    assert await one.may(MODEL)


async def test_an_answer_that_began_before_the_failures_forgives_none(store: Store, clock: FakeClock) -> None:
    breakers = Breakers(clock, store, believed_s=0)
    began = clock.now()
    for _ in range(LIMIT):
        await clock.advance(1)
        await breakers.ill(MODEL, DOWN)
        await breakers.well(MODEL, began)
    assert not await breakers.may(MODEL)


async def test_a_success_does_not_cut_a_providers_own_wait_short(store: Store, clock: FakeClock) -> None:
    one, two = Breakers(clock, store), Breakers(clock, store)
    await one.ill(MODEL, DOWN)
    assert await two.may(MODEL), "two believes for a while that nothing is wrong but one failure"
    await one.ill(MODEL, UpstreamRateLimited("wait", retry_after_s=30))
    await two.well(MODEL, clock.now())
    assert not await two.may(MODEL)


async def test_who_believes_an_older_state_wins_no_second_probe(store: Store, clock: FakeClock) -> None:
    one, two = Breakers(clock, store), Breakers(clock, store)
    await one.ill(MODEL, UpstreamRateLimited("wait", retry_after_s=1))
    assert not await two.may(MODEL)
    await clock.advance(1.5)
    assert await one.may(MODEL)
    await one.ill(MODEL, DOWN)
    assert not await two.may(MODEL), "the probe has failed, and the model rests again"


async def test_a_probe_whose_client_left_is_no_failure(store: Store, clock: FakeClock) -> None:
    breakers = Breakers(clock, store, believed_s=0)
    await breakers.ill(MODEL, UpstreamRateLimited("wait", retry_after_s=1))
    await clock.advance(WINDOW_S)
    assert await breakers.may(MODEL)
    breakers.left(MODEL)
    await breakers.ill(MODEL, DOWN)
    await clock.advance(PROBE_S + 1)
    assert await breakers.may(MODEL), "one failure is not a failed probe"


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
    await breakers.well(MODEL, clock.now())
    with pytest.raises(StoreError):
        await breakers.store.read("m")
    aws.close()


async def test_latency_rises_at_once_and_falls_slowly(clock: FakeClock) -> None:
    breakers = Breakers(clock)
    assert breakers.latency_ms(MODEL) is None
    breakers.timed(MODEL, 100)
    breakers.timed(MODEL, 1000)
    assert breakers.latency_ms(MODEL) == 1000
    breakers.timed(MODEL, 100)
    fallen = breakers.latency_ms(MODEL)
    assert fallen is not None and 100 < fallen < 1000


async def test_others_are_told_how_long_to_leave_a_model_alone(clock: FakeClock) -> None:
    breakers = Breakers(clock)
    model = Model("p", "m")
    assert await breakers.open_for_s(model.name) == 0
    await breakers.ill(model, UpstreamRateLimited("slow down", retry_after_s=7))
    assert await breakers.open_for_s(model.name) == 7
    await clock.advance(8)
    assert await breakers.open_for_s(model.name) == 0
