"""One call for many askers, across processes: two rooms with one table behave as one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edgewise.aws import Table
from edgewise.cache.build import near_of, room_of, store_of
from edgewise.cache.dynamodb_meeting import DynamoLeases, DynamoRules
from edgewise.cache.lease import Leases, LocalLeases, Patience, Taken, follow
from edgewise.cache.local import LocalStore
from edgewise.cache.options import CacheOptions
from edgewise.cache.port import StoreError
from edgewise.cache.purge import Rule
from edgewise.cache.room import CacheRoom
from edgewise.clock import Clock, FakeClock, SystemClock
from edgewise.errors import UpstreamRefused, UpstreamTimeout
from edgewise.words import Hit, Miss
from tests.cache.parts import ATTEMPT, answer_of, key_of, plan_of, query_of

KEY = key_of("a")


@pytest.fixture(params=["local", "dynamodb"])
def leases(request: pytest.FixtureRequest) -> Leases:
    if request.param == "local":
        return LocalLeases()
    return DynamoLeases(request.getfixturevalue("cache_table"))


class TestEveryLease:
    async def test_only_one_takes_it(self, leases: Leases) -> None:
        """Of eight at once exactly one leads."""
        taken = await asyncio.gather(*(leases.take("acme", KEY, 100.0, 110.0) for _ in range(8)))
        assert sum(t is not None for t in taken) == 1

    async def test_a_silent_leader_loses_it(self, leases: Leases) -> None:
        """After its time somebody else leads, with a later generation, and the first can neither renew nor tell."""
        first = await leases.take("acme", KEY, 100.0, 110.0)
        assert first is not None
        assert await leases.take("acme", KEY, 110.0, 120.0) is None
        second = await leases.take("acme", KEY, 110.5, 120.0)
        assert second is not None
        assert second.gen > first.gen
        assert not await leases.renew("acme", KEY, first.gen, 200.0)
        await leases.tell("acme", KEY, first.gen, "kept", None, 200.0)
        found = await leases.read("acme", KEY)
        assert found is not None
        assert (found.gen, found.news) == (second.gen, "")

    async def test_renewing_keeps_it(self, leases: Leases) -> None:
        first = await leases.take("acme", KEY, 100.0, 110.0)
        assert first is not None
        assert await leases.renew("acme", KEY, first.gen, 130.0)
        assert await leases.take("acme", KEY, 120.0, 140.0) is None

    async def test_tells_what_became_of_it(self, leases: Leases) -> None:
        """News, and an answer if one is handed on, until the next leader takes over and hears of it."""
        first = await leases.take("acme", KEY, 100.0, 110.0)
        assert first is not None
        await leases.tell("acme", KEY, first.gen, "handed", b"answer", 111.0)
        found = await leases.read("acme", KEY)
        assert found is not None
        assert (found.news, found.packed) == ("handed", b"answer")
        assert await leases.take("acme", KEY, 101.0, 112.0) == Taken(first.gen + 1, "handed")
        found = await leases.read("acme", KEY)
        assert found is not None
        assert (found.news, found.packed) == ("", None)

    async def test_generations_outlive_the_lease(self, leases: Leases) -> None:
        """A lease that was forgotten starts above every earlier generation: it counts from the clock."""
        first = await leases.take("acme", KEY, 100.0, 110.0)
        later = await leases.take("acme", key_of("b"), 200.0, 210.0)
        assert first is not None
        assert later is not None
        assert later.gen > first.gen + 1_000

    async def test_keys_and_scopes_apart(self, leases: Leases) -> None:
        for scope, key in (("acme", KEY), ("acme", key_of("b")), ("umbrella", KEY)):
            assert await leases.take(scope, key, 100.0, 110.0) is not None


PATIENCE = Patience(lease_s=9, follow_s=60)


async def test_a_follower_hears_the_news(clock: FakeClock) -> None:
    """It looks again and again, and returns what it is told."""
    leases = LocalLeases()
    first = await leases.take("acme", KEY, clock.now(), clock.now() + 9)
    assert first is not None
    waiting = asyncio.ensure_future(follow(leases, clock, "acme", KEY, PATIENCE))
    await clock.advance(2)
    assert not waiting.done()
    await leases.tell("acme", KEY, first.gen, "kept", None, clock.now() + 9)
    await clock.advance(1)
    assert waiting.result() == "kept"


async def test_a_follower_notices_a_dead_leader(clock: FakeClock) -> None:
    """A lease that has run out means that somebody else may lead."""
    leases = LocalLeases()
    await leases.take("acme", KEY, clock.now(), clock.now() + 9)
    waiting = asyncio.ensure_future(follow(leases, clock, "acme", KEY, PATIENCE))
    await clock.advance(8)
    assert not waiting.done()
    await clock.advance(2)
    assert waiting.result() == "failed"


def rooms_on(clock: Clock, count: int, table: Table | None = None, patience: Patience = PATIENCE) -> list[CacheRoom]:
    """Rooms that share a store and leases, as processes do."""
    # However slow a stand-in under load is, its answer is waited for: who gives up on it calls alone.
    options = CacheOptions(patience=patience, timeout_s=30.0)
    store = store_of(clock, table, None, 350_000)
    if table is not None:
        return [room_of(clock, options, near_of(clock, "lru", 99, 99_999), store, table=table) for _ in range(count)]
    leases = LocalLeases()
    return [CacheRoom(clock, options, near_of(clock, "lru", 99, 99_999), store, leases=leases) for _ in range(count)]


class TestRoomsTogether:
    async def test_the_others_get_the_leaders_answer(self, clock: FakeClock) -> None:
        """Four rooms, ten askers each: one is told to call, thirty-nine get its answer."""
        rooms = rooms_on(clock, 4)
        looks = [asyncio.ensure_future(room.look(query_of(), plan_of())) for room in rooms for _ in range(10)]
        await clock.advance(3)
        done = [look for look in looks if look.done()]
        assert len(done) == 1
        first = done[0].result()
        assert isinstance(first, Miss)
        await rooms[looks.index(done[0]) // 10].offer(query_of(), plan_of(), first.lead, answer_of(), ATTEMPT)
        await clock.advance(2)
        hits = [look.result() for look in looks if isinstance(look.result(), Hit)]
        assert len(hits) == 39

    async def test_a_long_call_is_waited_for(self, clock: FakeClock) -> None:
        """The leader renews: nobody else calls though the call takes many times the lease."""
        one, other = rooms_on(clock, 2)
        first = await one.look(query_of(), plan_of())
        waiting = asyncio.ensure_future(other.look(query_of(), plan_of()))
        assert isinstance(first, Miss)
        await clock.advance(50)
        assert not waiting.done()
        await one.offer(query_of(), plan_of(), first.lead, answer_of(), ATTEMPT)
        await clock.advance(1)
        assert isinstance(waiting.result(), Hit)

    async def test_a_killed_leader_is_replaced_by_one(self, clock: FakeClock) -> None:
        """Its lease runs out; exactly one of the others leads, and the rest get that one's answer."""
        rooms = rooms_on(clock, 4)
        first = await rooms[0].look(query_of(), plan_of())
        assert isinstance(first, Miss)
        first.lead.renewing.cancel()
        looks = [asyncio.ensure_future(room.look(query_of(), plan_of())) for room in rooms[1:]]
        await clock.advance(8)
        assert not any(look.done() for look in looks)
        await clock.advance(3)
        (second,) = [n for n, look in enumerate(looks) if look.done()]
        verdict = looks[second].result()
        assert isinstance(verdict, Miss)
        await rooms[second + 1].offer(query_of(), plan_of(), verdict.lead, answer_of(), ATTEMPT)
        await clock.advance(1)
        assert sum(isinstance(look.result(), Hit) for look in looks) == 2

    async def test_a_failed_leader_is_replaced_at_once(self, clock: FakeClock) -> None:
        one, other = rooms_on(clock, 2)
        first = await one.look(query_of(), plan_of())
        waiting = asyncio.ensure_future(other.look(query_of(), plan_of()))
        await clock.advance(1)
        assert isinstance(first, Miss)
        await one.give_up(query_of(), first.lead, UpstreamTimeout("late"))
        await clock.advance(1)
        verdict = waiting.result()
        assert isinstance(verdict, Miss)
        assert verdict.lead is not None

    async def test_a_refusal_is_shared(self, clock: FakeClock) -> None:
        """The provider's 400 reaches the followers elsewhere."""
        one, other = rooms_on(clock, 2)
        first = await one.look(query_of(), plan_of())
        waiting = asyncio.ensure_future(other.look(query_of(), plan_of()))
        await clock.advance(0)
        assert isinstance(first, Miss)
        await one.give_up(query_of(), first.lead, UpstreamRefused("no", status=400))
        await clock.advance(1)
        verdict = waiting.result()
        assert isinstance(verdict, Hit)
        assert verdict.entry.status == 400

    async def test_an_answer_not_worth_keeping_is_handed_on(self, clock: FakeClock) -> None:
        """Cut at its limit: in no store, but the follower elsewhere gets it."""
        one, other = rooms_on(clock, 2)
        first = await one.look(query_of(), plan_of())
        waiting = asyncio.ensure_future(other.look(query_of(), plan_of()))
        await clock.advance(0)
        assert isinstance(first, Miss)
        await one.offer(query_of(), plan_of(), first.lead, answer_of("Par", "length"), ATTEMPT)
        await clock.advance(1)
        verdict = waiting.result()
        assert isinstance(verdict, Hit)
        assert verdict.entry.answer.text == "Par"

    async def test_an_answer_stored_just_now_is_found(self, clock: FakeClock) -> None:
        """Between looking and taking the lease somebody else was done: no second call."""
        one, other = rooms_on(clock, 2)
        first = await one.look(query_of(), plan_of())
        assert isinstance(first, Miss)
        await one.offer(query_of(), plan_of(), first.lead, answer_of(), ATTEMPT)
        blind = LocalStore(clock)
        lagging = other._finder.store
        lagging_get = lagging.get

        async def get(scope: str, key: str, *, strong: bool = False) -> object:
            return await (lagging_get if strong else blind.get)(scope, key, strong=strong)

        other._finder.store.get = get  # type: ignore[method-assign, assignment]
        assert isinstance(await other.look(query_of(), plan_of()), Hit)

    async def test_leases_that_fail_hold_nobody_up(self, clock: FakeClock) -> None:
        """Without leases each process leads for itself."""

        class Broken(LocalLeases):
            async def take(self, scope: str, key: str, now: float, until: float) -> Taken | None:
                raise StoreError("broken")

        room = CacheRoom(clock, CacheOptions(), near_of(clock, "lru", 9, 9_999), LocalStore(clock), leases=Broken())
        verdict = await room.look(query_of(), plan_of())
        assert isinstance(verdict, Miss)
        assert verdict.lead is not None
        await room.offer(query_of(), plan_of(), verdict.lead, answer_of(), ATTEMPT)
        assert isinstance(await room.look(query_of(), plan_of()), Hit)


