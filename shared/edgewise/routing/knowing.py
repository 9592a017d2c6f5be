"""What the room has learned: one learner a pair of models, kept in memory, stored by upkeep.

It turns a question into what the strategies may know of it (`Reading`), and an answered shadow question into a label.
Learners are made on first use; a stored state replaces a fresh one when it arrives.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgewise.chat import Usage
from edgewise.routing.complexity import Weights, features, weights
from edgewise.routing.evidence import AGREED, DISAGREED
from edgewise.routing.fitted import FittedPlans
from edgewise.routing.guarantee import Operating, operating_point
from edgewise.routing.learn import Learner, Seen
from edgewise.words import Model

KEPT_LABELS = 1000
MOST_PAIRS = 8
LENGTH_SHARE = 0.05
LEAST_LENGTHS = 30
STRONG_DISAGREED = 0.598
"""Share of right strong answers where two cheap models disagree (ZeroEval)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One question: its counts and its difficulty."""

    counts: Mapping[str, float]
    difficulty: float
    text: str
    fitted: Weights

    @property
    def seen(self) -> Seen:
        """The question as learners see it. Worked out when asked for: most requests meet no learner."""
        return Learner.reading(self.text, self.counts, self.fitted)


@dataclass(slots=True)
class Lengths:
    """Running mean and variance of a model's log answer tokens."""

    count: int = 0
    mean: float = 0.0
    variance: float = 1.0

    def add(self, usage: Usage | None) -> None:
        if usage is None or usage.completion_tokens <= 0:
            return
        value = math.log(usage.completion_tokens)
        self.count += 1
        share = max(LENGTH_SHARE, 1 / self.count)
        distance = value - self.mean
        self.mean += share * distance
        self.variance += share * (distance * distance - self.variance)


@dataclass(slots=True)
class Knowing:
    """Everything learned in this process."""

    learners: dict[str, Learner] = field(default_factory=dict)
    labels: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)
    """Pair to (predicted before learning, gain): what a guarantee is proved on."""
    lengths: dict[str, Lengths] = field(default_factory=dict)
    fitted: Weights | None = None
    plans: FittedPlans | None = None
    """Plans fitted to own labelled traffic (`fitted.py`); None until there are, or while none holds its promise."""

    def weights(self) -> Weights:
        if self.fitted is None:
            self.fitted = weights()
        return self.fitted

    def read(self, text: str) -> Reading:
        """A normalised question, counted once for all that need it."""
        fitted = self.weights()
        counts = features(text)
        return Reading(counts, fitted.difficulty(counts), text, fitted)

    def learner(self, pair: str) -> Learner:
        """The pair's learner; the oldest pair makes room for a ninth."""
        if pair not in self.learners:
            if len(self.learners) >= MOST_PAIRS:
                oldest = next(iter(self.learners))
                del self.learners[oldest]
                self.labels.pop(oldest, None)
            self.learners[pair] = Learner(self.weights())
        return self.learners[pair]

    def learn(self, pair: str, question: Seen, gain: float) -> None:
        """One label: strong less weak on this question, from −1 to 1."""
        learner = self.learner(pair)
        kept = self.labels.setdefault(pair, deque(maxlen=KEPT_LABELS))
        kept.append((learner.gain(question), gain))
        learner.see(question)
        learner.learn(question, gain)

    def operating(self, pair: str, delta: float) -> Operating | None:
        """The proven operating point of a guarantee; None while it can't be proved, or after drift."""
        learner, labels = self.learners.get(pair), self.labels.get(pair)
        if learner is None or labels is None or learner.test.recent < 0:
            return None
        return operating_point([score for score, _ in labels], [gain for _, gain in labels], delta=delta)

    def log_length(self, model: Model) -> tuple[float, float] | None:
        found = self.lengths.get(model.name)
        if found is None or found.count < LEAST_LENGTHS:
            return None
        return found.mean, math.sqrt(found.variance)


def pair_of(weak: Model, strong: Model) -> str:
    return f"{weak.name}|{strong.name}"


def gain_of(agreed: bool) -> float:
    """The expected gain that one comparison of a weak and a strong answer shows.

    Where they agree the strong one gains nothing; where they differ, what it gains on disputed questions.
    """
    return 0.0 if agreed else (STRONG_DISAGREED - DISAGREED) / (1 - AGREED + 0.2)
