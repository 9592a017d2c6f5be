"""Learns from own traffic what a strong model gains over a weak one, question by question.

    gain(x) = prior(x) + u·dense(x) + w·ngrams(x)

prior   the fitted complexity score, whose weight is itself learned: its sign can flip between workloads
dense   the standardised counts of `complexity.py`, with their full covariance
ngrams  words and 4-letter pieces hashed into 8,192 places, weighted by rarity, with a diagonal covariance

Each label updates all three at once by recursive least squares: the error is divided among the blocks in proportion
to their remaining uncertainty. On recorded outcomes the diagonal block loses nothing against the exact solution.
Predicting the gain beats predicting "the weak one is wrong", because where both fail the strong one gains nothing.

It serves only after a paired test on own traffic has passed, and stops when the test turns (drift). No text is kept:
the state is counts and weights, about 100 KB.
"""

from __future__ import annotations

import json
import math
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgewise.routing.complexity import DENSE, WORD, Weights, dot, features

PLACES = 8192
HEAD_CHARS = 1000
TAIL_CHARS = 500
PRIOR_WEIGHT = 0.03
PRIOR_VARIANCE = 0.0005
DENSE_VARIANCE = 0.0002
MEAN_VARIANCE = 0.25
NGRAM_PENALTY = 12.0
FIRST_GAIN = 0.1
SEEN_WEIGHT = 30.0
"""How many observed questions the fitted moments of the counts are worth."""
STATE_VERSION = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """A question as the learner sees it: places of its pieces, and its counts."""

    places: tuple[int, ...]
    counts: tuple[float, ...]
    score: float


def places_of(text: str) -> tuple[int, ...]:
    """The hashed places of a normalised text's words and 4-letter pieces, each once."""
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = text[:HEAD_CHARS] + text[-TAIL_CHARS:]
    crc, mask = zlib.crc32, PLACES - 1
    raw = text.encode()
    found = {crc(b"w" + word.encode()) & mask for word in WORD.findall(text)}
    # Pieces of bytes: one encoding of the whole instead of one a piece, and Chinese still has its pieces.
    found.update([crc(raw[start : start + 4]) & mask for start in range(max(1, len(raw) - 3))])
    return tuple(sorted(found))


@dataclass(slots=True)
class Moments:
    """Running mean and deviation of the counts, begun at the fitted ones."""

    mean: list[float]
    square: list[float]
    weight: float = SEEN_WEIGHT

    @classmethod
    def of(cls, fitted: Weights) -> Moments:
        return cls(list(fitted.mean), [d * d + m * m for m, d in zip(fitted.mean, fitted.deviation, strict=True)])

    def add(self, counts: Sequence[float]) -> None:
        self.weight += 1
        for number, value in enumerate(counts):
            self.mean[number] += (value - self.mean[number]) / self.weight
            self.square[number] += (value * value - self.square[number]) / self.weight

    def standardised(self, counts: Sequence[float]) -> list[float]:
        return [
            min(3.0, max(-3.0, (value - mean) / math.sqrt(max(square - mean * mean, 1e-6))))
            for value, mean, square in zip(counts, self.mean, self.square, strict=True)
        ]


