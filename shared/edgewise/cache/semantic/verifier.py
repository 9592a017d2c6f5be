"""May the answer to one question be given to another? Hard vetoes first, then a calibrated model of many small trees.

The model is a forest of extremely randomised trees over the features of `edgewise.cache.semantic.features`; its
numbers and where they come from stand in `verifier.json` (made by `bench/fit_verifier.py`). A second, linear model
reads the same features for topic alone: where a namespace's callers count every question of one intent as the same,
topic ranks better than the letter, and `edgewise.cache.semantic.bound` learns how much of each to use. Neither model
decides: they rank, the bound decides how far down the ranking may be served.

Source: Geurts, Ernst and Wehenkel 2006, Extremely randomized trees.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from edgewise.cache.semantic.features import NAMES, compare
from edgewise.cache.semantic.hanzi import is_chinese, read_chinese
from edgewise.cache.semantic.reading import Reading, read

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

VETOES = ("number_swap", "class_swap", "name_swap", "code", "roles", "particle", "opposite", "poles", "party_swap")
"""Features that forbid a hit by themselves: a thing of one question is replaced by another of its kind."""
MOST_ADDED = 2.0
"""Beyond about three weighty words more than the other question, a text asks something else besides."""
MOST_UNKNOWN = 2
MIN_COVER = 0.15
"""A shared vocabulary below this, with no word in common, is a collision of vectors and never a paraphrase."""


LONE_LEAD = 0.05
AGREEMENT = 0.4
"""Log-odds of the same intent for each further neighbour that is a wording of the same entry: a judge put it there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the verifier found of a pair.

    same    P(same answer) by the forest, in [0, 1]; 0 after a veto
    topic   P(same intent) by the linear model, in [0, 1]; 0 after a veto
    veto    the feature that forbids the hit, or ''
    repeat  the same words in the same order, but for fillers and slips of the pen
    """

    same: float
    topic: float
    veto: str = ""
    repeat: bool = False


class Verifier:
    """Holds the forest; `judge` takes about 0.4 ms a pair. Build with `shipped()`."""

    def __init__(self, content: dict[str, Any]) -> None:
        import numpy as np

        if tuple(content["features"]) != NAMES:
            raise ValueError("verifier.json was fitted to other features")
        forest = content["forest"]
        self.feature = np.asarray(forest["feature"], np.int16)
        self.cut = np.asarray(forest["cut"], np.float32)
        self.right = np.asarray(forest["right"], np.int32)
        self.roots = np.asarray(forest["roots"], np.int32)
        self.depth = int(forest["depth"])
        self.topic_weights = np.asarray(content["topic"]["weights"], np.float64)
        self.lead_weight = float(content["topic"]["lead"])
        self.topic_bias = float(content["topic"]["bias"])

    @classmethod
    def shipped(cls) -> Verifier:
        return _shipped()

    def judge(self, asked: str, kept: str, cos: float) -> Finding:
        """`cos` is the cosine of the two sentence vectors, in [-1, 1]."""
        return self.judge_all(asked, [(kept, cos, "")])[0]

    def judge_all(self, asked: str, kept: list[tuple[str, float, str]]) -> list[Finding]:
        """A finding for each (text, cosine, entry's key), the forest run once for all."""
        mine = reading(asked)
        found = [compare(mine, reading(text), cos) for text, cos, _ in kept]
        vetoes = [vetoed(each) for each in found]
        keys = [key for _, _, key in kept]
        same, topic = self.rate(
            [[each[name] for name in NAMES] for each in found], leads([cos for _, cos, _ in kept], keys), further(keys)
        )
        return [
            Finding(0.0, 0.0, veto) if veto else Finding(float(s), float(t), "", each["repeat"] > 0)
            for each, veto, s, t in zip(found, vetoes, same, topic, strict=True)
        ]

    def rate(self, rows: Any, lead: Any, agreeing: Any) -> tuple[Array, Array]:
        """(P(same answer), P(same intent)) of each row of features; `lead` as `leads`, `agreeing` as `further`."""
        import numpy as np

        table = np.asarray(rows, np.float32)
        at = np.tile(self.roots, (len(table), 1))
        each = np.arange(len(table))[:, None]
        for _ in range(self.depth):
            feature = self.feature[at]
            inner = feature >= 0
            go_right = table[each, np.maximum(feature, 0)] > self.cut[at]
            at = np.where(inner, np.where(go_right, self.right[at], at + 1), at)
        same = self.cut[at].mean(axis=1)
        around = self.lead_weight * np.asarray(lead) + AGREEMENT * np.asarray(agreeing)
        odds = table @ self.topic_weights + around + self.topic_bias
        return same, 1 / (1 + np.exp(-odds))


def leads(similarities: list[float], keys: list[str]) -> list[float]:
    """How much nearer each candidate is than those of other entries are on average; without any, `LONE_LEAD`.

    A neighbour that stands out is more often the same intent than one of many that are equally near; two wordings of
    one entry do not stand in each other's way.
    """
    found = []
    for similarity, key in zip(similarities, keys, strict=True):
        others = [each for each, other in zip(similarities, keys, strict=True) if other != key]
        found.append(similarity - sum(others) / len(others) if others else LONE_LEAD)
    return found


def further(keys: list[str]) -> list[int]:
    """How many other candidates are wordings of the same entry."""
    return [keys.count(key) - 1 for key in keys]


def vetoed(found: dict[str, float]) -> str:
    """The first veto that fires, or ''.

    'collision' and 'added' are for texts crafted to have the vector of another question: they share none of its
    words, or hold them among many others.
    """
    for name in VETOES:
        if found[name] > 0.5:
            return name
    if found["hard_max"] == 0.0 and found["cover_max"] < MIN_COVER and found["trigrams"] < MIN_COVER:
        return "collision"
    if found["unknown"] > MOST_UNKNOWN:
        return "collision"
    return "added" if found["added"] >= MOST_ADDED else ""


def reading(text: str) -> Reading:
    """The reading of a text by its language."""
    return read_chinese(text) if is_chinese(text) else read(text)


def both(finding: Finding) -> float:
    """The two probabilities as one, for choosing between candidates: the mean of their log-odds."""
    odds = (log_odds(finding.same) + log_odds(finding.topic)) / 2
    return 1 / (1 + math.exp(-odds))


def log_odds(probability: float) -> float:
    bounded = min(1 - 1e-4, max(1e-4, probability))
    return math.log(bounded / (1 - bounded))


@lru_cache(maxsize=1)
def _shipped() -> Verifier:
    text = resources.files("edgewise.cache.semantic").joinpath("verifier.json").read_text("utf-8")
    return Verifier(json.loads(text))
