"""Plans whose worth was fitted to labelled traffic: for each question, what each plan would bring and cost here.

A label here is a question on which every model of the table was asked (shadow traffic, or a recorded set). For each
plan (one model; a pair that must agree before a strong one; a third that may side with either) quality and cost are
known after the fact, so both are regressed on the question's hashed pieces: ridge, all plans in one solve. λ is then
chosen by cross-validation, as the cheapest at which the routed quality is not below the reference model's. Where no
λ reaches that, there is no table: it refuses to route.

Regressing whole plans lets subjects differ in how far agreement is to be trusted, which is where most of the gain is.
Needs numpy, when fitting only; the table that serves holds at most `MOST_PLANS` plans, 32 KB each.
"""

from __future__ import annotations

import json
import math
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgewise.routing.learn import PLACES, Seen

if TYPE_CHECKING:
    import numpy as np

PENALTY = 30.0
FOLDS = 5
LAMBDAS = 60
MOST_PLANS = 8
LEAST_LABELS = 150
TABLE_VERSION = 1
STANDARD_ERRORS = 0.0
"""How far above the reference the cross-validated quality must stay, in its standard errors."""


@dataclass(frozen=True, slots=True)
class PlanKey:
    """A plan by its models: asked at once, then a third opinion, then the one that answers for sure."""

    first: tuple[str, ...]
    third: str | None = None
    strong: str | None = None

    def label(self) -> str:
        return "→".join(part for part in ("+".join(self.first), self.third, self.strong) if part)


@dataclass(frozen=True, slots=True)
class FittedPlans:
    """A table that serves. `quality` and `cost` are linear in the question's pieces."""

    plans: tuple[PlanKey, ...]
    lam: float
    base: tuple[tuple[float, float], ...]
    """Mean (quality, cost) of each plan."""
    weights: tuple[tuple[array[float], array[float]], ...]
    rarity: array[float]
    tested: str
    """What the cross-validation said, for reasons."""

    def worth(self, question: Seen) -> list[tuple[PlanKey, float, float]]:
        """(plan, expected quality, expected cost in dollars) for one question, in the table's order."""
        values = [self.rarity[place] for place in question.places]
        length = math.sqrt(sum(value * value for value in values)) or 1.0
        found = []
        for plan, base, (good, dear) in zip(self.plans, self.base, self.weights, strict=True):
            pairs = list(zip(question.places, values, strict=True))
            quality = base[0] + sum(good[place] * value for place, value in pairs) / length
            cost = base[1] + sum(dear[place] * value for place, value in pairs) / length
            found.append((plan, min(1.0, max(0.0, quality)), max(0.0, cost)))
        return found

    def best(self, question: Seen) -> tuple[PlanKey, float, float]:
        """The plan of most worth at the table's λ."""
        return max(self.worth(question), key=lambda row: row[1] - self.lam * row[2])

    def dump(self) -> bytes:
        """The table packed: weights as bytes of their own scale, which costs under half a hundredth of the largest."""
        blocks = [block for pair in self.weights for block in pair] + [self.rarity]
        scales = [max(map(abs, block), default=0.0) / 127 or 1.0 for block in blocks]
        head = {
            "version": TABLE_VERSION,
            "plans": [[key.first, key.third, key.strong] for key in self.plans],
            "lam": self.lam,
            "base": self.base,
            "scales": scales,
            "tested": self.tested,
        }
        text = json.dumps(head).encode()
        raw = b"".join(
            array("b", [round(value / scale) for value in block]).tobytes()
            for block, scale in zip(blocks, scales, strict=True)
        )
        return zlib.compress(len(text).to_bytes(4, "big") + text + raw, 6)

    @classmethod
    def load(cls, state: bytes) -> FittedPlans:
        """The table that `dump` wrote. Raises ValueError for another version or a torn state."""
        raw = zlib.decompress(state)
        size = int.from_bytes(raw[:4], "big")
        head = json.loads(raw[4 : 4 + size])
        scales = head.get("scales", ())
        if head.get("version") != TABLE_VERSION or len(raw) != 4 + size + len(scales) * PLACES:
            raise ValueError("a table of plans of another version")
        packed = array("b", raw[4 + size :])
        blocks = [
            array("f", [value * scale for value in packed[n * PLACES : (n + 1) * PLACES]])
            for n, scale in enumerate(scales)
        ]
        return cls(
            plans=tuple(PlanKey(tuple(first), third, strong) for first, third, strong in head["plans"]),
            lam=head["lam"],
            base=tuple((quality, cost) for quality, cost in head["base"]),
            weights=tuple(zip(blocks[:-1:2], blocks[1:-1:2], strict=True)),
            rarity=blocks[-1],
            tested=head["tested"],
        )


