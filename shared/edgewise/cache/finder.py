"""Where an answer may be, and whether this caller may have it.

Memory first, then the store, each by the exact key and then by the key of the normalised text; then by meaning. What is
found is judged: not void by a purge, asked for by enough tenants if it is shared, and fresh enough for this client.
Where tenants share, each also has what it asked for itself, as its own: until enough have asked, nobody is told what
another was, and nobody's own answer changes because another asks.
Every lookup beyond memory has a time limit, and trouble there is a miss that says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from edgewise.cache.freshness import standing
from edgewise.cache.near import Near
from edgewise.cache.options import CacheOptions
from edgewise.cache.port import Kept, Meaning, Store, StoreError
from edgewise.cache.purge import RELOAD_S, Rule, Rules
from edgewise.clock import Clock
from edgewise.words import Hit, Miss, Plan, Query, Verdict

if TYPE_CHECKING:
    from edgewise.cache.known import KnownKeys


@dataclass(frozen=True, slots=True)
class Asked:
    """One lookup."""

    query: Query
    plan: Plan

    @property
    def scope(self) -> str:
        """Whose entries may be seen."""
        return self.query.tenant

    @property
    def shared(self) -> bool:
        """The scope is a namespace that several tenants share, not the caller's own."""
        return self.query.tenant != self.plan.tenant

    @property
    def own(self) -> Asked:
        """The same lookup among the caller's own entries."""
        return Asked(replace(self.query, tenant=self.plan.tenant), self.plan) if self.shared else self

    @property
    def places(self) -> tuple[Asked, ...]:
        """Where to look, in this order."""
        return (self, self.own) if self.shared else (self,)

    @property
    def lead_scope(self) -> str:
        """Who may share one call: never two tenants, since what is shared between tenants needs a quorum."""
        return self.plan.tenant

    @property
    def by_meaning(self) -> bool:
        """Not for a dry run: embedders and judges may be paid for, and what is judged teaches."""
        request = self.plan.request
        return (
            self.plan.cache.mode == "semantic"
            and self.query.nearness == "semantic"
            and request.cache.semantic is not False
            and not request.dry_run
        )


Tier = Literal["memory", "store"]


