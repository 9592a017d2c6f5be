"""The field's own measures: APGR and CPT as RouteLLM computes them, saving against the best single model.

APGR: thresholds at ten score quantiles, accuracy over the share of strong calls by the trapezoid rule, weak at 0 and
strong at 1. CPT(x): share of strong calls that recovers x of the gap, interpolated on the same curve. Saving at q: one
less the cost, in dollars, of the cheapest point of the strategy's own curve (and mixtures of its neighbours) whose
quality is at least q times the best single model's; negative when it costs more.
"""

from __future__ import annotations

import numpy as np


def curve(score: np.ndarray, weak: np.ndarray, strong: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """(share of strong calls, accuracy), share rising."""
    thresholds = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))
    shares, accuracies = [], []
    for number, threshold in enumerate(thresholds):
        chosen = score >= threshold if number < len(thresholds) - 1 else score > threshold
        shares.append(chosen.mean())
        accuracies.append(np.where(chosen, strong, weak).mean())
    return np.array(shares[::-1]), np.array(accuracies[::-1])


def apgr(score: np.ndarray, weak: np.ndarray, strong: np.ndarray) -> float:
    shares, accuracies = curve(score, weak, strong)
    gap = strong.mean() - weak.mean()
    return float((np.trapezoid(accuracies, shares) - weak.mean()) / gap) if gap else 0.5


def cpt(score: np.ndarray, weak: np.ndarray, strong: np.ndarray, part: float) -> float:
    """Share of strong calls, 0 to 1, at which the curve first recovers `part` of the gap, between its points linear."""
    shares, accuracies = curve(score, weak, strong)
    # Where accuracy falls again, RouteLLM's interpolation has no meaning: what was reached once stays reached.
    wanted = weak.mean() + part * (strong.mean() - weak.mean())
    return float(np.interp(wanted, np.maximum.accumulate(accuracies), shares))


def saving_at(quality: np.ndarray, cost: np.ndarray, best_quality: float, best_cost: float, part: float) -> float:
    """Saving of a curve's points at `part` of the best single model's quality; nan when it is never reached."""
    order = np.argsort(cost)
    quality, cost = quality[order], cost[order]
    wanted = part * best_quality
    above = np.flatnonzero(quality >= wanted - 1e-12)
    if not len(above):
        return float("nan")
    least = cost[above[0]]
    below = [n for n in range(above[0]) if quality[n] < wanted]
    for low in below:
        for high in above:
            if quality[high] > quality[low]:
                mix = (wanted - quality[low]) / (quality[high] - quality[low])
                least = min(least, cost[low] + mix * (cost[high] - cost[low]))
    return float(1 - least / best_cost)


def bootstrap_counts(count: int, draws: int, seed: int) -> np.ndarray:
    """(draws, count) weights of each question in each resample; the same for every strategy, so they stay paired."""
    rng = np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(draws)]) / count


def interval(values: np.ndarray) -> list[float]:
    """The middle 95 %."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        return []
    return [round(float(v), 4) for v in np.percentile(kept, [2.5, 97.5])]
