"""Keeping: what becomes of an answer, or of none, once the provider has spoken.

The order matters: memory, then the followers in this process, then the store, then the followers elsewhere. So
whoever waits has the answer as soon as it is whole, and nobody is told of a stored answer before it is stored.
What is whole but not worth keeping still goes to those who asked at the same time; it is their answer too.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgewise.background import Background
from edgewise.cache.admission import refusal
from edgewise.cache.codec import pack
from edgewise.cache.finder import Asked
from edgewise.cache.flight import Crashed, Flights
from edgewise.cache.freshness import is_deterministic, lifetime_s
from edgewise.cache.lead import Lead, Leading
from edgewise.cache.lease import News
from edgewise.cache.near import Near
from edgewise.cache.options import CacheOptions
from edgewise.cache.port import Kept, Meaning, Store, StoreError
from edgewise.cache.stats import CacheStats
from edgewise.chat import Answer
from edgewise.clock import Clock
from edgewise.errors import EdgewiseError
from edgewise.words import TEACHES, Attempt, Entry, Hit, Plan, Query

if TYPE_CHECKING:
    from edgewise.cache.known import KnownKeys

_HANDED = frozenset({"truncated", "filtered", "refused", "tool-calls", "too-big", "no-ttl"})
"""Not worth keeping, but whole: those who asked at the same time get it too."""
_MOST_HANDED_BYTES = 350_000


@dataclass(slots=True)
class Keeper:
    """`background` None: storing is awaited; otherwise it goes on after the answer is out."""

    clock: Clock
    options: CacheOptions
    near: Near
    store: Store
    meaning: Meaning
    flights: Flights
    leading: Leading
    stats: CacheStats
    background: Background | None
    known: KnownKeys | None = None

    async def offer(self, query: Query, plan: Plan, lead: Any, answer: Answer, attempt: Attempt) -> str:
        """'kept', or why the answer was not, as one field term. Never raises."""
        try:
            word = await self._offer(query, plan, lead, answer, attempt)
        except Exception:  # noqa: BLE001 - a cache failure is a miss with a reason
            self.stats.trouble["offer"] += 1
            word = "cache-error"
            await self.give_up(query, lead, None)
        self.stats.offers[word] += 1
        return word

    async def _offer(self, query: Query, plan: Plan, lead: Any, answer: Answer, attempt: Attempt) -> str:
        asked = Asked(query, plan)
        own = asked.own
        word = refusal(answer, query, plan, self.options.admission)
        ttl_s = self.life_s(asked)
        if not word and ttl_s <= 0:
            word = "no-ttl"
        kept = self.entry_of(asked, answer, attempt, ttl_s, lead)
        if not word:
            self.near.put(own.scope, kept)
            if query.text_key is not None:
                self.near.link(own.scope, query.text_key, query.key, kept.entry.expires_at)
        if lead is not None:
            if not word or word in _HANDED:
                self.flights.land_hit(lead.flight, Hit(kept.entry, "coalesced", tier="flight"))
            else:
                self.flights.land(lead.flight, Crashed())
        if lead is not None:
            # From here on the lead is being ended: giving it up is over.
            lead.told = True
        if not word or lead is not None:
            await self.later(self._settle(asked, kept, lead, word))
        return word or "kept"

    def life_s(self, asked: Asked) -> float:
        """For how many seconds an answer is fresh."""
        ask, policy, age = asked.plan.request.cache, asked.plan.cache, asked.query.volatility
        return lifetime_s(ask, policy, age, self.options.lifetimes, self.clock.uniform(), shared=asked.shared)

    def entry_of(self, asked: Asked, answer: Answer, attempt: Attempt, ttl_s: float, lead: Lead | None) -> Kept:
        """What is to be kept, as it is kept."""
        now, plan = self.clock.now(), asked.plan
        entry = Entry(
            key=asked.query.key,
            answer=answer,
            created_at=now,
            fresh_until=now + ttl_s,
            expires_at=now + ttl_s + self.options.lifetimes.stale_s,
            model=attempt.model.id,
            provider=attempt.model.provider,
            cost_usd=attempt.cost_usd,
            latency_ms=attempt.latency_ms,
            tags=plan.request.cache.tags,
            text=asked.query.text,
            messages=tuple(plan.request.messages) if TEACHES in plan.request.cache.tags else None,
        )
        return Kept(entry, asked.query.namespace, lead.gen if lead else 0)

    async def _settle(self, asked: Asked, kept: Kept, lead: Lead | None, word: str) -> None:
        """Store what is kept, then tell those who wait elsewhere. What fails is counted."""
        news: News = "failed"
        packed = None
        try:
            if not word:
                news = "kept" if await self._put(asked.own, kept) else "failed"
                if asked.shared and news == "kept":
                    kept = await self.with_principals(asked, kept)
                    await self._put(asked, kept)
            elif word in _HANDED and lead is not None and lead.gen:
                packed = pack(kept)
                news = "handed" if len(packed) <= _MOST_HANDED_BYTES else "alone"
        except StoreError:
            self.stats.trouble["store-put"] += 1
            news = "alone"
        if lead is not None:
            await self.leading.tell(lead, news, packed if news == "handed" else None)
        if not word and asked.by_meaning:
            try:
                await self.meaning.add(asked.query, asked.plan, kept.entry)
            except Exception:  # noqa: BLE001 - a cache failure is never the request's
                self.stats.trouble["meaning-add"] += 1

    async def _put(self, place: Asked, kept: Kept) -> bool:
        """Whether it is stored, with the text that leads to it."""
        done, text_key = await self.store.put(place.scope, kept), place.query.text_key
        if self.known is not None:
            await self.known.saw(place.scope, kept.entry.key)
        if text_key is not None:
            await self.store.link(place.scope, text_key, kept.entry.key, kept.entry.expires_at)
        return done

    async def with_principals(self, asked: Asked, kept: Kept) -> Kept:
        """The same for all who share, with who has asked so far; without the fence, which is the tenant's own."""
        old = await self.store.get(asked.scope, kept.entry.key, strong=True)
        known = old.entry.principals if old else ()
        everyone = tuple(dict.fromkeys((*known, asked.plan.tenant)))[: self.options.quorum * 4]
        kept = replace(kept, entry=replace(kept.entry, principals=everyone), gen=0)
        self.near.put(asked.scope, kept)
        return kept

    async def give_up(self, query: Query, lead: Any, error: EdgewiseError | None) -> None:
        """Never raises. `error` is what the provider answered, if anything."""
        if lead is None or lead.told:
            return
        try:
            await self._give_up(query, lead, error)
        except Exception:  # noqa: BLE001 - a cache failure is never the request's
            self.stats.trouble["give-up"] += 1
            self.flights.land(lead.flight, Crashed())

    async def _give_up(self, query: Query, lead: Lead, error: EdgewiseError | None) -> None:
        life_s = self.options.lifetimes.negative_s
        if error is None or not is_deterministic(error) or life_s <= 0:
            self.flights.land(lead.flight, Crashed())
            await self.later(self.leading.tell(lead, "failed"))
            return
        now, scope = self.clock.now(), lead.asked.own.scope
        entry = Entry(
            key=query.key,
            answer=Answer(error.body()),
            created_at=now,
            fresh_until=now + life_s,
            expires_at=now + life_s,
            model="",
            provider="",
            status=error.status,
        )
        kept = Kept(entry, query.namespace, lead.gen)
        self.near.put(scope, kept)
        self.flights.land_hit(lead.flight, Hit(entry, "coalesced", tier="flight"))
        await self.later(self._settle_refused(lead, kept))

    async def _settle_refused(self, lead: Lead, kept: Kept) -> None:
        news: News = "failed"
        try:
            news = "kept" if await self.store.put(lead.asked.own.scope, kept) else "failed"
        except StoreError:
            self.stats.trouble["store-put"] += 1
        await self.leading.tell(lead, news)

    async def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` now, or behind the answer where there is a background."""
        if self.background is None:
            await work
        else:
            self.background.spawn(work)