async def test_over_the_real_protocol(cache_table: Table) -> None:
    """Two rooms on one table through boto3: one call, forty-nine followers."""
    rooms = rooms_on(SystemClock(), 2, cache_table, replace(PATIENCE, first_look_s=0.01, longest_pause_s=0.05))
    calls = 0

    async def ask(room: CacheRoom) -> str:
        nonlocal calls
        verdict = await room.look(query_of(), plan_of())
        if isinstance(verdict, Hit):
            return verdict.entry.answer.text
        calls += 1
        assert verdict.lead is not None
        await asyncio.sleep(0)
        await room.offer(query_of(), plan_of(), verdict.lead, answer_of(), ATTEMPT)
        return answer_of().text

    assert set(await asyncio.gather(*(ask(rooms[n % 2]) for n in range(50)))) == {"Paris."}
    assert calls == 1


async def test_rules_reach_every_process(cache_table: Table, clock: FakeClock) -> None:
    """A purging rule comes back from the table as it went in, and is forgotten in its time."""
    rules = DynamoRules(cache_table, clock)
    rule = Rule(clock.now(), scope="acme", tag="beta", prefix="doc")
    await rules.add(rule, clock.now(), clock.now() + 60)
    await rules.add(Rule(5.25, model="small"), clock.now(), clock.now() + 30)
    assert sorted(await rules.load(), key=lambda r: r.before) == [Rule(5.25, model="small"), rule]
    await clock.advance(30)
    assert await rules.load() == [rule]
