"""The room as the corridor meets it: look, offer, give up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from edgewise.background import Background
from edgewise.cache.build import near_of
from edgewise.cache.freshness import Lifetimes
from edgewise.cache.lease import LocalLeases
from edgewise.cache.local import LocalStore
from edgewise.cache.options import CacheOptions
from edgewise.cache.port import Kept, NoMeaning, StoreError
from edgewise.cache.purge import LocalRules, Rule, rule_of
from edgewise.cache.room import CacheRoom
from edgewise.chat import Answer, CacheAsk
from edgewise.clock import FakeClock
from edgewise.errors import InvalidRequest, UpstreamRefused, UpstreamTimeout
from edgewise.words import Hit, Miss, Plan, Query, Verdict
from tests.cache.parts import ATTEMPT, answer_of, entry_of, kept_of, plan_of, query_of, small_room


async def fill(room: CacheRoom, query: Query, plan: Plan, answer: Answer | None = None) -> str:
    """Ask, find nothing, and offer an answer."""
    verdict = await room.look(query, plan)
    assert isinstance(verdict, Miss)
    return await room.offer(query, plan, verdict.lead, answer or answer_of(), ATTEMPT)


def hit(verdict: Verdict) -> Hit:
    assert isinstance(verdict, Hit), verdict
    return verdict


def miss(verdict: Verdict) -> Miss:
    assert isinstance(verdict, Miss), verdict
    return verdict


class Broken(LocalStore):
    """A store that fails, or never answers."""

    def __init__(self, clock: FakeClock, *, silent: bool = False) -> None:
        super().__init__(clock)
        self._silent = silent

    async def get(self, scope: str, key: str, *, strong: bool = False) -> Kept | None:
        if self._silent:
            await asyncio.Event().wait()
        raise StoreError("broken")

    async def put(self, scope: str, kept: Kept) -> bool:
        raise StoreError("broken")


async def test_asks_once_then_remembers(clock: FakeClock) -> None:
    """A miss with a lead, an offer, then an exact hit from memory with its age."""
    room = small_room(clock)
    first = miss(await room.look(query_of(), plan_of()))
    assert first.reason == "absent"
    assert first.lead is not None
    assert await room.offer(query_of(), plan_of(), first.lead, answer_of(), ATTEMPT) == "kept"
    await clock.advance(7)
    found = hit(await room.look(query_of(), plan_of()))
    assert (found.kind, found.tier, found.age_s, found.entry.answer) == ("exact", "memory", 7, answer_of())
    assert (found.entry.model, found.entry.provider, found.entry.cost_usd) == ("small", "scripted", ATTEMPT.cost_usd)


async def test_another_process_finds_it_in_the_store(clock: FakeClock) -> None:
    """What one room kept, a room with an empty memory finds in the store, and then has in memory."""
    store = LocalStore(clock)
    await fill(small_room(clock, store), query_of(), plan_of())
    other = small_room(clock, store)
    assert hit(await other.look(query_of(), plan_of())).tier == "store"
    assert hit(await other.look(query_of(), plan_of())).tier == "memory"


async def test_normalised_text_is_the_second_key(clock: FakeClock) -> None:
    """The same text but for case and spaces hits as 'text', from the store and from memory."""
    store = LocalStore(clock)
    await fill(small_room(clock, store), query_of("What is up?", text_key=True), plan_of())
    other = small_room(clock, store)
    for tier in ("store", "memory"):
        found = hit(await other.look(query_of(" what IS up? ", text_key=True), plan_of()))
        assert (found.kind, found.tier) == ("text", tier)


async def test_tenants_never_share(clock: FakeClock) -> None:
    """Even a key that two tenants had in common would not cross scopes."""
    room = small_room(clock)
    await fill(room, query_of(), plan_of())
    stolen = query_of()
    thief = Query("mallory", stolen.namespace, stolen.target, stolen.key)
    assert miss(await room.look(thief, plan_of("mallory"))).reason == "absent"


async def test_one_hit_never_changes_the_next(clock: FakeClock) -> None:
    """Whoever got an answer may do with it what it likes."""
    room = small_room(clock)
    given = answer_of()
    await fill(room, query_of(), plan_of(), given)
    given.choices[0]["message"]["content"] = "spoiled"
    first = hit(await room.look(query_of(), plan_of()))
    first.entry.answer.choices[0]["message"]["content"] = "spoiled"
    assert hit(await room.look(query_of(), plan_of())).entry.answer.text == "Paris."


async def test_it_expires(clock: FakeClock) -> None:
    """After its ttl, shortened by jitter, an entry is a miss."""
    room = small_room(clock)
    await fill(room, query_of(), plan_of(ask=CacheAsk(ttl_s=10)))
    await clock.advance(9)
    hit(await room.look(query_of(), plan_of()))
    await clock.advance(1)
    miss(await room.look(query_of(), plan_of()))


class TestControls:
    """What the client may ask of the cache."""

    async def test_off_and_skip(self, clock: FakeClock) -> None:
        """Neither looked up nor kept."""
        room = small_room(clock)
        assert await room.look(query_of(), plan_of(mode="off")) == Miss("off")
        assert await room.look(query_of(nearness="skip"), plan_of()) == Miss("skip")
        assert await room.offer(query_of(nearness="skip"), plan_of(), None, answer_of(), ATTEMPT) == "skip"

    async def test_no_cache_asks_anew_and_keeps(self, clock: FakeClock) -> None:
        """The provider is asked though an answer is there; the new answer replaces it."""
        room = small_room(clock)
        await fill(room, query_of(), plan_of())
        anew = plan_of(ask=CacheAsk(no_cache=True))
        assert await room.look(query_of(), anew) == Miss("no-cache")
        await room.offer(query_of(), anew, None, answer_of("Still Paris."), ATTEMPT)
        assert hit(await room.look(query_of(), plan_of())).entry.answer.text == "Still Paris."

    async def test_no_store_leaves_no_trace(self, clock: FakeClock) -> None:
        """Nobody follows it and nothing is kept."""
        store = LocalStore(clock)
        room = small_room(clock, store)
        quiet = plan_of(ask=CacheAsk(no_store=True))
        assert await room.look(query_of(), quiet) == Miss("no-store")
        assert await room.offer(query_of(), quiet, None, answer_of(), ATTEMPT) == "no-store"
        assert await store.size("acme") == 0
        assert miss(await room.look(query_of(), plan_of())).reason == "absent"

    async def test_only_if_cached_never_leads(self, clock: FakeClock) -> None:
        """It would not call, so nobody may wait for it."""
        room = small_room(clock)
        ask = plan_of(ask=CacheAsk(only_if_cached=True))
        assert miss(await room.look(query_of(), ask)).lead is None
        await fill(room, query_of(), plan_of())
        hit(await room.look(query_of(), ask))

    async def test_max_age(self, clock: FakeClock) -> None:
        """An older entry is refused to this client, renewed, and others still had it."""
        room = small_room(clock)
        await fill(room, query_of(), plan_of())
        await clock.advance(30)
        strict = plan_of(ask=CacheAsk(max_age_s=10))
        refused = miss(await room.look(query_of(), strict))
        assert refused.reason == "too-old"
        hit(await room.look(query_of(), plan_of()))
        await room.offer(query_of(), strict, refused.lead, answer_of("New."), ATTEMPT)
        assert hit(await room.look(query_of(), strict)).entry.answer.text == "New."

    async def test_flagged_answers_are_for_nobody_else(self, clock: FakeClock) -> None:
        """No lead, no entry."""
        room = small_room(clock)
        flagged = plan_of(flags=("pii:email",))
        assert miss(await room.look(query_of(), flagged)).lead is None
        assert await room.offer(query_of(), flagged, None, answer_of(), ATTEMPT) == "flagged"
        miss(await room.look(query_of(), plan_of()))


class TestStale:
    """Past its freshness an entry may be served while it is renewed, or when the provider fails."""

    options = CacheOptions(lifetimes=Lifetimes(stale_s=100, jitter=0))

    async def test_served_while_one_renews(self, clock: FakeClock) -> None:
        """The first gets the stale answer and the lead; the others the stale answer; then it is fresh again."""
        room = small_room(clock, options=self.options)
        await fill(room, query_of(), plan_of(ask=CacheAsk(ttl_s=10)))
        await clock.advance(15)
        first, second = [hit(await room.look(query_of(), plan_of())) for _ in range(2)]
        assert (first.kind, second.kind) == ("stale", "stale")
        assert first.refresh is not None
        assert second.refresh is None
        await room.offer(query_of(), plan_of(), first.refresh, answer_of("New."), ATTEMPT)
        third = hit(await room.look(query_of(), plan_of()))
        assert (third.kind, third.entry.answer.text) == ("exact", "New.")

    async def test_a_failed_renewal_leaves_it(self, clock: FakeClock) -> None:
        """The stale answer goes on being served, and the next may try."""
        room = small_room(clock, options=self.options)
        await fill(room, query_of(), plan_of(ask=CacheAsk(ttl_s=10)))
        await clock.advance(15)
        first = hit(await room.look(query_of(), plan_of()))
        await room.give_up(query_of(), first.refresh, UpstreamTimeout("late"))
        assert hit(await room.look(query_of(), plan_of())).refresh is not None

    async def test_kept_for_failures(self, clock: FakeClock) -> None:
        """A client that wants no stale answer leads, with the stale entry at hand should the provider fail."""
        room = small_room(clock, options=self.options)
        await fill(room, query_of(), plan_of(ask=CacheAsk(ttl_s=10)))
        await clock.advance(15)
        asked = miss(await room.look(query_of(), plan_of(ask=CacheAsk(stale_s=0))))
        assert asked.reason == "stale"
        assert asked.stale is not None
        assert asked.lead is not None


class TestFlights:
    """Identical requests in flight cost one call."""

    async def test_one_leads_the_others_follow(self, clock: FakeClock) -> None:
        """A hundred ask; one is told to call, ninety-nine get its answer, each its own copy."""
        room = small_room(clock)
        looks = [asyncio.ensure_future(room.look(query_of(), plan_of())) for _ in range(100)]
        await asyncio.sleep(0)
        done = await next(iter(asyncio.as_completed(looks)))
        lead = miss(done).lead
        assert lead.flight.followers == 99
        await room.offer(query_of(), plan_of(), lead, answer_of(), ATTEMPT)
        verdicts = [await look for look in looks]
        hits = [v for v in verdicts if isinstance(v, Hit)]
        assert len(hits) == 99
        assert {h.kind for h in hits} == {"coalesced"}
        assert len({id(h.entry.answer.completion) for h in hits}) == 99

    async def test_a_failed_leader_wakes_one(self, clock: FakeClock) -> None:
        """The next in line leads, the others go on waiting."""
        room = small_room(clock)
        looks = [asyncio.ensure_future(room.look(query_of(), plan_of())) for _ in range(5)]
        await clock.advance(0)
        await room.give_up(query_of(), miss(looks[0].result()).lead, UpstreamTimeout("late"))
        await clock.advance(0)
        leaders = [look for look in looks[1:] if look.done()]
        assert len(leaders) == 1
        await room.offer(query_of(), plan_of(), miss(leaders[0].result()).lead, answer_of(), ATTEMPT)
        await clock.advance(0)
        assert sum(isinstance(look.result(), Hit) for look in looks) == 3

    async def test_after_three_crashes_nobody_waits(self, clock: FakeClock) -> None:
        """A follower that has seen three leaders fail calls for itself; the wait is not the sum of all failures."""
        room = small_room(clock)
        looks = [asyncio.ensure_future(room.look(query_of(), plan_of())) for _ in range(20)]
        for _ in range(3):
            await clock.advance(0)
            leader = next(m for m in looks if m.done() and miss(m.result()).lead and not miss(m.result()).lead.told)
            await room.give_up(query_of(), miss(leader.result()).lead, None)
        await clock.advance(0)
        assert all(look.done() for look in looks)
        assert [miss(look.result()).reason for look in looks].count("alone") == 17

    async def test_a_refusal_that_repeats_is_shared_and_kept_for_seconds(self, clock: FakeClock) -> None:
        """Followers get the provider's error at once, and so does who asks again within seconds; then no more."""
        store = LocalStore(clock)
        room = small_room(clock, store)
        looks = [asyncio.ensure_future(room.look(query_of(), plan_of())) for _ in range(3)]
        await clock.advance(0)
        error = UpstreamRefused("temperature too hot", status=400, param="temperature", code="bad")
        await room.give_up(query_of(), miss(looks[0].result()).lead, error)
        await clock.advance(0)
        for look in looks[1:]:
            entry = hit(look.result()).entry
            assert (entry.status, entry.answer.completion["error"]["param"]) == (400, "temperature")
        assert hit(await room.look(query_of(), plan_of())).entry.status == 400
        assert hit(await small_room(clock, store).look(query_of(), plan_of())).entry.status == 400
        await clock.advance(5)
        miss(await room.look(query_of(), plan_of()))

    async def test_impatience(self, clock: FakeClock) -> None:
        """A follower that waits longer than its bound calls for itself."""
        room = small_room(clock)
        first = asyncio.ensure_future(room.look(query_of(), plan_of()))
        second = asyncio.ensure_future(room.look(query_of(), plan_of()))
        await clock.advance(CacheOptions().patience.follow_s - 1)
        assert first.done()
        assert not second.done()
        await clock.advance(2)
        assert second.result() == Miss("alone")

    async def test_what_is_not_kept_is_still_handed_on(self, clock: FakeClock) -> None:
        """An answer cut at its limit is not kept, but who asked at the same time gets it; the next asks anew."""
        room = small_room(clock)
        looks = [asyncio.ensure_future(room.look(query_of(), plan_of())) for _ in range(2)]
        await clock.advance(0)
        lead = miss(looks[0].result()).lead
        assert await room.offer(query_of(), plan_of(), lead, answer_of("Par", "length"), ATTEMPT) == "truncated"
        await clock.advance(0)
        assert hit(looks[1].result()).entry.answer.text == "Par"
        miss(await room.look(query_of(), plan_of()))

    async def test_a_cancelled_leader_wakes_the_next(self, clock: FakeClock) -> None:
        """A client that hangs up while the store is asked strands nobody."""
        room = small_room(clock, Broken(clock, silent=True), options=CacheOptions(timeout_s=60))
        first = asyncio.ensure_future(room.look(query_of(), plan_of()))
        second = asyncio.ensure_future(room.look(query_of(), plan_of()))
        await clock.advance(0)
        first.cancel()
        await clock.advance(0)
        assert first.cancelled()
        assert len(room._flights) == 1
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert len(room._flights) == 0


