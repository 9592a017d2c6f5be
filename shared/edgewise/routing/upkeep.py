"""The routing room's regular work: labels from all environments are folded into the learners that all of them load.

An environment of Lambda is too short-lived to learn anything by itself, so it only writes labels. Folding is safe to
run twice: a state knows the last label that is in it, and is written over its own version only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edgewise.routing.complexity import weights
from edgewise.routing.knowing import Knowing
from edgewise.routing.learn import Learner, Seen, Stored


class Labels(Protocol):
    """Where labels and states are kept (`dynamodb.LearnTable`)."""

    async def write(self, pair: str, question: Seen, gain: float) -> None: ...
    async def pairs(self) -> list[str]: ...
    async def labels(self, pair: str, after: str) -> list[tuple[str, Seen, float]]: ...
    async def load(self, pair: str) -> Stored | None: ...
    async def save(self, pair: str, found: Stored) -> bool: ...


async def fold(table: Labels) -> Mapping[str, Any]:
    """Fold new labels of every pair into its stored learner; how many, and which pairs may serve."""
    folded, serving = 0, []
    for pair in await table.pairs():
        stored = await table.load(pair)
        learner = learner_of(stored)
        labels = await table.labels(pair, stored.upto if stored else "")
        for _, question, gain in labels:
            learner.see(question)
            learner.learn(question, gain)
        if labels:
            version = (stored.version if stored else 0) + 1
            if await table.save(pair, Stored(learner.dump(), version, labels[-1][0])):
                folded += len(labels)
        if learner.test.serving:
            serving.append(pair)
    return {"labels": folded, "serving": serving}


def learner_of(stored: Stored | None) -> Learner:
    """The stored learner; a fresh one when there is none, or it is of another version."""
    if stored is None:
        return Learner(weights())
    try:
        return Learner.load(stored.state, weights())
    except ValueError:
        return Learner(weights())


async def refresh(knowing: Knowing, table: Labels) -> None:
    """Load every stored learner into this process; its own labels are in them after the next fold."""
    for pair in await table.pairs():
        stored = await table.load(pair)
        if stored is not None:
            knowing.learners[pair] = learner_of(stored)
