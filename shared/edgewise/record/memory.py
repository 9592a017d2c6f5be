"""What the record room remembers beyond a line: roll-ups and opinions, in the state table or in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewise.aws import Aws
from edgewise.background import Background
from edgewise.clock import Clock
from edgewise.record.feedback import Feedback, FeedbackStore, Hook, MemoryFeedback
from edgewise.record.rollups import MemoryRollups, Rollups, RollupStore
from edgewise.record.room import RecordRoom
from edgewise.settings import Settings


@dataclass(frozen=True, slots=True)
class Memory:
    rollups: Rollups
    feedback: Feedback


def open_memory(
    settings: Settings,
    record: RecordRoom,
    *,
    clock: Clock,
    aws: Aws,
    background: Background,
    hooks: Sequence[Hook] = (),
) -> Memory:
    """Roll-ups that watch `record` from now on, and feedback that tells `hooks`."""
    sums: RollupStore
    opinions: FeedbackStore
    if settings.state_table:
        from edgewise.aws import Table
        from edgewise.record.dynamodb import DynamoFeedback, DynamoRollups

        table = Table(aws, settings.state_table)
        sums, opinions = DynamoRollups(table, clock), DynamoFeedback(table)
    else:
        sums, opinions = MemoryRollups(), MemoryFeedback()
    rollups = Rollups(
        sums,
        clock,
        background.spawn,
        flush_s=settings.rollup_s,
        failed=record.failed,
    )
    record.watch(rollups)
    return Memory(rollups, Feedback(opinions, record.signal, [rollups.hear, *hooks]))
