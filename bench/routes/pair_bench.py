"""Strategies on a weak and a strong model: RouteLLM's sets and RouteLLM's measures, and dollars beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.routes import metrics, peers
from bench.routes.recorded import Pairs, finite, halves, source_of
from edgewise.routing.complexity import normalised, weights
from edgewise.routing.learn import Learner, Seen

SPLITS = 10
DRAWS = 30
LABELS = (200, 400, 1500)
SERVES_FROM = 1.645
"""Standard errors by which the tuning half must favour a strategy without labels before it may serve."""
PARTS = (0.95, 0.99, 1.0)

Score = np.ndarray


@dataclass(slots=True)
class Tally:
    """One strategy over all splits."""

    apgr: list[float] = field(default_factory=list)
    cpt50: list[float] = field(default_factory=list)
    cpt80: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    savings: dict[float, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    drawn: list[float] = field(default_factory=list)
    drawn_savings: dict[float, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    served: list[bool] = field(default_factory=list)

    def add(self, score: Score, given: Pairs, test: np.ndarray, serves: bool, draws: np.ndarray) -> None:
        weak, strong = given.weak[test], given.strong[test]
        self.apgr.append(metrics.apgr(score, weak, strong))
        self.cpt50.append(metrics.cpt(score, weak, strong, 0.5))
        self.cpt80.append(metrics.cpt(score, weak, strong, 0.8))
        self.served.append(serves)
        quality, cost = points(score, weak, strong, given)
        for part in PARTS:
            saving = metrics.saving_at(quality, cost, strong.mean(), given.strong_usd, part)
            self.savings[part].append(saving if serves else 0.0)
        self.accuracy.append(float(np.interp(0.5, *metrics.curve(score, weak, strong))))
        for drawn in draws:
            again = np.repeat(np.arange(len(test)), drawn)
            self.drawn.append(metrics.apgr(score[again], weak[again], strong[again]))
            quality, cost = points(score[again], weak[again], strong[again], given)
            for part in PARTS:
                saving = metrics.saving_at(quality, cost, strong[again].mean(), given.strong_usd, part)
                self.drawn_savings[part].append(saving if serves else 0.0)

    def row(self) -> dict[str, Any]:
        """The JSON row: how its score ranks, and what it saves; where it refuses to serve it saves nothing."""
        refused = np.mean(self.served) < 0.5
        raw = float(np.mean(self.apgr))
        found: dict[str, Any] = {
            "apgr": finite(raw),
            "ci": metrics.interval(np.array(self.drawn)),
            "sd": finite(float(np.std(self.apgr))),
            "cpt50": finite(np.mean(self.cpt50)),
            "cpt80": finite(np.mean(self.cpt80)),
            "accuracy_at_half": finite(np.mean(self.accuracy)),
            "refused": bool(refused),
            "served_share": finite(np.mean(self.served)),
        }
        for part in PARTS:
            value = 0.0 if refused else float(np.mean(self.savings[part]))
            found[f"saving_at_{round(part * 100)}"] = finite(value)
            drawn = metrics.interval(np.array(self.drawn_savings[part]))
            found[f"saving_at_{round(part * 100)}_ci"] = [0.0, 0.0] if refused else drawn
        return found


def points(score: Score, weak: np.ndarray, strong: np.ndarray, given: Pairs) -> tuple[np.ndarray, np.ndarray]:
    shares, accuracies = metrics.curve(score, weak, strong, 100)
    return accuracies, shares * given.strong_usd + (1 - shares) * given.weak_usd


def run(given: Pairs) -> dict[str, Any]:
    """Every strategy's row for one set."""
    fitted = weights(source_of(given.name))
    reader = Learner(fitted)
    seen = [reader.read(normalised(text)) for text in given.texts]
    tallies: dict[str, Tally] = {}
    for seed in range(SPLITS):
        tune, test = halves(len(seen), seed)
        draws = (metrics.bootstrap_counts(len(test), DRAWS, seed) * len(test)).round().astype(int)
        for name, (score, serves) in scores(given, seen, tune, test, seed, fitted).items():
            tallies.setdefault(name, Tally()).add(score, given, test, serves, draws)
    rows = {name: tally.row() for name, tally in tallies.items()}
    rows |= references(given)
    rows["permuted labels (control)"] = control(given, seen, fitted)
    return rows