@dataclass(slots=True)
class Fit:
    """A regression over all plans; `matrix` for many questions at once."""

    matrix: np.ndarray
    quality: np.ndarray
    cost: np.ndarray
    penalty: float = PENALTY

    def predict(self, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected (quality, cost) of every plan on `test`, from `train`; arrays are (questions, plans)."""
        import numpy as np

        known = self.matrix[train]
        kernel = known @ known.T + self.penalty * np.eye(len(train))
        targets = np.hstack([self.quality[train], self.cost[train]])
        mean = targets.mean(0)
        dual = np.linalg.solve(kernel, targets - mean)
        found = mean + (self.matrix[test] @ known.T) @ dual
        plans = self.quality.shape[1]
        return found[:, :plans], found[:, plans:]

    def out_of_fold(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predictions for `rows`, each from the folds that don't hold it."""
        import numpy as np

        quality, cost = np.zeros((len(rows), self.quality.shape[1])), np.zeros((len(rows), self.quality.shape[1]))
        for held in np.array_split(np.arange(len(rows)), FOLDS):
            rest = np.setdiff1d(np.arange(len(rows)), held)
            quality[held], cost[held] = self.predict(rows[rest], rows[held])
        return quality, cost


def matrix_of(questions: Sequence[Seen]) -> tuple[np.ndarray, np.ndarray]:
    """(questions, places) rows of unit length, and the rarity of each place."""
    import numpy as np

    rows = np.zeros((len(questions), PLACES), np.float32)
    for number, question in enumerate(questions):
        rows[number, list(question.places)] = 1.0
    rarity = np.log((1 + len(questions)) / (1 + rows.sum(0))) + 1
    rows *= rarity
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return rows, rarity


def lambdas(cost: np.ndarray) -> np.ndarray:
    """λ from "money is no object" to "the cheapest", in points a dollar, on the scale of the costs at hand."""
    import numpy as np

    scale = float(np.median(cost.max(1))) or 1.0
    return np.geomspace(1e-3 / scale, 10.0 / scale, LAMBDAS)


def choose_lambda(fit: Fit, rows: np.ndarray, reference: int, slack: float = 0.0) -> tuple[float, float, float] | None:
    """(λ, points over the reference, saving) of the cheapest λ that holds the reference's quality; None when none.

    reference  the plan to hold      slack  points that may be lost      All figures are cross-validated on `rows`.
    """
    import numpy as np

    quality, cost = fit.out_of_fold(rows)
    at = np.arange(len(rows))
    real_quality, real_cost = fit.quality[rows], fit.cost[rows]
    held, paid = real_quality[:, reference], real_cost[:, reference].mean()
    best: tuple[float, float, float] | None = None
    for lam in lambdas(real_cost):
        chosen = (quality - lam * cost).argmax(1)
        over = real_quality[at, chosen] - held
        bound = over.mean() - STANDARD_ERRORS * over.std() / math.sqrt(len(rows))
        saving = 1 - real_cost[at, chosen].mean() / paid
        if bound >= -slack and saving > 0 and (best is None or saving > best[2]):
            best = (float(lam), float(over.mean()), float(saving))
    return best


def fitted(
    questions: Sequence[Seen], plans: Sequence[PlanKey], quality: Any, cost: Any, reference: int
) -> FittedPlans | None:
    """The table that serves, or None when labels are too few or no λ holds the reference's quality.

    quality, cost  (questions, plans): right or wrong, and dollars, of every plan on every labelled question
    """
    import numpy as np

    if len(questions) < LEAST_LABELS:
        return None
    matrix, rarity = matrix_of(questions)
    fit = Fit(matrix, np.asarray(quality, float), np.asarray(cost, float))
    rows = np.random.default_rng(0).permutation(len(questions))
    chosen = choose_lambda(fit, rows, reference)
    if chosen is None:
        return None
    lam, over, saving = chosen
    expected, dollars = fit.out_of_fold(rows)
    used = np.bincount((expected - lam * dollars).argmax(1), minlength=len(plans))
    kept = sorted({*np.argsort(-used)[:MOST_PLANS].tolist(), reference}, key=lambda n: -used[n])
    kernel = matrix @ matrix.T + fit.penalty * np.eye(len(matrix))
    targets = np.hstack([fit.quality[:, kept], fit.cost[:, kept]])
    weight = matrix.T @ np.linalg.solve(kernel, targets - targets.mean(0))
    size = len(kept)
    return FittedPlans(
        plans=tuple(plans[number] for number in kept),
        lam=lam,
        base=tuple((float(fit.quality[:, n].mean()), float(fit.cost[:, n].mean())) for n in kept),
        weights=tuple(
            (array("f", weight[:, n].astype("f4").tobytes()), array("f", weight[:, size + n].astype("f4").tobytes()))
            for n in range(size)
        ),
        rarity=array("f", rarity.astype("f4").tobytes()),
        tested=f"{over * 100:+.1f} points at {saving:.0%} less on {len(questions)} labels",
    )