@dataclass(slots=True)
class PairedTest:
    """Whether routing by the learned score beats the random mix of the same two models, on own labelled traffic.

    Each label is predicted before it is learned from. What routing earns on it is the gain less the mean gain, for or
    against by how far the prediction stands above what the same weights predict for the average question. (Standing
    must be taken among predictions of one moment: against earlier ones, every drift of the mean gain counts as a
    mistake, and the test loses two thirds of its power.) On average that is zero for any mix made at random.

    It looks where its labels have doubled, and asks most at the first look, least at the second and ever more
    afterwards, so that over all looks chance passes less than once in twenty.
    """

    count: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 6)
    """Of gain, place, place·gain, place², place²·gain, place²·gain²: enough for the mean gain that is known last."""
    recent: float = 0.0
    spread: float = 0.001
    serving: bool = False

    LOOK = 100
    PASS = (2.8, 1.85, 2.2, 2.5, 2.7, 2.8, 3.0)
    """Standard errors above zero from which it serves, at 100 labels, 200, 400 and so on."""
    FAIL = -2.0
    """Standard errors below zero, over recent labels, at which it stops: the traffic has changed."""
    RECENT = 0.01

    def add(self, standing: float, gain: float) -> None:
        """Take in one label. `standing`: what was predicted before it was known, over the average question's."""
        self.count += 1
        share = 1 / (self.count + 4) if self.count < 200 else 0.005
        self.spread = max(1e-6, self.spread + share * (standing**2 - self.spread))
        place = max(-2.0, min(2.0, standing / math.sqrt(self.spread))) / 2
        square = place * place
        terms = (gain, place, place * gain, square, square * gain, square * gain * gain)
        self.sums = [kept + term for kept, term in zip(self.sums, terms, strict=True)]
        earned = place * (gain - self.sums[0] / self.count)
        self.recent += max(self.RECENT, 1 / self.count) * (earned - self.recent)
        if self.count % self.LOOK == 0:
            self._look()

    def earned(self) -> tuple[float, float]:
        """(mean, mean square) of what routing earned a label: the gain over the mean gain, for or against."""
        gain, place, place_gain, square, square_gain, square_gains = (kept / max(1, self.count) for kept in self.sums)
        return place_gain - gain * place, square_gains - 2 * gain * square_gain + gain * gain * square

    def _look(self) -> None:
        mean, square = self.earned()
        recent_error = math.sqrt(max(square, 1e-9) * self.RECENT / 2)
        if self.serving and self.recent / recent_error <= self.FAIL:
            # What was proved was proved of other traffic: from here on it is proved anew.
            self.serving, self.count, self.sums = False, 0, [0.0] * len(self.sums)
            return
        doubled = math.log2(self.count / self.LOOK)
        if doubled.is_integer():
            error = math.sqrt(max(square - mean * mean, 1e-9) / self.count)
            self.serving = self.serving or mean / error >= self.PASS[min(int(doubled), len(self.PASS) - 1)]

    def reason(self) -> str:
        """Where the test stands, for people."""
        if self.count < self.LOOK:
            return f"{self.count} of {self.LOOK} labels"
        return (
            f"{'passed' if self.serving else 'not passed'} on {self.count} labels, {self.earned()[0] * 200:+.1f} points"
        )


