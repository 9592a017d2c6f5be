"""Guarantee mode: no worse than a reference model by more than δ, with a stated chance of being wrong.

Instead of a threshold that looked good, the operating point is chosen by testing. Thresholds are tried from the safest
(everything goes to the strong model: no loss) downwards; each is tested for "the loss exceeds δ" on labelled shadow
traffic with a one-sided bound, and the walk stops at the first that can't be rejected. Testing in a fixed order keeps
the error at α without a correction for the number of thresholds (Learn then Test, Angelopoulos et al. 2021).

The labels must be drawn at random from the traffic that the promise is made for. When that traffic changes, what was
proved before says nothing: labels from before the change are dropped, and the promise is open until it is proved anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

STEPS = 20
LEAST_LABELS = 60
RECENT = 80
CHANGED = 3.0
"""Standard errors by which the newest labels must lose more than those before them to count as a change."""

Proof = list[tuple[float, float]]
"""(score, gain) of labelled questions, oldest first."""


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
    # Here, because it costs a cold start 4 ms, and most processes prove nothing.
    from statistics import NormalDist

    mean = sum(lost) / count
    square = (sum(value * value for value in lost) + 1.0) / count
    return mean + NormalDist().inv_cdf(1 - alpha) * math.sqrt(max(square - mean * mean, 1e-12) / count)


def since_the_change(proof: Proof) -> Proof:
    """`proof` from the last change of the traffic on: all of it unless the newest labels lose more than those before.

    Only a change for the worse counts, as one for the better breaks no promise. It lies where the sum of what was lost
    beyond halfway between the two means is least (Page 1954), mostly within the newest: a window of a fixed length
    would keep good labels from before it. Whoever keeps a proof keeps this in its place, so nothing dropped comes back.
    """
    if len(proof) < 2 * RECENT:
        return proof
    before, after = [gain for _, gain in proof[:-RECENT]], [gain for _, gain in proof[-RECENT:]]
    mean = sum(before) / len(before)
    # As in `upper_bound`: never surer than one more lost label would leave it.
    spread = (sum(gain * gain for gain in before) + 1.0) / len(before) - mean * mean
    error = math.sqrt(max(spread, 1e-9) * (1 / RECENT + 1 / len(before)))
    now = sum(after) / RECENT
    if now - mean <= CHANGED * error:
        return proof
    lost = [0.0, *accumulate(gain - (mean + now) / 2 for _, gain in proof)]
    return proof[lost.index(min(lost)) :]