class TestTrouble:
    """Cache trouble never fails a request."""

    async def test_a_broken_store_is_a_miss_that_says_so(self, clock: FakeClock) -> None:
        """The answer is kept in memory all the same, and the failures are counted."""
        room = small_room(clock, Broken(clock))
        asked = miss(await room.look(query_of(), plan_of()))
        assert asked.reason == "store-error"
        assert await room.offer(query_of(), plan_of(), asked.lead, answer_of(), ATTEMPT) == "kept"
        assert hit(await room.look(query_of(), plan_of())).tier == "memory"
        assert room.stats.trouble == {"store-error": 1, "store-put": 1}

    async def test_a_slow_store_is_a_miss_that_says_so(self, clock: FakeClock) -> None:
        """Slower than the bound is as good as not there."""
        room = small_room(clock, Broken(clock, silent=True), options=CacheOptions(timeout_s=0.001))
        assert miss(await room.look(query_of(), plan_of())).reason == "store-slow"

    @pytest.mark.parametrize("slow", [False, True])
    async def test_meaning_that_fails_is_a_miss(self, clock: FakeClock, slow: bool) -> None:
        """Matching by meaning may raise or hang; the exact answer is kept nonetheless."""

        class Bad(NoMeaning):
            async def find(self, query: Query, plan: Plan) -> Hit | str:
                if slow:
                    await asyncio.Event().wait()
                raise ValueError("bad vector")

            async def add(self, query: Query, plan: Plan, entry: Any) -> None:
                raise ValueError("bad vector")

        room = small_room(clock, meaning=Bad(), options=CacheOptions(meaning_timeout_s=0.001))
        query, plan = query_of(nearness="semantic"), plan_of(mode="semantic")
        asked = miss(await room.look(query, plan))
        assert asked.reason == ("meaning-slow" if slow else "meaning-error")
        assert await room.offer(query, plan, asked.lead, answer_of(), ATTEMPT) == "kept"
        hit(await room.look(query, plan))

    async def test_anything_else_is_a_miss_too(self, clock: FakeClock) -> None:
        """Even what nobody thought of."""
        room = small_room(clock)
        room._finder.memory = None  # type: ignore[assignment]
        assert await room.look(query_of(), plan_of()) == Miss("cache-error")