@dataclass(slots=True)
class Learner:
    """One pair of models, weak and strong."""

    fitted: Weights
    weight: array[float] = field(default_factory=lambda: array("f", bytes(4 * PLACES)))
    variance: array[float] = field(default_factory=lambda: array("f", [1.0 / NGRAM_PENALTY]) * PLACES)
    documents: array[float] = field(default_factory=lambda: array("f", bytes(4 * PLACES)))
    seen: int = 0
    shortness: float = 0.0
    """Mean of one over a question's length as a vector of rarities."""
    moments: Moments = field(init=False)
    dense: list[float] = field(init=False)
    covariance: list[list[float]] = field(init=False)
    test: PairedTest = field(default_factory=PairedTest)

    def __post_init__(self) -> None:
        self.moments = Moments.of(self.fitted)
        self.dense = [FIRST_GAIN, PRIOR_WEIGHT, *([0.0] * len(DENSE))]
        spread = [MEAN_VARIANCE, PRIOR_VARIANCE, *([DENSE_VARIANCE] * len(DENSE))]
        self.covariance = [[v if i == j else 0.0 for j in range(len(spread))] for i, v in enumerate(spread)]

    def read(self, text: str) -> Seen:
        """A normalised text as the learner sees it. Well under a millisecond for a page."""
        return self.reading(text, features(text), self.fitted)

    @staticmethod
    def reading(text: str, counts: Mapping[str, float], fitted: Weights) -> Seen:
        """`read` for counts that are at hand."""
        return Seen(places_of(text), tuple(counts[name] for name in DENSE), fitted.score(counts))

    def see(self, question: Seen) -> None:
        """Take in a question without a label: how rare its pieces are, how its counts spread."""
        self.seen += 1
        for place in question.places:
            self.documents[place] += 1
        self.moments.add(question.counts)
        length = self._rarity(question)[1]
        self.shortness += (1 / length - self.shortness) / self.seen

    def _rarity(self, question: Seen) -> tuple[list[float], float]:
        """How rare each of its pieces is, and the length of that as a vector."""
        base, log = math.log(1.0 + self.seen) + 1.0, math.log1p
        rarity = [base - log(self.documents[place]) for place in question.places]
        return rarity, math.sqrt(sum(value * value for value in rarity)) or 1.0

    def _vector(self, question: Seen) -> tuple[list[float], list[float]]:
        rarity, length = self._rarity(question)
        standard = self.moments.standardised(question.counts)
        prior = dot(self.fitted.weight, standard)
        return [value / length for value in rarity], [1.0, prior, *standard]

    def gain(self, question: Seen) -> float:
        """Expected gain of the strong model on this question, in quality points from -1 to 1."""
        sparse, dense = self._vector(question)
        weight = self.weight
        return dot(self.dense, dense) + sum(
            weight[place] * value for place, value in zip(question.places, sparse, strict=True)
        )

    def _average(self) -> float:
        """What the weights of this moment predict for the average question."""
        base, log = math.log(1.0 + self.seen) + 1.0, math.log1p
        pieces = sum(
            weight * held * (base - log(held))
            for weight, held in zip(self.weight, self.documents, strict=True)
            if weight and held
        )
        return self.dense[0] + pieces * self.shortness / max(1, self.seen)

    def learn(self, question: Seen, gain: float) -> None:
        """Take in one label: strong less weak, from -1 to 1."""
        sparse, dense = self._vector(question)
        predicted = dot(self.dense, dense) + sum(
            self.weight[place] * value for place, value in zip(question.places, sparse, strict=True)
        )
        self.test.add(predicted - self._average(), gain)
        spread = [dot(row, dense) for row in self.covariance]
        loose = [self.variance[place] * value for place, value in zip(question.places, sparse, strict=True)]
        scale = 1.0 + dot(dense, spread) + dot(sparse, loose)
        error = (gain - predicted) / scale
        for place, value in zip(question.places, loose, strict=True):
            self.weight[place] += value * error
            self.variance[place] -= value * value / scale
        for number, value in enumerate(spread):
            self.dense[number] += value * error
            row = self.covariance[number]
            for other, second in enumerate(spread):
                row[other] -= value * second / scale

    def dump(self) -> bytes:
        """The state, compressed: under 256 KB before compression, so that it fits one item of the table."""
        head = {
            "version": STATE_VERSION,
            "seen": self.seen,
            "shortness": self.shortness,
            "moments": [self.moments.mean, self.moments.square, self.moments.weight],
            "dense": self.dense,
            "covariance": self.covariance,
            "test": [getattr(self.test, name) for name in TEST_FIELDS],
        }
        text = json.dumps(head).encode()
        blocks = b"".join(block.tobytes() for block in (self.weight, self.variance, self.documents))
        return zlib.compress(len(text).to_bytes(4, "big") + text + blocks, 6)

    @classmethod
    def load(cls, state: bytes, fitted: Weights) -> Learner:
        """The learner that `dump` wrote. Raises ValueError for another version or a torn state."""
        raw = zlib.decompress(state)
        size = int.from_bytes(raw[:4], "big")
        head = json.loads(raw[4 : 4 + size])
        blocks = raw[4 + size :]
        if head.get("version") != STATE_VERSION or len(blocks) != 3 * 4 * PLACES:
            raise ValueError("a learner's state of another version")
        learner = cls(fitted)
        for number, block in enumerate((learner.weight, learner.variance, learner.documents)):
            block[:] = array("f", blocks[number * 4 * PLACES : (number + 1) * 4 * PLACES])
        learner.seen, learner.shortness = head["seen"], head["shortness"]
        learner.moments = Moments(*head["moments"])
        learner.dense, learner.covariance = head["dense"], head["covariance"]
        for name, value in zip(TEST_FIELDS, head["test"], strict=True):
            setattr(learner.test, name, value)
        return learner


@dataclass(frozen=True, slots=True)
class Stored:
    """A learner's state as it is stored. `upto` is the last label that is in it."""

    state: bytes
    version: int
    upto: str


TEST_FIELDS = ("count", "sums", "recent", "spread", "serving")
