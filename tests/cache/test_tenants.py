"""Whatever tenants ask, and however: none is told another's answer unless they share and enough have asked, and nobody
is told what is too old, was purged, or was not to be kept. The room with the asker, as two processes over one store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.cache.build import near_of
from edgewise.cache.freshness import Lifetimes
from edgewise.cache.lease import LocalLeases
from edgewise.cache.local import LocalStore
from edgewise.cache.options import CacheOptions
from edgewise.cache.purge import LocalRules, Rule, rule_of
from edgewise.cache.room import CacheRoom
from edgewise.chat import CacheAsk, ChatRequest
from edgewise.clock import FakeClock
from edgewise.errors import UpstreamRefused, UpstreamUnavailable
from edgewise.query.asker import ExactAsker
from edgewise.query.classify import Meaningful
from edgewise.words import CachePolicy, Hit, Plan, Principal, Query, Target
from tests.cache.parts import ATTEMPT, answer_of

TENANTS = ("acme", "bolt", "crane", "drum")
TEXTS = ("Who wrote Emma?", "who wrote emma", "What is the weather today?")
FRESH_S, STALE_S, QUORUM = 10.0, 5.0, 3
SHARED = [CachePolicy(mode=mode, namespace="faq", shared=True) for mode in ("exact", "semantic")]
POLICIES = [CachePolicy(), CachePolicy(mode="semantic"), CachePolicy(namespace="faq"), *SHARED, *SHARED]
ASKS = st.just(CacheAsk()) | st.builds(
    CacheAsk,
    no_cache=st.booleans(),
    no_store=st.booleans(),
    only_if_cached=st.booleans(),
    max_age_s=st.sampled_from([None, 0, 5]),
    ttl_s=st.sampled_from([None, 0, 3]),
    stale_s=st.sampled_from([None, 0, 4]),
    # Names that are others', or that look as if they were.
    namespace=st.sampled_from([None, "faq", "shared:faq", "acme", "default"]),
    tags=st.sampled_from([(), ("x",)]),
)
STEPS = st.one_of(
    st.tuples(
        st.just("ask"),
        st.sampled_from(TENANTS),
        st.sampled_from(POLICIES),
        st.sampled_from(TEXTS),
        ASKS,
        st.sampled_from(["whole", "whole", "whole", "cut", "refused", "failed"]),
        st.integers(0, 1),
    ),
    st.tuples(st.just("tick"), st.sampled_from([1, 2, 6, 30])),
    st.tuples(st.just("purge"), st.sampled_from(TENANTS), st.sampled_from([None, "x"]), st.integers(0, 1)),
)


@dataclass
class Made:
    """An answer, by whom and for whom."""

    tenant: str
    query: Query
    text: str
    at: float
    ask: CacheAsk
    askers: frozenset[str]


@dataclass
class World:
    clock: FakeClock = field(default_factory=FakeClock)
    made: list[Made] = field(default_factory=list)
    purges: list[tuple[float, Rule]] = field(default_factory=list)
    told: int = 0

    def __post_init__(self) -> None:
        store, leases, rules = LocalStore(self.clock), LocalLeases(), LocalRules()
        options = CacheOptions(lifetimes=Lifetimes(ttl_s=FRESH_S, stale_s=STALE_S, jitter=0), quorum=QUORUM)
        self.rooms = [
            CacheRoom(self.clock, options, near_of(self.clock, "s3-fifo", 50, 10**6), store, leases=leases, rules=rules)
            for _ in range(2)
        ]
        self.asker = ExactAsker(Meaningful())

    async def purge(self, tenant: str, tag: str | None, room: int) -> None:
        rule = rule_of(self.clock.now(), scope=tenant, tag=tag, everything=tag is None)
        await self.rooms[room].purge(rule)
        self.purges.append((self.clock.now(), rule))
        # Within seconds elsewhere.
        self.clock.time += 5.1

    async def ask(self, tenant: str, policy: CachePolicy, text: str, ask: CacheAsk, end: str, room: int) -> None:
        request = ChatRequest({"messages": [{"role": "user", "content": text}]}, cache=ask)
        plan = Plan(Principal(tenant, "k"), request, cache=policy)
        query, cache = self.asker.query(plan, Target("m", ())), self.rooms[room]
        verdict = await cache.look(query, plan)
        if isinstance(verdict, Hit):
            self.told += 1
            if verdict.entry.status == 200:
                made = self.made[int(verdict.entry.answer.text)]
                assert list(self.wrongs(made, tenant, query, plan, text)) == [], (made, tenant, plan)
        lead: Any = verdict.refresh if isinstance(verdict, Hit) else verdict.lead
        if isinstance(verdict, Hit) and lead is None:
            return
        assert lead is None or not (ask.only_if_cached or ask.no_store)
        if ask.only_if_cached:
            return
        if end in ("refused", "failed"):
            await cache.give_up(query, lead, UpstreamRefused("no") if end == "refused" else UpstreamUnavailable("no"))
            return
        before = [each.askers for each in self.made if each.query.key == query.key]
        self.made.append(Made(tenant, query, text, self.clock.now(), ask, frozenset({tenant}).union(*before)))
        answer = answer_of(str(len(self.made) - 1), finish="length" if end == "cut" else "stop")
        word = await cache.offer(query, plan, lead, answer, ATTEMPT)
        assert (word == "kept") is (end == "whole" and not ask.no_store and ask.ttl_s != 0)

    def wrongs(self, made: Made, tenant: str, query: Query, plan: Plan, text: str) -> Iterator[str]:
        ask, age_s = plan.request.cache, self.clock.now() - made.at
        if (made.query.tenant, made.query.namespace) != (query.tenant, query.namespace):
            yield "another's, or of another namespace"
        if made.tenant != tenant and (query.tenant == tenant or len(made.askers) < QUORUM):
            yield "not shared, or not yet"
        by_text = plan.cache.mode == "semantic" and made.text.lower().rstrip("?") == text.lower().rstrip("?")
        if made.text != text and not by_text:
            yield "another question"
        if ask.no_cache or made.ask.no_store:
            yield "not to be kept, or not asked of the cache"
        if age_s >= (FRESH_S if made.ask.ttl_s is None else made.ask.ttl_s) + STALE_S:
            yield "expired"
        if ask.max_age_s is not None and age_s > ask.max_age_s:
            yield "too old"
        for at, rule in self.purges:
            own = made.query.tenant == rule.scope
            if own and made.at <= at and (rule.tag is None or rule.tag in made.ask.tags):
                yield "purged"


@settings(max_examples=120, deadline=None)
@given(steps=st.lists(STEPS, min_size=15, max_size=60))
def test_nobody_is_told_what_is_not_theirs(steps: list[tuple[Any, ...]]) -> None:
    world = World()

    async def run() -> None:
        for verb, *rest in steps:
            if verb == "tick":
                world.clock.time += rest[0]
            else:
                await (world.ask(*rest) if verb == "ask" else world.purge(*rest))

    asyncio.run(run())
    for room in world.rooms:
        assert not room.stats.trouble and room.describe()["in_flight"] == 0


async def test_the_world_is_not_empty() -> None:
    """What is checked above does happen: an own answer, and a shared one after three have asked."""
    world = World()
    for tenant in (*TENANTS, "drum"):
        await world.ask(tenant, SHARED[0], TEXTS[0], CacheAsk(), "whole", 0)
    assert (world.told, len(world.made)) == (2, 3)
