"""How matching by meaning is put together from what there is: tables and a bucket, or this process alone."""

from __future__ import annotations

from edgewise.aws import Table
from edgewise.background import Background
from edgewise.cache.port import Store
from edgewise.cache.semantic.dynamodb import DynamoEvidence, DynamoLog
from edgewise.cache.semantic.library import Library
from edgewise.cache.semantic.log import LocalLog, LocalSnapshots, Log, Snapshots
from edgewise.cache.semantic.meaning import Embedders, MeaningOptions, SemanticMeaning
from edgewise.cache.semantic.s3 import S3Snapshots
from edgewise.cache.semantic.shadow import EvidenceStore, Judge, Licences, LocalEvidence
from edgewise.clock import Clock

HALF_LIFE_S = 30 * 86_400.0


def meaning_of(
    clock: Clock,
    store: Store,
    embedders: Embedders,
    *,
    table: Table | None = None,
    state_table: Table | None = None,
    bucket: str | None = None,
    judge: Judge | None = None,
    options: MeaningOptions | None = None,
    background: Background | None = None,
) -> SemanticMeaning:
    """Ready to be the cache room's `meaning`. Nothing is read or loaded before the first question.

    table        the cache table; None: what is indexed is forgotten with this process
    state_table  where the bound's evidence is kept; None: in this process
    bucket       where snapshots are kept; None: an index is made from the whole log
    judge        None: nothing is judged, and the shipped prior alone decides
    """
    log: Log = DynamoLog(table, clock) if table else LocalLog()
    snapshots: Snapshots = S3Snapshots(table.aws, bucket) if table and bucket else LocalSnapshots()
    evidence: EvidenceStore = (
        DynamoEvidence(state_table, clock, HALF_LIFE_S) if state_table else LocalEvidence(clock, HALF_LIFE_S)
    )
    return SemanticMeaning(
        clock,
        store,
        embedders,
        Library(clock, log, snapshots, background=background),
        Licences(clock, evidence, judge),
        options=options,
        judge=judge,
        background=background,
    )
