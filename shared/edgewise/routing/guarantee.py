"""Guarantee mode: no worse than a reference model by more than δ, with a stated chance of being wrong.

Instead of a threshold that looked good, the operating point is chosen by testing. Thresholds are tried from the safest
(everything goes to the strong model: no loss) downwards; each is tested for "the loss exceeds δ" on labelled shadow
traffic with a one-sided bound, and the walk stops at the first that can't be rejected. Testing in a fixed order keeps
the error at α without a correction for the number of thresholds (Learn then Test, Angelopoulos et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

STEPS = 20
LEAST_LABELS = 60


@dataclass(frozen=True, slots=True)
class Operating:
    """Send a question to the strong model when its score is at least `threshold`."""

    threshold: float
    strong_share: float
    loss_bound: float
    """Upper bound of the mean loss against the strong model, quality points, at 1 − α."""


def operating_point(
    scores: Sequence[float], gains: Sequence[float], *, delta: float, alpha: float = 0.05
) -> Operating | None:
    """The cheapest operating point whose loss is at most `delta`; None when labels are too few for any.

    scores  predicted gain a question, made before its label was learned      gains  strong less weak, −1 to 1
    delta   quality points that may be lost on average                        alpha  chance of a broken promise
    """
    count = len(scores)
    if count < LEAST_LABELS:
        return None
    order = sorted(range(count), key=lambda number: scores[number])
    best: Operating | None = None
    for step in range(1, STEPS + 1):
        weak = order[: count * step // STEPS]
        bound = upper_bound([gains[number] for number in weak], count, alpha)
        if bound > delta:
            break
        threshold = scores[order[count * step // STEPS]] if step < STEPS else math.inf
        best = Operating(threshold, 1 - step / STEPS, bound)
    return best


def upper_bound(lost: Sequence[float], count: int, alpha: float) -> float:
    """Upper bound at 1 − α of the mean loss over `count` questions, of which `lost` went to the weak model.

    Normal approximation with a variance that is never below that of one more lost question, so that a few lucky
    labels don't promise perfection.
    """
    mean = sum(lost) / count
    square = (sum(value * value for value in lost) + 1.0) / count
    return mean + NormalDist().inv_cdf(1 - alpha) * math.sqrt(max(square - mean * mean, 1e-12) / count)
