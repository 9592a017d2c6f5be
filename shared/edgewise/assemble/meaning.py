"""Matching by meaning, put together when the first request wants it.

Embedders, the verifier and numpy cost a tenth of a second and some megabytes, and most gateways answer to the letter
only; so nothing of it is imported before a key whose policy says 'semantic' asks a question that may match.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgewise.aws import Aws, Table
from edgewise.background import Background
from edgewise.cache.port import Meaning, Store
from edgewise.clock import Clock
from edgewise.settings import Settings

if TYPE_CHECKING:
    from edgewise.cache.semantic.shadow import Judge
    from edgewise.words import Entry, Hit, Plan, Query

HALF_LIFE_S = 30 * 86_400.0
"""After this long a label counts half: what people ask, and what is true, changes."""


@dataclass(slots=True)
class LateMeaning:
    """Implements `edgewise.cache.port.Meaning`. What it raises (the extra `semantic` is not installed) is a miss."""

    settings: Settings
    clock: Clock
    aws: Aws
    store: Store
    background: Background
    judge: Callable[[], Judge | None] = lambda: None
    _inner: Meaning | None = field(default=None)

    async def find(self, query: Query, plan: Plan) -> Hit | str:
        return await self._meaning().find(query, plan)

    async def add(self, query: Query, plan: Plan, entry: Entry) -> None:
        await self._meaning().add(query, plan, entry)

    async def remove(self, key: str, partition: str | None) -> None:
        if self._inner is not None:
            await self._inner.remove(key, partition)

    async def feedback(self, key: str, partition: str | None, *, wrong: bool, similarity: float | None) -> None:
        if self._inner is not None:
            await self._inner.feedback(key, partition, wrong=wrong, similarity=similarity)

    def _meaning(self) -> Meaning:
        if self._inner is None:
            self._inner = self._built()
        return self._inner

    def _built(self) -> Meaning:
        from edgewise.cache.s3 import Bucket
        from edgewise.cache.semantic.dynamodb import DynamoEvidence, DynamoLog
        from edgewise.cache.semantic.library import Library
        from edgewise.cache.semantic.log import LocalLog, LocalSnapshots, Log, Snapshots
        from edgewise.cache.semantic.meaning import MeaningOptions, SemanticMeaning
        from edgewise.cache.semantic.s3 import S3Snapshots
        from edgewise.cache.semantic.shadow import EvidenceStore, Licences, LocalEvidence
        from edgewise.query.embed import ByLanguage

        settings, clock = self.settings, self.clock
        judge = self.judge()
        log: Log = LocalLog()
        snapshots: Snapshots = LocalSnapshots()
        evidence: EvidenceStore = LocalEvidence(clock, HALF_LIFE_S)
        if settings.cache_table:
            log = DynamoLog(Table(self.aws, settings.cache_table), clock)
        if settings.bucket:
            snapshots = S3Snapshots(Bucket(self.aws, settings.bucket))
        if settings.state_table:
            evidence = DynamoEvidence(Table(self.aws, settings.state_table), clock, HALF_LIFE_S)
        return SemanticMeaning(
            clock,
            self.store,
            ByLanguage.shipped(),
            Library(clock, log, snapshots, background=self.background),
            Licences(clock, evidence, judge),
            options=MeaningOptions(quorum=settings.cache_quorum),
            judge=judge,
            background=self.background,
        )
