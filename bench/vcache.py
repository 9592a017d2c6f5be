"""vCache as published (Schroeder et al. 2025, arXiv 2502.03771), written from its formulas, as a baseline.

Each entry keeps observations (similarity, was its answer right). A logistic curve is fitted to them; its threshold's
variance by the delta method gives, for each level e, an upper bound of the threshold and so a lower bound of
P(right | similarity); explore with the smallest probability that keeps P(error) <= delta. Exploring calls the model
and compares the answers: one label each, and a new entry when they differ. Fewer than six observations always explore.
Where the classes are separated perfectly the curve has no maximum; a ridge of `RIDGE` on its slope stands in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

LEAST = 6
RIDGE = 1e-3
LEVELS = np.linspace(1e-6, 1 - 1e-6, 50)


def _quantile(levels: np.ndarray) -> np.ndarray:
    from statistics import NormalDist

    return np.array([NormalDist().inv_cdf(float(level)) for level in levels])


_Z = _quantile(1 - LEVELS)


@dataclass
class Seen:
    """One entry's observations, with the two that the paper seeds every entry with."""

    similarity: list[float] = field(default_factory=lambda: [0.0, 1.0])
    right: list[float] = field(default_factory=lambda: [0.0, 1.0])
    fitted: tuple[float, float, float] | None = None

    def add(self, similarity: float, right: bool) -> None:
        self.similarity.append(round(similarity, 3))
        self.right.append(float(right))
        self.fitted = None

    def fit(self) -> tuple[float, float, float]:
        """(threshold, slope, variance of the threshold)."""
        if self.fitted is None:
            self.fitted = _fit(np.array(self.similarity), np.array(self.right))
        return self.fitted


def _fit(s: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    x = np.column_stack([np.ones_like(s), s])
    b = np.array([-5.0, 8.0])
    ridge = np.diag([RIDGE, RIDGE])
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(x @ b, -30, 30)))
        w = np.maximum(p * (1 - p), 1e-9)
        step = np.linalg.solve(x.T @ (x * w[:, None]) + ridge, x.T @ (y - p) - ridge @ b)
        b = b + np.clip(step, -10, 10)
        if np.abs(step).max() < 1e-6:
            break
    slope = max(b[1], 1e-6)
    p = 1 / (1 + np.exp(-np.clip(x @ b, -30, 30)))
    w = np.maximum(p * (1 - p), 1e-9)
    covariance = np.linalg.inv(x.T @ (x * w[:, None]) + ridge)
    gradient = np.array([-1 / slope, b[0] / slope**2])
    threshold = min(1.0, max(0.0, -b[0] / slope))
    return threshold, slope, float(gradient @ covariance @ gradient)


def explore_probability(seen: Seen, similarity: float, delta: float) -> float:
    """The chance with which the model must be asked, although a neighbour is there."""
    if len(seen.right) < LEAST:
        return 1.0
    threshold, slope, variance = seen.fit()
    upper = np.clip(threshold + _Z * math.sqrt(max(variance, 0.0)), 0.0, 1.0)
    lower = (1 - LEVELS) / (1 + np.exp(-np.clip(slope * (similarity - upper), -30, 30)))
    with np.errstate(divide="ignore"):
        needed = 1 - delta / np.maximum(1 - lower, 1e-12)
    return float(np.clip(needed.min(), 0.0, 1.0))
