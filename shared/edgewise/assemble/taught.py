"""What routing learns from feedback: an opinion on a request that was remembered becomes a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgewise.record.feedback import Opinion

if TYPE_CHECKING:
    from edgewise.routing.learning import Learning

BESIDE_THE_POINT = frozenset({"slow", "stale", "wrong_hit"})
"""Reasons that say nothing of the model that answered."""


@dataclass(frozen=True, slots=True)
class Taught:
    """A hook of feedback. `learning` is asked for when there is an opinion."""

    learning: Callable[[], Learning]

    async def __call__(self, opinion: Opinion) -> Literal["learned"] | None:
        if opinion.reason in BESIDE_THE_POINT:
            return None
        learned = await self.learning().told(opinion.tenant, opinion.request_id, opinion.score)
        return "learned" if learned else None