class Meaningful(NoMeaning):
    """Everything means the same."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.lessons: list[tuple[str, bool]] = []
        self.removed: list[str] = []

    async def find(self, query: Query, plan: Plan) -> Hit | str:
        return Hit(entry_of("0" * 64, self.clock.now() - 3), "semantic", similarity=0.97, tier="index")

    async def remove(self, key: str, partition: str | None) -> None:
        self.removed.append(key)

    async def feedback(self, key: str, *, wrong: bool, evidence: Mapping[str, Any]) -> None:
        self.lessons.append((key, wrong))


class TestMeaning:
    """The last resort, and only for who accepts it."""

    async def test_only_where_wanted(self, clock: FakeClock) -> None:
        """By mode, by the query's nature and by the request's own word."""
        room = small_room(clock, meaning=Meaningful(clock))
        near, semantic = query_of(nearness="semantic"), plan_of(mode="semantic")
        found = hit(await room.look(near, semantic))
        assert (found.kind, found.similarity, found.age_s) == ("semantic", 0.97, 3)
        for query, plan in (
            (near, plan_of()),
            (query_of(), semantic),
            (near, plan_of(mode="semantic", ask=CacheAsk(semantic=False))),
        ):
            refused = miss(await room.look(query, plan))
            await room.give_up(query, refused.lead, None)

    async def test_its_answers_are_purged_like_any(self, clock: FakeClock) -> None:
        """A purge by model reaches what an index still holds."""
        room = small_room(clock, meaning=Meaningful(clock))
        await room.purge(rule_of(clock.now(), model="scripted/small"))
        refused = miss(await room.look(query_of(nearness="semantic"), plan_of(mode="semantic")))
        assert refused.reason == "meaning-purged"

    async def test_a_wrong_hit_is_removed_and_taught(self, clock: FakeClock) -> None:
        """The entry is gone, from the index too, and the threshold hears of it."""
        meaning = Meaningful(clock)
        room = small_room(clock, meaning=meaning)
        await fill(room, query_of(), plan_of())
        assert await room.wrong_hit("acme", query_of().key)
        assert meaning.removed == [query_of().key]
        assert meaning.lessons == [(query_of().key, True)]
        await clock.advance(1)
        miss(await room.look(query_of(), plan_of()))

    async def test_a_report_of_what_is_not_there_leaves_no_rule(self, clock: FakeClock) -> None:
        """Every process reads the rules again and again: who makes keys up must not fill them. One that names an
        entry is forgotten when its last copy has expired."""
        meaning, rules = Meaningful(clock), LocalRules()
        room = CacheRoom(
            clock, CacheOptions(), near_of(clock, "lru", 9, 99_999), LocalStore(clock), rules=rules, meaning=meaning
        )
        await fill(room, query_of(), plan_of())
        assert not await room.wrong_hit("acme", "0" * 64)
        assert not await room.wrong_hit("umbrella", query_of().key)
        assert await rules.load() == [] and len(meaning.lessons) == 2
        hit(await room.look(query_of(), plan_of()))
        assert await room.wrong_hit("acme", query_of().key)
        assert not await room.wrong_hit("acme", query_of().key)
        assert len(await rules.load()) == 1
        await clock.advance(CacheOptions().lifetimes.ttl_s + 1)
        await room.purge(rule_of(clock.now(), tag="x"))
        assert [rule.tag for rule in await rules.load()] == ["x"]

    async def test_an_entry_that_is_in_memory_alone_is_reported_too(self, clock: FakeClock) -> None:
        store = LocalStore(clock)
        room = small_room(clock, store)
        await fill(room, query_of(), plan_of())
        await store.delete("acme", query_of().key)
        assert await room.wrong_hit("acme", query_of().key)
        miss(await room.look(query_of(), plan_of()))


class TestPurge:
    """By key, tag, model, age or namespace; at once here, within seconds elsewhere."""

    async def test_narrowed_by_each_field(self, clock: FakeClock) -> None:
        """Each field removes what matches and leaves the rest."""
        now = clock.now()
        for rule, left in (
            (Rule(now, tag="beta"), 2),
            (Rule(now, model="small"), 0),
            (Rule(now, model="large"), 3),
            (Rule(now, namespace="docs"), 2),
            (Rule(now, prefix="doc"), 1),
            (Rule(now, scope="acme"), 1),
            (Rule(now, scope="acme", key=query_of("one").key), 2),
        ):
            store = LocalStore(clock)
            room = small_room(clock, store)
            await fill(room, query_of("one"), plan_of(ask=CacheAsk(tags=("beta",))))
            await fill(room, query_of("two", namespace="docs"), plan_of())
            await fill(room, query_of("three", "umbrella", namespace="docs-2"), plan_of("umbrella"))
            assert await room.purge(rule) == 3 - left
            assert len([pair async for pair in store.walk()]) == left, rule

    async def test_by_age(self, clock: FakeClock) -> None:
        """Only what is older goes."""
        store = LocalStore(clock)
        room = small_room(clock, store)
        await fill(room, query_of("old"), plan_of())
        await clock.advance(100)
        await fill(room, query_of("new"), plan_of())
        assert await room.purge(rule_of(clock.now(), older_than_s=50)) == 1
        hit(await room.look(query_of("new"), plan_of()))
        miss(await room.look(query_of("old"), plan_of()))

    async def test_reaches_the_memory_of_others(self, clock: FakeClock) -> None:
        """Another process, with the entry in its memory, obeys within five seconds."""
        store = LocalStore(clock)
        one = small_room(clock, store)
        other = CacheRoom(clock, CacheOptions(), near_of(clock, "lru", 10, 10_000), store, rules=one._rules)
        await fill(other, query_of(), plan_of())
        hit(await other.look(query_of(), plan_of()))
        await one.purge(rule_of(clock.now(), tag=None, everything=True))
        await clock.advance(5)
        assert miss(await other.look(query_of(), plan_of())).reason == "purged"

    async def test_holds_here_at_once_though_rules_are_being_read(self, clock: FakeClock) -> None:
        """What was read before the rule was written must not undo it."""

        class Slow(LocalRules):
            async def load(self) -> list[Rule]:
                found = await super().load()
                await reading.wait()
                return found

        reading, store = asyncio.Event(), LocalStore(clock)
        room = CacheRoom(clock, CacheOptions(timeout_s=60), near_of(clock, "lru", 9, 99_999), store, rules=Slow())
        await fill(room, query_of(), plan_of())
        early = asyncio.create_task(room.look(query_of(), plan_of(ask=CacheAsk(only_if_cached=True))))
        await clock.advance(0)
        rule = rule_of(clock.now(), everything=True)
        await room.purge(rule)
        await store.put("acme", kept_of(query_of().key, clock.now()))
        reading.set()
        assert miss(await early).reason == "purged"
        assert miss(await room.look(query_of(), plan_of())).reason == "purged"

    async def test_a_late_reading_of_the_rules_undoes_no_purge_for_those_who_do_not_wait(
        self, clock: FakeClock
    ) -> None:
        """While one reads the rules again the others go by those that are known."""

        class Slow(LocalRules):
            async def load(self) -> list[Rule]:
                found = await super().load()
                await gates.pop(0).wait()
                return found

        gates, store = [first := asyncio.Event(), second := asyncio.Event()], LocalStore(clock)
        room = CacheRoom(clock, CacheOptions(timeout_s=60), near_of(clock, "lru", 9, 99_999), store, rules=Slow())
        await fill(room, query_of(), plan_of())
        away = plan_of(ask=CacheAsk(only_if_cached=True))
        early = asyncio.create_task(room.look(query_of(), away))
        await clock.advance(0)
        await room.purge(rule_of(clock.now(), everything=True))
        await store.put("acme", kept_of(query_of().key, clock.now()))
        first.set()
        await clock.advance(0)
        reading = asyncio.create_task(room.look(query_of(), away))
        await clock.advance(0)
        assert miss(await room.look(query_of(), away)).reason == "purged"
        second.set()
        assert miss(await early).reason == miss(await reading).reason == "purged"

    async def test_nothing_said_is_nothing_purged(self, clock: FakeClock) -> None:
        """Everything must be asked for by name."""
        for scope in (None, "acme"):
            with pytest.raises(InvalidRequest):
                rule_of(clock.now(), scope=scope)


async def test_a_shared_namespace_waits_for_a_quorum(clock: FakeClock) -> None:
    """An entry is served to another tenant only after three have asked for themselves. Until then each has its own
    answer, at once, which nobody else's asking changes: what changed would tell of it."""
    room, other = small_room(clock, store := LocalStore(clock)), small_room(clock, store)
    plans = {name: plan_of(name, shared=True, namespace="public") for name in ("a", "b", "c", "d")}
    query = {name: query_of(tenant=name, shared=True, namespace="public") for name in plans}
    assert query["a"].key == query["b"].key
    for name in ("a", "b", "c"):
        asked = miss(await room.look(query[name], plans[name]))
        assert asked.reason == ("absent" if name == "a" else "quorum")
        await room.offer(query[name], plans[name], asked.lead, answer_of(f"For {name}."), ATTEMPT)
        for earlier in ("a", "b")[: 1 + (name != "a")] if name != "c" else ():
            for each in (room, other):
                own = hit(await each.look(query[earlier], plans[earlier]))
                assert (own.entry.answer.text, own.evidence) == (f"For {earlier}.", {})
    for each in (room, other):
        found = hit(await each.look(query["d"], plans["d"]))
        assert found.entry.answer.text == "For c."
        assert found.evidence == {"scope": "shared:public", "foreign": True}
    assert hit(await room.look(query["a"], plans["a"])).evidence == {"scope": "shared:public", "foreign": False}


