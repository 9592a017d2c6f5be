"""How an opinion on a request finds the cache entry that it is about, whichever process served it.

Each process remembers its own hits. A hit by meaning, which alone can be wrong by the cache's own fault, is also
written down for the others, behind the answer; an exact hit costs nothing, and is found elsewhere by its cache key.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from edgewise.aws import AwsError, Table
from edgewise.background import Background
from edgewise.cache.room import CacheRoom
from edgewise.clock import Clock
from edgewise.errors import Unavailable
from edgewise.record.feedback import WRONG_HIT, Opinion
from edgewise.words import Note

MOST_HITS = 20_000
KEPT_S = 30 * 86_400
"""How long a hit by meaning can be reported by its request alone: as long as half of what it teaches counts."""


@dataclass(frozen=True, slots=True)
class Served:
    """The entry that a request was answered from, and why that was allowed."""

    key: str
    evidence: Mapping[str, Any]


@dataclass(slots=True)
class RecentHits:
    """Which entry each of the last hits came from. An observer of the record.

    table  where hits by meaning are written down for other processes, pk `hit#<tenant>`, sk the request; None: nowhere
    """

    clock: Clock
    background: Background
    table: Table | None = None
    keys: OrderedDict[tuple[str, str], Served] = field(default_factory=OrderedDict)

    def __call__(self, note: Note, values: Mapping[str, float]) -> None:  # noqa: ARG002 - the record's observers get both
        if note.cache != "hit" or note.cache_key is None:
            return
        served = Served(note.cache_key, note.features)
        self.keys[note.tenant, note.request_id] = served
        if len(self.keys) > MOST_HITS:
            self.keys.popitem(last=False)
        if note.cache_kind == "semantic" and self.table is not None:
            self.background.spawn(self._write(self.table, note, served))

    async def _write(self, table: Table, note: Note, served: Served) -> None:
        evidence = {name: Decimal(repr(v)) if isinstance(v, float) else v for name, v in served.evidence.items()}
        item = {"key": served.key, "evidence": evidence, "expires_at": int(note.at) + KEPT_S}
        await table.put({"pk": f"hit#{note.tenant}", "sk": note.request_id, **item})

    async def find(self, tenant: str, request_id: str) -> Served | None:
        """What the request was answered from; None when it was no hit, or one that is not known any more. Raises
        Unavailable."""
        known = self.keys.get((tenant, request_id))
        if known is not None or self.table is None:
            return known
        try:
            item = await self.table.get(f"hit#{tenant}", request_id)
        except AwsError as error:
            raise Unavailable(f"What was served cannot be read right now ({error.code}).") from error
        if item is None or int(item["expires_at"]) <= self.clock.now():
            return None
        return Served(item["key"], item["evidence"])


@dataclass(frozen=True, slots=True)
class WrongHits:
    """A hook of feedback: an answer that should not have been served from the cache leaves it, and the bound learns."""

    cache: CacheRoom
    recent: RecentHits

    async def __call__(self, opinion: Opinion) -> Literal["removed"] | None:
        if opinion.score >= 0 or opinion.reason not in WRONG_HIT:
            return None
        served = await self.recent.find(opinion.tenant, opinion.request_id)
        key, evidence = (served.key, served.evidence) if served else (opinion.cache_key, {})
        scope = str(evidence.get("scope", opinion.tenant))
        return "removed" if key is not None and await self.cache.wrong_hit(scope, key, evidence) else None
