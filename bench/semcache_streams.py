"""Streams of requests for `bench/semcache.py`, and the policies that are run over them.

A stream is texts in order, each with the class of its right answer. A hit is right when the entry's class is the
request's. Every policy sees the same vectors; similarities of the whole stream are computed once.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.vcache import Seen, explore_probability
from edgewise.cache.semantic.account import Event, Served, Terms, opened, settled
from edgewise.cache.semantic.bound import Evidence, Licence, Rule, licence
from edgewise.cache.semantic.features import NAMES, compare
from edgewise.cache.semantic.serving import allowed, chance, heard, scores_of, surely_same, withheld
from edgewise.cache.semantic.shadow import FIRST, STEADY, trusted
from edgewise.cache.semantic.verifier import AGREEMENT, Finding, Verifier, both, further, leads, reading, vetoed
from edgewise.query.classify import read_turn

CANDIDATES = 5
LEAST_COSINE = 0.3
DAY_S = 86_400.0


@dataclass
class Stream:
    """`classes[i]` is what request i should be answered with; `exact[i]`: it is matched to the letter only."""

    name: str
    texts: list[str]
    classes: list[str]
    vectors: Any
    exact: list[bool] = field(default_factory=list)
    near: Any = None

    def __post_init__(self) -> None:
        self.near = (self.vectors @ self.vectors.T).astype(np.float32)
        self.exact = [read_turn(text, within=False).nearness != "semantic" for text in self.texts]


@dataclass
class Outcome:
    """What a policy did over a stream."""

    requests: int
    hits: int = 0
    wrong: int = 0
    judged: int = 0
    late_hits: int = 0
    late_wrong: int = 0

    def serve(self, at: int, right: bool) -> None:
        self.hits += 1
        self.wrong += not right
        if at * 2 >= self.requests:
            self.late_hits += 1
            self.late_wrong += not right

    @property
    def hit_rate(self) -> float:
        return self.hits / self.requests

    @property
    def wrong_per_hit(self) -> float:
        return self.wrong / self.hits if self.hits else 0.0


@dataclass(frozen=True)
class Noise:
    """How often the judge calls a right answer wrong, and lets a wrong one pass."""

    false_alarm: float = 0.0
    missed: float = 0.0


def banking(path: Path, s: float, seed: int, count: int, encode: Callable[[list[str]], Any]) -> Stream:
    """`count` requests, classes drawn by Zipf's law with exponent `s`, texts of a class without replacement."""
    chance = random.Random(seed)
    by_class: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_class.setdefault(row["category"], []).append(row["text"])
    names = sorted(by_class)
    chance.shuffle(names)
    for texts in by_class.values():
        chance.shuffle(texts)
    weights = {name: (rank + 1) ** -s for rank, name in enumerate(names)}
    texts, classes = [], []
    while len(texts) < count and any(by_class.values()):
        left = [name for name in names if by_class[name]]
        name = chance.choices(left, [weights[each] for each in left])[0]
        texts.append(by_class[name].pop())
        classes.append(name)
    return Stream(f"banking77 s={s} seed={seed}", texts, classes, encode(texts))


def drifted(stream: Stream, share: float = 0.3, seed: int = 0) -> Stream:
    """The same requests, but from the middle on the answers of a share of the classes have changed."""
    names = sorted(set(stream.classes))
    changed = set(random.Random(seed).sample(names, int(len(names) * share)))
    middle = len(stream.texts) // 2
    classes = [f"{name} (new)" if at >= middle and name in changed else name for at, name in enumerate(stream.classes)]
    return Stream(stream.name + " drift", stream.texts, classes, stream.vectors)


def upset(stream: Stream, seed: int = 0) -> Stream:
    """The same requests, but from the middle on no old answer is right, and of two of a class one in two is not."""
    chance, middle = random.Random(seed), len(stream.texts) // 2
    classes = [
        f"{name} (new {chance.random() < 0.5})" if at >= middle else name for at, name in enumerate(stream.classes)
    ]
    return Stream(stream.name + " upheaval", stream.texts, classes, stream.vectors)


def run_cosine(stream: Stream, cut: float) -> Outcome:
    """Serve the nearest entry if its cosine is at least `cut`, else keep a new entry."""
    done, live = Outcome(len(stream.texts)), np.zeros(len(stream.texts), bool)
    for at, name in enumerate(stream.classes):
        entry, similarity = _nearest(stream, at, live)
        if similarity >= cut:
            done.serve(at, stream.classes[entry] == name)
        else:
            live[at] = True
    return done


def run_vcache(stream: Stream, delta: float, seed: int = 0) -> Outcome:
    """vCache at `delta`; every exploration is one label (and one generation)."""
    chance, done, live = random.Random(seed), Outcome(len(stream.texts)), np.zeros(len(stream.texts), bool)
    seen: dict[int, Seen] = {}
    for at, name in enumerate(stream.classes):
        entry, similarity = _nearest(stream, at, live)
        if entry not in seen:
            live[at], seen[at] = True, Seen()
            continue
        right = stream.classes[entry] == name
        if chance.random() <= explore_probability(seen[entry], similarity, delta):
            done.judged += 1
            seen[entry].add(similarity, right)
            if not right:
                live[at], seen[at] = True, Seen()
        else:
            done.serve(at, right)
    return done


def _nearest(stream: Stream, at: int, live: Any) -> tuple[int, float]:
    """(live request before `at` that is nearest, its cosine); (-1, -1) when there is none."""
    if not live[:at].any():
        return -1, -1.0
    scores = np.where(live[:at], stream.near[at, :at], -1.0)
    best = int(scores.argmax())
    return best, float(scores[best])