async def test_a_tenant_whose_first_call_failed_counts_when_it_asks_again(clock: FakeClock) -> None:
    """A lease's generations are its tenant's own: they do not say which answer for all is the later."""
    room, query = small_room(clock, leases=LocalLeases()), query_of(shared=True, namespace="public")
    plans = {name: plan_of(name, shared=True, namespace="public") for name in ("a", "b", "c", "d")}
    await room.give_up(query, miss(await room.look(query, plans["a"])).lead, None)
    for name in ("b", "a", "c"):
        clock.time += 1
        await room.offer(query, plans[name], miss(await room.look(query, plans[name])).lead, answer_of(), ATTEMPT)
    assert hit(await room.look(query, plans["d"])).entry.principals == ("b", "a", "c")


async def test_what_was_shared_and_is_reported_wrong_is_gone_for_whoever_made_it_too(clock: FakeClock) -> None:
    room = small_room(clock)
    plans = {name: plan_of(name, shared=True, namespace="public") for name in ("a", "b", "c", "d")}
    query = query_of(shared=True, namespace="public")
    for name in ("a", "b", "c"):
        asked = miss(await room.look(query, plans[name]))
        await room.offer(query, plans[name], asked.lead, answer_of(), ATTEMPT)
    found = hit(await room.look(query, plans["d"]))
    assert await room.wrong_hit("shared:public", found.entry.key, found.evidence)
    for plan in plans.values():
        await room.give_up(query, miss(await room.look(query, plan)).lead, None)


