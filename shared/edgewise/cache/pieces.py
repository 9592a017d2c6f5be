"""Answers that are asked for many at a time: the vectors of a list of texts, each with an entry of its own.

They pass the same doors as any other entry: scope, purges, the quorum of a shared namespace, the client's directives,
lifetimes. What they do without is waiting: a vector is made in milliseconds, so nobody leads and nobody follows, a
stale one is made anew, and nothing is ever matched by meaning. A list is one read of the table a hundred, and one
write a twenty-five.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from edgewise.cache.admission import unwanted
from edgewise.cache.finder import Asked, Finder
from edgewise.cache.keeper import Keeper
from edgewise.cache.port import Kept, StoreError
from edgewise.chat import Answer
from edgewise.words import Attempt, Hit, Miss, Plan, Query, Verdict


@dataclass(slots=True)
class Pieces:
    """`stored` False: they are kept in this process's memory alone."""

    finder: Finder
    keeper: Keeper
    stored: bool = True

    async def look(self, queries: Sequence[Query], plan: Plan) -> list[Verdict]:
        """A verdict for each, in order; no miss has a lead. Raises what a store raises that is not told of here."""
        asked = [Asked(query, plan) for query in queries]
        found = [await self.finder.near(each) for each in asked]
        for places in zip(*(each.places for each in asked), strict=True) if self.stored else ():
            missing = [at for at, verdict in enumerate(found) if isinstance(verdict, Miss)]
            kept, trouble = await self._read([places[at] for at in missing])
            for at in missing:
                there = kept.get(places[at].query.key)
                found[at] = Miss(trouble) if trouble else await self.finder.judged(places[at], there, "store")
        return [Miss("stale") if isinstance(each, Hit) and each.kind == "stale" else each for each in found]

    async def _read(self, missing: list[Asked]) -> tuple[dict[str, Kept], str]:
        """What the store has of them, by key; and what went wrong, as one field term."""
        finder = self.finder
        if not missing:
            return {}, ""
        try:
            async with asyncio.timeout(finder.options.timeout_s):
                kept = await finder.store.get_many(missing[0].scope, list({each.query.key for each in missing}))
        except StoreError:
            finder.trouble["store-error"] += 1
            return {}, "store-error"
        except TimeoutError:
            finder.trouble["store-slow"] += 1
            return {}, "store-slow"
        for each in kept.values():
            finder.memory.put(missing[0].scope, each)
        return kept, ""

    async def keep(self, made: Sequence[tuple[Query, Answer, Attempt]], plan: Plan) -> str:
        """Keep what a call has made; 'kept', or why not. `attempt` holds the piece's share of the call's cost."""
        keeper, kept = self.keeper, []
        for query, answer, attempt in made:
            asked = Asked(query, plan)
            word, ttl_s = unwanted(query, plan), keeper.life_s(asked)
            if word or ttl_s <= 0:
                return word or "no-ttl"
            kept.append(keeper.entry_of(asked, answer, attempt, ttl_s, None))
            keeper.near.put(asked.own.scope, kept[-1])
        if kept and self.stored:
            await keeper.later(self._store(Asked(made[0][0], plan), kept))
        return "kept"

    async def _store(self, asked: Asked, kept: list[Kept]) -> None:
        try:
            await self.keeper.store.put_many(asked.own.scope, kept)
            if asked.shared:
                everyones = [await self.keeper.with_principals(asked, each) for each in kept]
                await self.keeper.store.put_many(asked.scope, everyones)
        except StoreError:
            self.keeper.stats.trouble["store-put"] += 1
