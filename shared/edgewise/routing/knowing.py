"""What the room has learned: one learner a pair of models, plans, and how far each kind of evidence can be trusted.

It turns a question into what the strategies may know of it (`Reading`). Learners are made on first use; a stored state
replaces a fresh one when it arrives (`learning.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgewise.chat import Usage
from edgewise.routing.complexity import Weights, features, weights
from edgewise.routing.evidence import AGREED, DISAGREED, Confidence
from edgewise.routing.fitted import FittedPlans
from edgewise.routing.learn import Learner, Seen
from edgewise.words import Model

if TYPE_CHECKING:
    from edgewise.routing.guarantee import Operating, Proof
    from edgewise.routing.labels import Label
    from edgewise.routing.options import Options

KEPT_LABELS = 1000
MOST_PAIRS = 8
MOST_PROOFS = 200
PAIR = "pair"
"""The feature of a choice that is learned from: the (weak, strong) models that it is between."""
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
class Counts:
    """How often what a confidence rests on was right: (right, all) by `model source`."""

    seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, model: str, source: str, right: bool) -> None:
        good, count = self.seen.get(f"{model} {source}", (0, 0))
        self.seen[f"{model} {source}"] = (good + right, count + 1)

    def calibrated(self, model: str, source: str, value: float, worth: float = 30.0) -> float:
        """`value` drawn towards what was seen, as if it rested on `worth` observations itself."""
        good, count = self.seen.get(f"{model} {source}", (0, 0))
        return (worth * value + good) / (worth + count)


@dataclass(slots=True)
class Knowing:
    """Everything learned in this process."""

    learners: dict[str, Learner] = field(default_factory=dict)
    proofs: dict[tuple[str, str], deque[tuple[float, float]]] = field(default_factory=dict)
    """(pair, tenant) to (predicted before learning, gain): what a guarantee is proved on."""
    lengths: dict[str, Lengths] = field(default_factory=dict)
    fitted: Weights | None = None
    plans: FittedPlans | None = None
    """Plans fitted to own labelled traffic (`fitted.py`); None until there are, or while none holds its promise."""
    counts: Counts = field(default_factory=Counts)
    """How often what a confidence rests on was right."""
    _points: dict[tuple[str, str, float], Operating | None] = field(default_factory=dict)

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
                del self.learners[next(iter(self.learners))]
            self.learners[pair] = Learner(self.weights())
        return self.learners[pair]

    def learn(self, pair: str, label: Label) -> None:
        """One label, where no table gathers them."""
        learner = self.learner(pair)
        if label.drawn:
            score = learner.gain(label.question)
            self.prove(pair, label.tenant, [*self.proofs.get((pair, label.tenant), ()), (score, label.gain)])
        learner.see(label.question)
        learner.learn(label.question, label.gain)

    def prove(self, pair: str, tenant: str, proof: Proof) -> None:
        """Take in what a tenant's guarantees are proved on, in place of what was known; the oldest makes room."""
        from edgewise.routing.guarantee import since_the_change

        self.proofs.pop((pair, tenant), None)
        while len(self.proofs) >= MOST_PROOFS:
            del self.proofs[next(iter(self.proofs))]
        self.proofs[pair, tenant] = deque(since_the_change(proof), KEPT_LABELS)
        self._points.clear()

    def operating(self, pair: str, tenant: str, delta: float) -> Operating | None:
        """The proven operating point of a guarantee; None while it can't be proved, or after the traffic changed."""
        learner, proof = self.learners.get(pair), self.proofs.get((pair, tenant))
        if learner is None or proof is None:
            return None
        key = (pair, tenant, delta)
        if key not in self._points:
            from edgewise.routing.guarantee import operating_point

            scores, gains = [score for score, _ in proof], [gain for _, gain in proof]
            self._points[key] = operating_point(scores, gains, delta=delta)
        return self._points[key]

    def says(
        self, reading: Reading, pair: tuple[Model, Model], options: Options, tenant: str, *, provable: bool
    ) -> tuple[float | None, dict[str, Any]]:
        """(expected gain of the strong over the weak model, what else a strategy may know) of one question.

        No gain unless it may speak: the pair's test has passed, or the tenant's guarantee is proved.
        provable  whether labels are drawn from questions of this kind at all: of open text nothing is compared
        """
        weak, strong = pair
        if weak.name == strong.name:
            return None, {}
        table = self.plans
        if table is not None and not options.guarantee and options.strategy in (None, "hybrid"):
            return None, {"plans": table.worth(reading.seen), "lam": table.lam, "tested": table.tested}
        name = pair_of(weak, strong)
        learner = self.learners.get(name)
        if learner is None:
            return None, {"learned": "no labels yet"}
        told: dict[str, Any] = {"learned": learner.test.reason()}
        if not options.guarantee:
            return (learner.gain(reading.seen) if learner.test.serving else None), told
        found = self.operating(name, tenant, options.guarantee["delta"]) if provable else None
        if found is None:
            return None, told
        return learner.gain(reading.seen), {**told, "threshold": found.threshold, "bound": found.loss_bound}

    def calibrated(self, model: Model, found: Confidence) -> Confidence:
        """A confidence, with what was seen of answers that rested on the same."""
        return Confidence(self.counts.calibrated(model.name, found.source, found.value), found.source)

    def log_length(self, model: Model) -> tuple[float, float] | None:
        found = self.lengths.get(model.name)
        if found is None or found.count < LEAST_LENGTHS:
            return None
        return found.mean, math.sqrt(found.variance)


def pair_of(weak: Model, strong: Model) -> str:
    return f"{weak.name}|{strong.name}"


def gain_of(agreed: bool) -> float:
    """The expected gain that one comparison of a weak and a strong answer shows.

    Where they agree the strong one gains nothing; where they differ, as much as it gained on disputed questions of
    the weakest pairs recorded (ZeroEval: .08 to .68 by pair), so that a guarantee errs towards the strong one.
    """
    return 0.0 if agreed else (STRONG_DISAGREED - DISAGREED) / (1 - AGREED + 0.2)
