"""Fits a table of plans to labelled traffic, and chooses where on its curve to stand. Needs numpy; serves nothing.

Quality and cost of every plan are regressed on the question's hashed pieces: ridge, all plans in one solve. Regressing
whole plans lets subjects differ in how far agreement is to be trusted, which is where most of the gain is.

What is left to choose is λ, the quality that a dollar must buy. Every figure for it is cross-validated, and three
things bound it:

held    the routed quality may lose `SLACK` against the reference model
market  λ is at most `MARKET` times what a dollar buys at the top of the single models' own hull. Beyond the market's
        price quality is sold ever cheaper, and the labels' noise (0.8 points on 1,420 of them) is as large as what is
        sold: without this bound the saving swings with the draw of the labels, and the lost points with it
proof   the chosen point must beat the random mix of single models that costs the same, by a paired test

Where nothing stands inside all three, there is no table: it refuses to route.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgewise.routing.fitted import FittedPlans, PlanKey
from edgewise.routing.learn import PLACES, Seen

if TYPE_CHECKING:
    import numpy as np

PENALTY = 30.0
FOLDS = 5
LAMBDAS = 160
MOST_PLANS = 8
LEAST_LABELS = 150
MOST_LABELS = 3000
"""Labels that a fit reads, drawn at random from more: the solve takes their cube."""
SLACK = 0.0025
MARKET = 1.75
PROOF = 1.645
"""Standard errors above the random mix: one in twenty by chance."""


@dataclass(slots=True)
class Fit:
    """A regression of all plans. Rows of `matrix`, `quality` and `cost` are labelled questions."""

    matrix: np.ndarray
    quality: np.ndarray
    cost: np.ndarray

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, weights) of quality and cost of all plans: (2 plans,) and (places, 2 plans)."""
        mean, dual = self._solved(self.matrix @ self.matrix.T, slice(None))
        return mean, self.matrix.T @ dual

    def out_of_fold(self) -> tuple[np.ndarray, np.ndarray]:
        """Expected (quality, cost) of every plan on every question, each from the folds that don't hold it."""
        import numpy as np

        gram = self.matrix @ self.matrix.T
        count, plans = self.quality.shape
        found = np.zeros((count, 2 * plans))
        for held in np.array_split(np.arange(count), FOLDS):
            rest = np.setdiff1d(np.arange(count), held)
            mean, dual = self._solved(gram[np.ix_(rest, rest)], rest)
            found[held] = mean + gram[np.ix_(held, rest)] @ dual
        return found[:, :plans], found[:, plans:]

    def _solved(self, gram: np.ndarray, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        targets = np.hstack([self.quality[rows], self.cost[rows]])
        mean = targets.mean(0)
        return mean, np.linalg.solve(gram + PENALTY * np.eye(len(gram)), targets - mean)


@dataclass(frozen=True, slots=True)
class Stand:
    """Where on the curve to stand. All figures are cross-validated."""

    lam: float
    over: float
    """Quality over the reference, 0.01 a point."""
    saving: float


def matrix_of(questions: Sequence[Seen], rarity: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """(questions, places) rows of unit length, and the rarity of each place: counted here unless it is given."""
    import numpy as np

    rows = np.zeros((len(questions), PLACES), np.float32)
    for number, question in enumerate(questions):
        rows[number, list(question.places)] = 1.0
    if rarity is None:
        rarity = (np.log((1 + len(questions)) / (1 + rows.sum(0))) + 1).astype(np.float32)
    rows *= rarity
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return rows, rarity


def hull(quality: np.ndarray, cost: np.ndarray) -> list[int]:
    """Models that no mixture of others beats in both mean quality and mean cost, cheapest first."""
    import numpy as np

    kept: list[int] = []
    for model in np.lexsort((-quality, cost)):
        if kept and quality[model] <= quality[kept[-1]]:
            continue
        while len(kept) > 1 and (quality[kept[-1]] - quality[kept[-2]]) * (cost[model] - cost[kept[-2]]) <= (
            quality[model] - quality[kept[-2]]
        ) * (cost[kept[-1]] - cost[kept[-2]]):
            kept.pop()
        kept.append(int(model))
    return kept


def beats_mix(earned: np.ndarray, paid: float, quality: np.ndarray, cost: np.ndarray) -> bool:
    """Whether `earned` (quality of each question) beats, by a paired test, the random mix that costs `paid` a question.

    quality, cost  (questions, models): single models on the same questions
    """
    import numpy as np

    kept = hull(quality.mean(0), cost.mean(0))
    means = cost.mean(0)[kept]
    upper = min(len(kept) - 1, int(np.searchsorted(means, paid)))
    lower = max(0, upper - 1)
    part = 1.0 if upper == lower else float(np.clip((paid - means[lower]) / (means[upper] - means[lower]), 0, 1))
    over = earned - (1 - part) * quality[:, kept[lower]] - part * quality[:, kept[upper]]
    # Never surer than one more lost question would leave it: who moves one lucky question proves nothing.
    error = np.sqrt((over.var() + 1 / len(over)) / len(over))
    return bool(over.mean() / error >= PROOF)


def lambdas(quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """λ from "money is no object" to the market's bound, in quality a dollar. quality, cost: means of single models."""
    import numpy as np

    kept = hull(quality, cost)
    scale = float(cost[kept[-1]]) or 1.0
    most = 30.0 / scale
    if len(kept) > 1:
        most = MARKET * (quality[kept[-1]] - quality[kept[-2]]) / (cost[kept[-1]] - cost[kept[-2]])
    return np.geomspace(min(0.003 / scale, most / 10), most, LAMBDAS)


def stand(
    expected: tuple[np.ndarray, np.ndarray], real: tuple[np.ndarray, np.ndarray], reference: int,
    single: tuple[np.ndarray, np.ndarray],
) -> Stand | None:  # fmt: skip
    """The cheapest λ that holds the reference's quality; None when none does, or what it chooses proves nothing.

    expected  (quality, cost) of every plan on every question, out of fold     real  what they were
    reference  the plan to hold                                                single  what single models' were
    """
    import numpy as np

    at = np.arange(len(real[0]))
    held, paid = real[0][:, reference].mean(), real[1][:, reference].mean()
    best: tuple[Stand, np.ndarray] | None = None
    for lam in lambdas(single[0].mean(0), single[1].mean(0)):
        chosen = (expected[0] - lam * expected[1]).argmax(1)
        over = float(real[0][at, chosen].mean() - held)
        saving = 1 - float(real[1][at, chosen].mean() / paid) if paid else 0.0
        if over >= -SLACK and saving > (best[0].saving if best else 0.0):
            best = Stand(float(lam), over, saving), chosen
    if best is None or not beats_mix(real[0][at, best[1]], float(real[1][at, best[1]].mean()), *single):
        return None
    return best[0]


def fitted(
    questions: Sequence[Seen], plans: Sequence[PlanKey], quality: Any, cost: Any, reference: int
) -> FittedPlans | None:
    """The table that serves, or None when labels are too few or nothing holds the reference's quality.

    quality, cost  (questions, plans): right or wrong, and dollars, of every plan on every labelled question
    """
    import numpy as np

    if len(questions) < LEAST_LABELS:
        return None
    rows = np.random.default_rng(0).permutation(len(questions))[:MOST_LABELS]
    matrix, rarity = matrix_of([questions[row] for row in rows])
    fit = Fit(matrix, np.asarray(quality, float)[rows], np.asarray(cost, float)[rows])
    expected = fit.out_of_fold()
    alone = [number for number, key in enumerate(plans) if len(key.first) == 1 and key.strong is None]
    single = fit.quality[:, alone], fit.cost[:, alone]
    found = stand(expected, (fit.quality, fit.cost), reference, single)
    if found is None:
        return None
    # Only the plans that are used most are served, so λ is chosen anew for them.
    used = np.bincount((expected[0] - found.lam * expected[1]).argmax(1), minlength=len(plans))
    kept = sorted({*np.argsort(-used)[:MOST_PLANS].tolist(), reference}, key=lambda n: -used[n])
    fit = Fit(matrix, fit.quality[:, kept], fit.cost[:, kept])
    few = expected[0][:, kept], expected[1][:, kept]
    found = stand(few, (fit.quality, fit.cost), kept.index(reference), single)
    if found is None:
        return None
    mean, weight = fit.weights()
    size = len(kept)
    blocks = [array("f", column.astype("f4").tobytes()) for column in weight.T]
    return FittedPlans(
        plans=tuple(plans[number] for number in kept),
        lam=found.lam,
        base=tuple((float(mean[n]), float(mean[size + n])) for n in range(size)),
        weights=tuple(zip(blocks[:size], blocks[size:], strict=True)),
        rarity=array("f", rarity.astype("f4").tobytes()),
        tested=f"{found.over * 100:+.1f} points at {found.saving:.0%} less on {len(rows)} labels",
    )