class Findings:
    """What the verifier finds of each pair, remembered between runs; what stands around a pair is added anew."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._known: dict[tuple[str, str], tuple[float, float, str, bool]] = {}

    def of(self, text: str, others: list[tuple[str, float, str]]) -> list[Finding]:
        """As `Verifier.judge_all`."""
        new = [(other, cos) for other, cos, _ in others if (text, other) not in self._known]
        if new:
            features = [compare(reading(text), reading(other), cos) for other, cos in new]
            alone = [0.0] * len(new)
            same, topic = self._verifier.rate([[each[name] for name in NAMES] for each in features], alone, alone)
            for (other, _), each, s, t in zip(new, features, same, topic, strict=True):
                odds = math.log(t / (1 - t)) if 0 < t < 1 else math.copysign(700, t - 0.5)
                self._known[text, other] = (float(s), odds, vetoed(each), each["repeat"] > 0)
        keys = [key for _, _, key in others]
        lead, found = leads([cos for _, cos, _ in others], keys), []
        for (other, _, _), ahead, more in zip(others, lead, further(keys), strict=True):
            s, odds, veto, repeat = self._known[text, other]
            around = odds + self._verifier.lead_weight * ahead + AGREEMENT * more
            found.append(Finding(0.0, 0.0, veto) if veto else Finding(s, 1 / (1 + math.exp(-around)), "", repeat))
        return found


class Product:
    """What `edgewise.cache.semantic.meaning` does at one bound, without the storage.

    seconds  between two requests, for the fading of evidence
    """

    def __init__(
        self,
        stream: Stream,
        bound: float,
        findings: Findings,
        *,
        noise: Noise | None = None,
        seed: int = 0,
        seconds: float = 60.0,
        half_life_s: float = 30 * DAY_S,
        judged: bool = True,
    ) -> None:
        self.stream, self.findings, self.judged = stream, findings, judged
        self.noise, self.seconds, self.half_life_s = noise or Noise(), seconds, half_life_s
        self.chance, self.done = random.Random(seed), Outcome(len(stream.texts))
        self.rule = Rule(bound, false_alarm=self.noise.false_alarm, missed=self.noise.missed)
        self.terms = Terms(self.rule.reported, judged)
        self.evidence, self.account = Evidence(), opened(self.terms)
        self.licence: Licence | None = None
        self.live = np.zeros(len(stream.texts), bool)
        self.owner = np.full(len(stream.texts), -1)
        self.by_text: dict[str, int] = {}
        self.called_right: dict[int, float] = {}

    def run(self) -> Outcome:
        stream = self.stream
        for at, (text, name) in enumerate(zip(stream.texts, stream.classes, strict=True)):
            if text in self.by_text:
                self.done.serve(at, stream.classes[self.by_text[text]] == name)
            elif not self._matched(at):
                self.by_text[text] = at
                if not stream.exact[at]:
                    self.live[at], self.owner[at] = True, at
        return self.done

    def _matched(self, at: int) -> bool:
        """Whether the request was served by meaning; the judge has read it if it was to."""
        stream, now = self.stream, at * self.seconds + 1
        near = [] if stream.exact[at] else self._near(at)
        if not near:
            return False
        found = self.findings.of(
            stream.texts[at], [(stream.texts[n], float(stream.near[at, n]), str(self.owner[n])) for n in near]
        )
        best, finding = max(zip(near, found, strict=True), key=lambda pair: (both(pair[1]), stream.near[at, pair[0]]))
        entry, scores = int(self.owner[best]), scores_of(finding)
        self.evidence.fade(now, self.half_life_s)
        known = self.licence = self.licence or licence(
            self.evidence, self.rule, prior=trusted(self.evidence, self.judged)
        )
        borne = allowed(finding, known) is not None
        suspect = max(entry * self.seconds + 1, self.called_right.get(entry, 0.0)) < self.account.since
        why = withheld(finding, known, self.account, suspect=suspect) if borne else "unlicensed"
        served, account = why is None, self.account
        right = stream.classes[entry] == stream.classes[at]
        if served:
            self.done.serve(at, right)
        steady = 1.0 if self.evidence.total() < FIRST else STEADY
        share = chance(finding, account if borne else None, why, steady)
        self._settle(Served(int(served)), now)
        drawn = self.chance.random()
        if not self.judged or drawn >= share:
            return served
        self.done.judged += 1
        says_right = (
            self.chance.random() >= self.noise.false_alarm if right else self.chance.random() < self.noise.missed
        )
        if drawn < steady:
            self.evidence.see(scores, not says_right)
            self.licence = None
        event = heard(account, why, right=says_right, chance=share) if borne else None
        if event is not None:
            self._settle(event, now)
        if says_right:
            if why == "unconfirmed":
                self.called_right[entry] = now
            self.live[at], self.owner[at] = True, entry
        elif borne or surely_same(finding):
            self.live[self.owner == entry] = False
            self.by_text.pop(stream.texts[entry], None)
        return served

    def _settle(self, event: Event, now: float) -> None:
        self.account = settled(self.account, event, self.terms, now)

    def _near(self, at: int) -> list[int]:
        scores = np.where(self.live[:at], self.stream.near[at, :at], -1.0)
        best = np.argpartition(scores, -CANDIDATES)[-CANDIDATES:] if at > CANDIDATES else np.arange(at)
        return [int(n) for n in best[np.argsort(-scores[best])] if scores[n] >= LEAST_COSINE]


__all__ = [
    "Findings",
    "Noise",
    "Outcome",
    "Product",
    "Stream",
    "banking",
    "drifted",
    "run_cosine",
    "run_vcache",
    "upset",
]
