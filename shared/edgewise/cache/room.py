"""Have we it? The cache room: what the corridor asks of it, in the order in which it looks.

    look     memory → the same question in flight here → store → meaning → the same question in flight elsewhere;
             the first to find nothing leads, and the others get its answer
    offer    is it worth keeping? memory, then the followers, then the store and the followers elsewhere
    give_up  no answer came: a refusal that would repeat itself is kept for seconds, anything else wakes the next

Nothing here raises: trouble is a miss with a reason, counted. A caller that must not leave traces (no-store), whose
text was flagged, or who only wants what is there, never leads and never follows; nor does a dry run, which is not
counted either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgewise.background import Background
from edgewise.cache.finder import Asked, Finder
from edgewise.cache.flight import Alone, Crashed, Flight, Flights, Landed
from edgewise.cache.keeper import Keeper
from edgewise.cache.lead import Lead, Leading
from edgewise.cache.lease import Leases
from edgewise.cache.memory.shelf import ShelfStats
from edgewise.cache.near import Near
from edgewise.cache.options import CacheOptions
from edgewise.cache.pieces import Pieces
from edgewise.cache.port import Kept, Meaning, NoMeaning, Store, StoreError
from edgewise.cache.purge import LocalRules, Rule, Rules, matching, rule_of
from edgewise.cache.stats import CacheStats
from edgewise.chat import Answer
from edgewise.clock import Clock
from edgewise.errors import EdgewiseError
from edgewise.words import Attempt, Hit, Miss, Plan, Query, Verdict

if TYPE_CHECKING:
    from edgewise.cache.known import KnownKeys
    from edgewise.cache.popular import Popular

MOST_CRASHES = 3
"""After so many leaders have failed a follower stops hoping and calls for itself."""


class CacheRoom:
    """Implements `edgewise.rooms.Cache`.

    leases      None: identical requests are one call within this process only
    background  None: storing is awaited; otherwise it goes on after the answer is out
    popular     None: what was asked is not kept
    known       None: every miss in memory is looked up in the store
    """

    def __init__(
        self,
        clock: Clock,
        options: CacheOptions,
        near: Near,
        store: Store,
        *,
        leases: Leases | None = None,
        rules: Rules | None = None,
        meaning: Meaning | None = None,
        background: Background | None = None,
        popular: Popular | None = None,
        known: KnownKeys | None = None,
    ) -> None:
        self.stats = CacheStats()
        self._clock = clock
        self._options = options
        self._near = near
        self.popular = popular
        self._store = store
        self._rules = rules or LocalRules()
        self.meaning: Meaning = meaning or NoMeaning()
        self._flights = Flights(clock)
        self._leading = Leading(clock, options, leases, self.stats.trouble)
        self._keeper = Keeper(
            clock, options, near, store, self.meaning, self._flights, self._leading, self.stats, background, known
        )
        self._finder = Finder(clock, options, near, store, self._rules, self.meaning, self.stats.trouble, known)
        self._pieces = Pieces(self._finder, self._keeper, stored=options.pieces == "table")

    async def look(self, query: Query, plan: Plan) -> Verdict:
        """Never raises."""
        try:
            verdict = await self._look(query, plan)
        except Exception:  # noqa: BLE001 - a cache failure is a miss with a reason
            self.stats.trouble["look"] += 1
            verdict = Miss("cache-error")
        if plan.request.dry_run:
            return verdict
        self.stats.saw(verdict)
        # Whoever renews is counted when it offers.
        if isinstance(verdict, Hit) and verdict.entry.status == 200 and verdict.refresh is None:
            await self._count(query, plan)
        return verdict

    async def _count(self, query: Query, plan: Plan) -> None:
        """An answer was there, or could be kept: only such a question is worth warming."""
        if self.popular is not None and self.popular.saw(query, plan):
            await self._keeper.later(self._flush(self.popular))

    async def _flush(self, popular: Popular) -> None:
        try:
            await popular.flush()
        except StoreError:
            self.stats.trouble["tally"] += 1

    async def _look(self, query: Query, plan: Plan) -> Verdict:
        bypass = _bypass(query, plan)
        if bypass:
            return Miss(bypass)
        asked = Asked(query, plan)
        verdict = await self._finder.near(asked)
        if isinstance(verdict, Hit):
            return verdict if verdict.kind != "stale" else await self._renewing(asked, verdict)
        if not _may_lead(plan):
            found = await self._finder.far(asked)
            if isinstance(found, Hit) or not plan.request.cache.no_store:
                return found
            return replace(found, reason="no-store")
        return await self._with_others(asked, verdict)

    async def _with_others(self, asked: Asked, near: Miss) -> Verdict:
        """Follow the same question if it is in flight here, else be the first."""
        for _ in range(MOST_CRASHES):
            flight = self._flights.under_way(_flight_key(asked))
            if flight is None:
                return await self._as_first(asked, near, self._flights.open(_flight_key(asked)))
            match await flight.follow(self._options.patience.follow_s):
                case Landed() as landed:
                    return landed.own()
                case Alone():
                    break
                case Crashed():
                    continue
        return Miss("alone", stale=near.stale)

    async def _as_first(self, asked: Asked, near: Miss, flight: Flight) -> Verdict:
        try:
            verdict = await self._finder.far(asked)
            if isinstance(verdict, Miss):
                reason = near.reason if verdict.reason == "absent" else verdict.reason
                miss = Miss(reason, stale=verdict.stale or near.stale)
                # A store that just failed would only cost the lease its time too.
                verdict = await self._lead(asked, miss, flight, alone=miss.reason in ("store-error", "store-slow"))
                if isinstance(verdict, Miss):
                    return verdict
            self._flights.land_hit(flight, verdict)
        except BaseException:
            self._flights.land(flight, Crashed())
            raise
        return verdict if verdict.kind != "stale" else await self._renewing(asked, verdict)

    async def _lead(self, asked: Asked, miss: Miss, flight: Flight, *, alone: bool) -> Verdict:
        """Lead, or get the answer of whoever leads elsewhere."""
        for _ in range(MOST_CRASHES):
            lead = Lead(asked, flight) if alone else await self._leading.take(asked, flight)
            if lead is not None:
                if lead.before == "kept":
                    # Somebody's answer was stored between our look and our taking the lease.
                    found = await self._again(asked)
                    if isinstance(found, Hit) and found.kind != "stale":
                        await self._leading.tell(lead, "kept")
                        return found
                return replace(miss, lead=lead)
            match await self._leading.follow(asked):
                case "kept":
                    found = await self._again(asked)
                    if isinstance(found, Hit):
                        return replace(found, kind="coalesced")
                case "failed":
                    continue
                case "alone":
                    break
                case Kept(entry):
                    return Hit(entry, "coalesced", tier="flight")
        self._flights.land(flight, Alone())
        return replace(miss, reason="alone")

    async def _again(self, asked: Asked) -> Verdict:
        try:
            return await self._finder.again(asked)
        except (StoreError, TimeoutError):
            self.stats.trouble["store-error"] += 1
            return Miss("store-error")

    async def _renewing(self, asked: Asked, hit: Hit) -> Hit:
        """The stale hit, with a lead for whoever is first to renew it."""
        key = _flight_key(asked)
        if not _may_lead(asked.plan) or self._flights.under_way(key) is not None:
            return hit
        flight = self._flights.open(key)
        try:
            lead = await self._leading.take(asked, flight)
            if lead is not None and lead.before == "kept":
                found = await self._again(asked)
                if isinstance(found, Hit) and found.kind != "stale":
                    await self._leading.tell(lead, "kept")
                    lead, hit = None, found
        except BaseException:
            self._flights.land(flight, Crashed())
            raise
        if lead is None:
            self._flights.land_hit(flight, hit)
        return replace(hit, refresh=lead)

    async def offer(self, query: Query, plan: Plan, lead: Any, answer: Answer, attempt: Attempt) -> str:
        """'kept', or why the answer was not, as one field term. Never raises."""
        word = await self._keeper.offer(query, plan, lead, answer, attempt)
        if word == "kept":
            await self._count(query, plan)
        return word

    async def give_up(self, query: Query, lead: Any, error: EdgewiseError | None) -> None:
        """Never raises. `error` is what the provider answered, if anything."""
        await self._keeper.give_up(query, lead, error)

    async def look_each(self, queries: Sequence[Query], plan: Plan) -> list[Verdict]:
        """As `look`, for the pieces of one request; no miss has a lead. Never raises."""
        try:
            bypass = next((word for query in queries if (word := _bypass(query, plan))), "")
            if bypass or self._options.pieces == "off":
                found: list[Verdict] = [Miss(bypass or "off")] * len(queries)
            else:
                found = await self._pieces.look(queries, plan)
        except Exception:  # noqa: BLE001 - a cache failure is a miss with a reason
            self.stats.trouble["look"] += 1
            found = [Miss("cache-error")] * len(queries)
        for verdict in found:
            self.stats.saw(verdict)
        return found

    async def offer_each(self, made: Sequence[tuple[Query, Answer, Attempt]], plan: Plan) -> str:
        """As `offer`, for the pieces that one call has made; 'kept', or why none is. Never raises."""
        try:
            word = "off" if self._options.pieces == "off" else await self._pieces.keep(made, plan)
        except Exception:  # noqa: BLE001 - a cache failure is never the request's
            self.stats.trouble["offer"] += 1
            word = "cache-error"
        self.stats.offers[word] += len(made)
        return word

    def walk(self, scope: str | None) -> AsyncIterator[tuple[str, Kept]]:
        """Every live entry of the store, for export. Raises StoreError."""
        return self._store.walk(scope)

    async def take_in(self, scope: str, kept: Kept) -> bool:
        """Store an entry that was exported. False when it has expired. Raises StoreError."""
        if kept.entry.expires_at <= self._clock.now():
            return False
        return await self._store.put(scope, replace(kept, gen=0, stored_at=self._clock.now()))

    @property
    def memory(self) -> ShelfStats:
        """What this process's memory holds, and how it was used."""
        return self._near.stats()

    def describe(self) -> dict[str, Any]:
        """The counters of this process, and what its memory holds."""
        memory = self.memory
        return {
            **self.stats.wire(),
            "memory": {
                "entries": memory.entries,
                "bytes": memory.bytes,
                "evictions": memory.evictions,
                "expirations": memory.expirations,
                "hit_rate": round(memory.hit_rate, 6),
            },
            "in_flight": len(self._flights),
        }

    async def purge(self, rule: Rule) -> int:
        """Void what `rule` names, here at once and elsewhere within seconds, and remove it; how many entries of the
        store there were. Raises StoreError: a purge that did not happen must be known."""
        lifetimes = self._options.lifetimes
        await self._void(rule, self._clock.now() + lifetimes.longest_s + lifetimes.stale_s)
        removed = 0
        async for scope, kept in matching(self._store, rule):
            await self._remove(scope, kept.entry.key)
            removed += 1
        return removed

    async def _void(self, rule: Rule, until: float) -> None:
        """`until`: when everything that the rule names has expired."""
        await self._rules.add(rule, self._clock.now(), until)
        self._finder.obey(rule)

    async def _remove(self, scope: str, key: str) -> None:
        await self._store.delete(scope, key)
        self._near.delete(scope, key)
        await self._forget(key)
        self.stats.offers["purged"] += 1

    async def _forget(self, key: str, partition: str | None = None) -> None:
        try:
            await self.meaning.remove(key, partition)
        except Exception:  # noqa: BLE001 - an index that is behind is caught when the entry is read again
            self.stats.trouble["meaning-remove"] += 1

    async def wrong_hit(self, scope: str, key: str, evidence: Mapping[str, Any] | None = None) -> bool:
        """A person says that the entry of `key` was wrong: remove it, and teach the threshold. Whether it was there.

        evidence  of the hit that they speak of, if it is known
        Raises StoreError.
        """
        kept = await self._store.get(scope, key, strong=True)
        there = kept is not None or self._near.has(scope, key)
        if there:
            # Who reports what is not there leaves no rule behind, and a rule lives as long as copies of the entry may.
            # What tenants were told as a shared answer is void wherever it is: whoever made it has it as their own.
            now, lifetimes = self._clock.now(), self._options.lifetimes
            copies_until = now + lifetimes.ttl_s + lifetimes.stale_s
            until = max(copies_until, kept.entry.expires_at) if kept is not None else copies_until
            where = None if "scope" in (evidence or {}) else scope
            await self._void(rule_of(now, scope=where, key=key), until)
            await self._remove(scope, key)
        try:
            await self.meaning.feedback(key, wrong=True, evidence=evidence or {})
        except Exception:  # noqa: BLE001 - the entry is gone; the lesson is lost and counted
            self.stats.trouble["meaning-feedback"] += 1
        return there


def _flight_key(asked: Asked) -> tuple[str, str, float | None]:
    """Those who accept answers by meaning fly apart from those who do not, and by how wrong they may be."""
    return asked.lead_scope, asked.query.key, asked.plan.cache.max_wrong_share if asked.by_meaning else None


def _bypass(query: Query, plan: Plan) -> str:
    """Why the cache is not asked at all; '' when it is."""
    if plan.cache.mode == "off":
        return "off"
    if query.nearness == "skip":
        return "skip"
    return "no-cache" if plan.request.cache.no_cache else ""


def _may_lead(plan: Plan) -> bool:
    ask = plan.request.cache
    return plan.cache.store and not (ask.no_store or ask.only_if_cached or plan.flags or plan.request.dry_run)