def scores(
    given: Pairs, seen: list[Seen], tune: np.ndarray, test: np.ndarray, seed: int, fitted: Any
) -> dict[str, tuple[Score, bool]]:
    """Strategy to (score on the reporting half, whether its test on the tuning half lets it serve)."""
    rng = np.random.default_rng(seed)
    length = np.array([float(len(text)) for text in given.texts])
    rule = np.array([peers.litellm_score(text) for text in given.texts]) + 1e-9 * rng.random(len(seen))
    found: dict[str, tuple[Score, bool]] = {
        "random": (rng.random(len(test)), True),
        "LiteLLM complexity rule": (rule[test], True),
        "prompt length": (length[test], favours(length[tune], given.gain[tune])),
        "domain_table": (domain_score(given, tune, test) + 1e-9 * rng.random(len(test)), True),
        "oracle": (given.gain[test] + 1e-9 * rng.random(len(test)), True),
    }
    unlabelled = Learner(fitted)
    for number in tune:
        unlabelled.see(seen[number])
    own = np.array([unlabelled.gain(question) for question in seen])
    found["complexity"] = (own[test], favours(own[tune], given.gain[tune]))
    for labels in LABELS:
        if labels <= len(tune) or labels == LABELS[0]:
            learner = taught(seen, tune, given.gain, fitted, labels)
            name = f"learned@{labels}"
            found[name] = (np.array([learner.gain(seen[number]) for number in test]), learner.test.serving)
    return found


def taught(seen: list[Seen], tune: np.ndarray, gain: np.ndarray, fitted: Any, labels: int) -> Learner:
    """A learner that has seen the tuning half and been told the labels of its first questions."""
    learner = Learner(fitted)
    for number in tune:
        learner.see(seen[number])
    for number in tune[:labels]:
        learner.learn(seen[number], float(gain[number]))
    return learner


def favours(score: np.ndarray, gain: np.ndarray) -> bool:
    """Whether the labelled half shows, by a one-sided paired test, that routing by `score` beats the random mix."""
    earned = np.where(score >= np.median(score), 0.5, -0.5) * (gain - gain.mean())
    error = earned.std() / math.sqrt(len(earned))
    return bool(error > 0 and earned.mean() / error >= SERVES_FROM)


def domain_score(given: Pairs, tune: np.ndarray, test: np.ndarray) -> Score:
    """Mean gain of the question's domain on the tuning half, drawn towards the overall mean by ten questions."""
    whole = given.gain[tune].mean()
    sums: dict[str, list[float]] = {}
    for number in tune:
        sums.setdefault(given.domains[number], []).append(given.gain[number])
    table = {name: (sum(values) + 10 * whole) / (len(values) + 10) for name, values in sums.items()}
    return np.array([table.get(given.domains[number], whole) for number in test])


def references(given: Pairs) -> dict[str, Any]:
    """The two single models, and what others published."""
    rows: dict[str, Any] = {}
    for name, quality, cost in (("weak", given.weak, given.weak_usd), ("strong", given.strong, given.strong_usd)):
        rows[f"single: {name}"] = {
            "accuracy": finite(quality.mean()),
            "usd_per_1k": finite(cost * 1000),
            "saving_at_100": finite(0.0) if name == "strong" else None,
        }
    for name, (cpt50, cpt80, value) in peers.PUBLISHED.get(given.name, {}).items():
        rows[f"{name} (published)"] = {"apgr": value, "cpt50": cpt50, "cpt80": cpt80, "ci": []}
    return rows


def control(given: Pairs, seen: list[Seen], fitted: Any, rounds: int = 10) -> dict[str, Any]:
    """Outcomes dealt out anew among the questions: nothing can be learned, so nothing may be claimed."""
    raw, served = [], []
    labels = LABELS[1]
    for seed in range(rounds):
        order = np.random.default_rng(seed).permutation(len(seen))
        weak, strong = given.weak[order], given.strong[order]
        tune, test = halves(len(seen), seed)
        learner = taught(seen, tune, strong - weak, fitted, min(labels, len(tune)))
        score = np.array([learner.gain(seen[number]) for number in test])
        raw.append(metrics.apgr(score, weak[test], strong[test]))
        served.append(learner.test.serving)
    return {
        "apgr": finite(np.mean(raw)),
        "sd": finite(np.std(raw)),
        "ci": metrics.interval(np.array(raw)),
        "served_share": finite(np.mean(served)),
        "refused": bool(np.mean(served) < 0.5),
        "saving_at_100": 0.0 if np.mean(served) < 0.5 else None,
    }
