"""The routing room's regular work: labels from all environments become the states that all of them load.

An environment of Lambda is too short-lived to learn anything by itself, so it only writes labels. Folding is safe to
run twice: a state knows the last label that is in it, and is written over its own version only. What a guarantee is
proved on is kept apart by tenant, for a promise is made to one tenant's traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edgewise.routing.complexity import weights
from edgewise.routing.guarantee import RECENT, Proof, since_the_change
from edgewise.routing.labels import Asked, Label, Panel
from edgewise.routing.learn import Learner, Stored

PLANS = "#plans"
"""Among the pairs' versions, the one of the fitted plans."""
WAIT_SHARE = 20
"""Plans are fitted anew when one panel in so many is new: a fit is the dearest thing that upkeep does."""
MOST_PROOF = 1000
"""Labels of one tenant and pair that a guarantee rests on: the newest."""


class Labels(Protocol):
    """Where labels and states are kept (`dynamodb_learn.LearnTable`)."""

    async def write(self, pair: str, label: Label) -> None: ...
    async def versions(self) -> dict[str, int]: ...
    async def labels(self, pair: str, after: str) -> list[tuple[str, Label]]: ...
    async def load(self, pair: str) -> Stored | None: ...
    async def save(self, pair: str, found: Stored) -> bool: ...
    async def proof(self, pair: str, tenant: str) -> Proof: ...
    async def save_proof(self, pair: str, tenant: str, pairs: Proof) -> None: ...
    async def write_panel(self, panel: Panel) -> None: ...
    async def panels(self) -> list[tuple[str, Panel]]: ...
    async def load_plans(self) -> tuple[Stored, dict[str, tuple[int, int]]] | None: ...
    async def save_plans(self, found: Stored, counts: Mapping[str, tuple[int, int]]) -> bool: ...
    async def remember(self, request_id: str, asked: Asked) -> None: ...
    async def recall(self, tenant: str, request_id: str) -> Asked | None: ...


async def fold(table: Labels) -> Mapping[str, Any]:
    """Fold new labels of every pair into its learner, and panels into plans; how many, and what may serve."""
    folded, serving = 0, []
    for pair in await table.versions():
        if pair == PLANS:
            continue
        learner, count = await _fold_pair(table, pair)
        folded += count
        if learner.test.serving:
            serving.append(pair)
    return {"labels": folded, "serving": serving, "plans": await fold_panels(table)}


async def _fold_pair(table: Labels, pair: str) -> tuple[Learner, int]:
    stored = await table.load(pair)
    learner = learner_of(stored)
    labels = await table.labels(pair, stored.upto if stored else "")
    if not labels:
        return learner, 0
    proofs: dict[str, Proof] = {}
    for _, label in labels:
        if label.drawn:
            # Predicted before it is learned from, so that what a guarantee rests on was never fitted to.
            proofs.setdefault(label.tenant, []).append((learner.gain(label.question), label.gain))
        learner.see(label.question)
        learner.learn(label.question, label.gain)
    saved = await table.save(pair, Stored(learner.dump(), (stored.version if stored else 0) + 1, labels[-1][0]))
    if not saved:
        return learner, 0
    for tenant, fresh in proofs.items():
        proof = await table.proof(pair, tenant)
        # In parts, or a change long before the newest of many would hide among what it is compared with.
        for start in range(0, len(fresh), RECENT):
            proof = since_the_change([*proof, *fresh[start : start + RECENT]])
        await table.save_proof(pair, tenant, proof[-MOST_PROOF:])
    return learner, len(labels)


async def fold_panels(table: Labels) -> str:
    """Fit plans to the newest panels, when there are new ones; what came of it."""
    panels = await table.panels()
    held = await table.load_plans()
    fresh = [key for key, _ in panels if held is None or key > held[0].upto]
    if not fresh:
        return "nothing new"
    if held is not None and len(fresh) * WAIT_SHARE < len(panels):
        return f"waits for more than {len(fresh)} new"
    found = [panel for _, panel in panels]
    state, told = _fitted(found)
    from edgewise.routing.panels import counts_of

    stored = Stored(state, (held[0].version if held else 0) + 1, panels[-1][0])
    saved = await table.save_plans(stored, counts_of(found).seen)
    return told if saved else "another writer was first"


def _fitted(panels: Sequence[Panel]) -> tuple[bytes, str]:
    from edgewise.routing.panels import table_of

    try:
        plans = table_of(panels)
    except ImportError:
        return b"", "numpy is not installed here"
    return (plans.dump(), plans.tested) if plans is not None else (b"", f"no plan holds on {len(panels)} questions")


def learner_of(stored: Stored | None) -> Learner:
    """The stored learner; a fresh one when there is none, or it is of another version."""
    if stored is None:
        return Learner(weights())
    try:
        return Learner.load(stored.state, weights())
    except ValueError:
        return Learner(weights())
