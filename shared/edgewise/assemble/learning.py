"""Who learns from feedback, and how an opinion on a request finds the cache entry that it is about."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgewise.cache.room import CacheRoom
from edgewise.record.feedback import WRONG_HIT, Opinion
from edgewise.words import Note

MOST_HITS = 20_000


@dataclass(slots=True)
class RecentHits:
    """Which entry each of the last hits of this process came from. An observer of the record."""

    keys: OrderedDict[str, tuple[str, float | None]] = field(default_factory=OrderedDict)

    def __call__(self, note: Note, values: Mapping[str, float]) -> None:  # noqa: ARG002 - the record's observers get both
        if note.cache != "hit" or note.cache_key is None:
            return
        self.keys[note.request_id] = (note.cache_key, note.similarity)
        if len(self.keys) > MOST_HITS:
            self.keys.popitem(last=False)


@dataclass(frozen=True, slots=True)
class WrongHits:
    """A hook of feedback: an answer that should not have been served from the cache leaves it, and the bound learns."""

    cache: CacheRoom
    recent: RecentHits

    async def __call__(self, opinion: Opinion) -> None:
        if opinion.score >= 0 or opinion.reason not in WRONG_HIT:
            return
        key, similarity = self.recent.keys.get(opinion.request_id, (opinion.cache_key, None))
        if key is not None:
            await self.cache.wrong_hit(opinion.tenant, key, similarity=similarity)