@dataclass(slots=True)
class Finder:
    """`trouble` counts what went wrong and was turned into a miss."""

    clock: Clock
    options: CacheOptions
    memory: Near
    store: Store
    rules: Rules
    meaning: Meaning
    trouble: Counter[str]
    known: KnownKeys | None = None
    _known_rules: dict[str | None, list[Rule]] = field(default_factory=dict)
    """By the key that they name, so that reports of wrong hits cost other entries nothing; under None those without."""
    _rules_at: float = float("-inf")

    async def near(self, asked: Asked) -> Verdict:
        """What memory has."""
        return await self._first(asked, self._near)

    async def _first(self, asked: Asked, look: Callable[[Asked], Awaitable[Verdict]]) -> Verdict:
        """The first hit among the places; the first place's miss when there is none."""
        verdict = await look(asked)
        if asked.shared and isinstance(verdict, Miss):
            own = await look(asked.own)
            return own if isinstance(own, Hit) else replace(verdict, stale=verdict.stale or own.stale)
        return verdict

    async def _near(self, place: Asked) -> Verdict:
        query = place.query
        kept = self.memory.get(place.scope, query.key)
        if kept is None and query.text_key is not None:
            kept = self.memory.get(place.scope, query.text_key)
        return await self.judged(place, kept, "memory")

    async def far(self, asked: Asked) -> Verdict:
        """What the store has, then what matches by meaning."""
        try:
            async with asyncio.timeout(self.options.timeout_s):
                verdict = await self._first(asked, self._far)
        except StoreError:
            self.trouble["store-error"] += 1
            return Miss("store-error")
        except TimeoutError:
            self.trouble["store-slow"] += 1
            return Miss("store-slow")
        if isinstance(verdict, Hit) or not asked.by_meaning:
            return verdict
        return await self._by_meaning(asked, verdict)

    async def again(self, asked: Asked) -> Verdict:
        """What the store has by the exact key as of now: for one who was told that it is there. Raises StoreError."""
        async with asyncio.timeout(self.options.timeout_s * 4):
            return await self._first(asked, self._again)

    async def _again(self, place: Asked) -> Verdict:
        kept = await self.store.get(place.scope, place.query.key, strong=True)
        if kept is not None:
            self.memory.put(place.scope, kept)
        return await self.judged(place, kept, "store")

    async def _far(self, place: Asked) -> Verdict:
        return await self.judged(place, await self._stored(place), "store")

    async def _stored(self, asked: Asked) -> Kept | None:
        query = asked.query
        # The filter holds keys, not links: what may be found by its text is always looked up.
        if self.known is not None and query.text_key is None and await self.known.rules_out(asked.scope, query.key):
            return None
        kept = await self.store.get(asked.scope, query.key)
        if kept is None and query.text_key is not None:
            kept = await self.store.linked(asked.scope, query.text_key)
            if kept is not None:
                self.memory.link(asked.scope, query.text_key, kept.entry.key, kept.entry.expires_at)
        if kept is not None:
            self.memory.put(asked.scope, kept)
        return kept

    async def judged(self, asked: Asked, kept: Kept | None, tier: Tier, *, vouched: bool = False) -> Verdict:
        """What becomes of an entry that was found, or of none. `vouched`: enough have asked for it, by its meaning."""
        if kept is None:
            return Miss("absent")
        await self._reload_rules()
        if self.is_void(asked.scope, kept):
            self.memory.delete(asked.scope, kept.entry.key)
            return Miss("purged")
        entry, plan = kept.entry, asked.plan
        evidence: dict[str, Any] = {"scope": asked.scope} if asked.shared else {}
        if asked.shared:
            if not vouched and len(entry.principals) < self.options.quorum:
                return Miss("quorum")
            evidence["foreign"] = plan.tenant not in entry.principals
        now = self.clock.now()
        kind: Literal["exact", "text"] = "exact" if entry.key == asked.query.key else "text"
        match standing(entry, plan.request.cache, now):
            case "fresh":
                return Hit(entry, kind, max(0.0, now - entry.created_at), tier=tier, evidence=evidence)
            case "stale":
                return Hit(entry, "stale", now - entry.created_at, tier=tier, evidence=evidence)
            case "fallback":
                return Miss("stale", stale=entry)
            case "too-old" | "expired" as word:
                return Miss(word)

    async def _by_meaning(self, asked: Asked, exact: Miss) -> Verdict:
        try:
            async with asyncio.timeout(self.options.meaning_timeout_s):
                found = await self.meaning.find(asked.query, asked.plan)
        except TimeoutError:
            self.trouble["meaning-slow"] += 1
            return replace(exact, reason="meaning-slow")
        except Exception:  # noqa: BLE001 - a cache failure is a miss with a reason
            self.trouble["meaning-error"] += 1
            return replace(exact, reason="meaning-error")
        if isinstance(found, str):
            return replace(exact, reason=found)
        # A semantic answer is judged as any other: purged and aged alike; it is never served stale. Who asked in other
        # words is known to the index alone, and a hit in a shared namespace says that they were enough.
        place = asked if found.entry.principals else asked.own
        verdict = await self.judged(place, Kept(found.entry, asked.query.namespace), "store", vouched=True)
        if isinstance(verdict, Miss) or verdict.kind == "stale":
            return replace(exact, reason="meaning-" + (verdict.reason if isinstance(verdict, Miss) else "stale"))
        return replace(found, age_s=verdict.age_s, evidence={**found.evidence, **verdict.evidence})

    def is_void(self, scope: str, kept: Kept) -> bool:
        """A purge has named it."""
        known = self._known_rules
        return any(rule.voids(scope, kept) for key in (None, kept.entry.key) for rule in known.get(key, ()))

    def obey(self, rule: Rule) -> None:
        """Obey `rule`, which is written down, from now on. They are read again, since a reading that is under way may
        have missed it."""
        known = self._known_rules
        self._known_rules = {**known, rule.key: [*known.get(rule.key, ()), rule]}
        self._rules_at = float("-inf")

    async def _reload_rules(self) -> None:
        """Read the rules again when they may be out of date. When they cannot be read, the known ones hold."""
        now = self.clock.tick()
        if now - self._rules_at < RELOAD_S:
            return
        self._rules_at = now
        known = self._known_rules
        try:
            async with asyncio.timeout(self.options.timeout_s):
                loaded = await self.rules.load()
        except (StoreError, TimeoutError):
            self.trouble["rules"] += 1
            return
        if self._known_rules is known:
            self._known_rules = {}
            for rule in loaded:
                self._known_rules.setdefault(rule.key, []).append(rule)