async def test_vectors_too_are_each_ones_own_until_there_are_enough(clock: FakeClock) -> None:
    store = LocalStore(clock)
    plans = {name: plan_of(name, shared=True, namespace="public") for name in ("a", "b", "c", "d")}
    query = query_of(shared=True, namespace="public")
    for name in ("a", "b", "c"):
        (asked,) = await small_room(clock, store).look_each([query], plans[name])
        assert isinstance(asked, Miss)
        await small_room(clock, store).offer_each([(query, answer_of(f"For {name}."), ATTEMPT)], plans[name])
        (found,) = await small_room(clock, store).look_each([query], plans["a"])
        assert hit(found).entry.answer.text == ("For c." if name == "c" else "For a.")
    (found,) = await small_room(clock, store).look_each([query], plans["d"])
    assert hit(found).entry.answer.text == "For c."


async def test_storing_may_go_on_behind_the_answer(clock: FakeClock) -> None:
    """With a background the offer returns at once; the store has it when that is drained."""
    store, background = LocalStore(clock), Background()
    room = CacheRoom(clock, CacheOptions(), near_of(clock, "lru", 10, 10_000), store, background=background)
    await fill(room, query_of(), plan_of())
    assert await store.size("acme") == 0
    await background.drain()
    assert await store.size("acme") == 1


async def test_it_counts(clock: FakeClock) -> None:
    """Hits by kind, misses by reason, offers by outcome."""
    room = small_room(clock)
    await fill(room, query_of(), plan_of())
    await fill(room, query_of("other"), plan_of(), answer_of("x", "length"))
    await room.look(query_of(), plan_of())
    assert room.stats.wire() == {
        "hits": {"exact": 1},
        "tiers": {"memory": 1},
        "misses": {"absent": 2},
        "offers": {"kept": 1, "truncated": 1},
        "trouble": {},
        "hit_rate": 0.333333,
    }
