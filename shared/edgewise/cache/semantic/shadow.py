"""Labels for the bound: which candidates are judged, by whom, and where the counts are kept.

The sample is drawn before anything is known of the score, the same for every candidate of a namespace at a time, so
that the counts say how often a candidate of any score would be wrong. Judging goes on behind the request and costs
one cheap call: the judge sees both questions and the kept answer, and no second answer is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from edgewise.cache.semantic.bound import Evidence, Licence, Rule, cells_of, licence
from edgewise.clock import Clock

EVERYWHERE = "*"
"""The namespace in which the labels of all are counted together."""
FIRST = 60
"""So many of a namespace's first candidates are all judged, and nothing but repeats is served meanwhile."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a judge says: would the kept answer be right for the new question? None: it can't tell."""

    right: bool | None


class Judge(Protocol):
    """Usually a small model; off the request path.

    false_alarm  how often it calls a right answer wrong (audited, lower confidence bound)
    missed       how often it lets a wrong one pass (audited, upper confidence bound)
    """

    false_alarm: float
    missed: float

    async def judge(self, asked: str, kept: str, answer: str) -> Opinion:
        """Raises anything; then there is no label."""
        ...


class EvidenceStore(Protocol):
    """Counts that outlive this process. Raises `StoreError`."""

    async def add(self, namespace: str, cells: Mapping[str, int], wrong: bool) -> None: ...
    async def read(self, namespace: str) -> Evidence: ...


class LocalEvidence:
    """Counts in this process's memory, fading by half in `half_life_s`."""

    def __init__(self, clock: Clock, half_life_s: float) -> None:
        self._clock = clock
        self._half_life_s = half_life_s
        self._known: dict[str, Evidence] = {}

    async def add(self, namespace: str, cells: Mapping[str, int], wrong: bool) -> None:
        evidence = self._known.setdefault(namespace, Evidence())
        evidence.fade(self._clock.now(), self._half_life_s)
        for name, cell in cells.items():
            evidence.cells[name][cell][int(wrong)] += 1

    async def read(self, namespace: str) -> Evidence:
        evidence = self._known.setdefault(namespace, Evidence())
        evidence.fade(self._clock.now(), self._half_life_s)
        return evidence


def trusted(evidence: Evidence, judged: bool) -> tuple[str, ...]:
    """The rankings whose shipped cuts may be used: without a judge all, with one none before the first labels and
    then only the one that holds for any kind of question."""
    if not judged:
        return ("same", "topic")
    return ("topic",) if evidence.total() >= FIRST / 2 else ()


@dataclass(slots=True)
class _Known:
    evidence: Evidence
    everywhere: Evidence
    read_at: float
    licences: dict[float, Licence]


class Licences:
    """The licence of each namespace, from evidence that is read again every `staleness_s`."""

    def __init__(self, clock: Clock, store: EvidenceStore, judge: Judge | None, *, staleness_s: float = 10.0) -> None:
        self._clock = clock
        self._store = store
        self._judge = judge
        self._staleness_s = staleness_s
        self._known: dict[str, _Known] = {}

    async def licence(self, namespace: str, bound: float) -> Licence:
        """What may be served there. With a judge at hand the prior waits for the first labels. Raises `StoreError`."""
        known = await self._read(namespace)
        found = known.licences.get(bound)
        if found is None:
            judge = self._judge
            rule = Rule(bound, false_alarm=judge.false_alarm if judge else 0.0, missed=judge.missed if judge else 0.0)
            found = licence(known.evidence, rule, known.everywhere, prior=trusted(known.evidence, judge is not None))
            known.licences[bound] = found
        return found

    async def rate(self, namespace: str, steady: float) -> float:
        """The share of candidates to judge now. Raises `StoreError`."""
        if self._judge is None:
            return 0.0
        known = await self._read(namespace)
        return 1.0 if known.evidence.total() < FIRST else steady

    async def learn(self, namespace: str, scores: Mapping[str, float], wrong: bool) -> None:
        """Take in a label. Raises `StoreError`."""
        cells = cells_of(scores)
        for name in (namespace, EVERYWHERE):
            await self._store.add(name, cells, wrong)
        known = self._known.get(namespace)
        if known is not None:
            known.licences.clear()
            known.read_at = float("-inf")

    async def _read(self, namespace: str) -> _Known:
        known, now = self._known.get(namespace), self._clock.tick()
        if known is None or now - known.read_at > self._staleness_s:
            mine, all_of_them = await self._store.read(namespace), await self._store.read(EVERYWHERE)
            known = self._known[namespace] = _Known(mine, all_of_them, now, {})
        return known
