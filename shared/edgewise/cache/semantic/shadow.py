"""Labels for the bound: which candidates are judged, by whom, and where the counts are kept.

The sample is drawn before anything is known of the score, the same for every candidate of a namespace at a time, so
that the counts say how often a candidate of any score would be wrong. Judging goes on behind the request and costs
one cheap call: the judge sees both questions and the kept answer, and no second answer is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edgewise.cache.semantic.bound import Alarm, Evidence, Licence, Rule, cells_of, licence
from edgewise.clock import Clock

EVERYWHERE = "*"
"""The namespace in which the labels of all are counted together."""
WATCHED = 0.02
"""Labels for the alarm, per candidate, beside the sample: few hits are watched closely, many by the way."""
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
    async def forget(self, namespace: str) -> None: ...


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

    async def forget(self, namespace: str) -> None:
        self._known.pop(namespace, None)


def trusted(evidence: Evidence, judged: bool, alarmed: bool = False) -> tuple[str, ...]:
    """The rankings whose shipped cuts may be used: without a judge the stricter reading of sameness, with one nothing
    before the first labels and then what holds for intents too. After an alarm none: evidence alone counts."""
    if alarmed:
        return ()
    if not judged:
        return ("same",)
    return ("topic",) if evidence.total() >= FIRST / 2 else ()


@dataclass(slots=True)
class Watch:
    """What is watched of one namespace's hits: the alarm, and how often candidates are hits."""

    alarm: Alarm = field(default_factory=Alarm)
    hit_share: float = 0.1
    alarmed: bool = False

    def rate(self, served: bool) -> float:
        """The share of served candidates to judge for the alarm alone, so that `WATCHED` of all candidates are."""
        self.hit_share += ((1.0 if served else 0.0) - self.hit_share) / 200
        return min(1.0, WATCHED / max(self.hit_share, 1e-3)) if served else 0.0


@dataclass(slots=True)
class _Known:
    evidence: Evidence
    everywhere: Evidence
    read_at: float
    licences: dict[float, Licence]


class Licences:
    """The licence of each namespace, from evidence that is read again every `staleness_s`.

    has_prior  False: the shipped cuts say nothing here, because another embedder scores; only labels count
    """

    def __init__(
        self,
        clock: Clock,
        store: EvidenceStore,
        judge: Judge | None,
        *,
        staleness_s: float = 10.0,
        has_prior: bool = True,
    ) -> None:
        self._clock = clock
        self._store = store
        self._judge = judge
        self._staleness_s = staleness_s
        self._has_prior = has_prior
        self._known: dict[str, _Known] = {}
        self._watches: dict[str, Watch] = {}

    async def licence(self, namespace: str, bound: float) -> Licence:
        """What may be served there. With a judge at hand the prior waits for the first labels. Raises `StoreError`."""
        known = await self._read(namespace)
        found = known.licences.get(bound)
        if found is None:
            alarmed = self._watch(namespace).alarmed
            allowed = trusted(known.evidence, self._judge is not None, alarmed) if self._has_prior else ()
            found = licence(known.evidence, self.rule(bound), known.everywhere, prior=allowed)
            known.licences[bound] = found
        return found

    async def rate(self, namespace: str, steady: float) -> float:
        """The share of candidates to judge now. Raises `StoreError`."""
        if self._judge is None:
            return 0.0
        known = await self._read(namespace)
        return 1.0 if known.evidence.total() < FIRST else steady

    async def learn(self, namespace: str, scores: Mapping[str, float], *, wrong: bool, bound: float | None) -> None:
        """Take in a label of the sample. `bound` is the one under which the candidate was served, None if it was
        not. Raises `StoreError`."""
        cells = cells_of(scores)
        for name in (namespace, EVERYWHERE):
            await self._store.add(name, cells, wrong)
        self._known.pop(namespace, None)
        if bound is not None:
            await self.watch(namespace, wrong, bound)

    async def watch(self, namespace: str, wrong: bool, bound: float) -> None:
        """Take in a label of a hit, for the alarm alone. Raises `StoreError`."""
        watch = self._watch(namespace)
        if watch.alarm.see(wrong, self.rule(bound).reported):
            watch.alarmed = True
            await self._store.forget(namespace)
            self._known.pop(namespace, None)

    def watch_rate(self, namespace: str, served: bool) -> float:
        """See `Watch.rate`."""
        return self._watch(namespace).rate(served)

    def _watch(self, namespace: str) -> Watch:
        return self._watches.setdefault(namespace, Watch())

    def rule(self, bound: float) -> Rule:
        """The bound with what is known of the judge."""
        judge = self._judge
        return Rule(bound, false_alarm=judge.false_alarm if judge else 0.0, missed=judge.missed if judge else 0.0)

    async def _read(self, namespace: str) -> _Known:
        known, now = self._known.get(namespace), self._clock.tick()
        if known is None or now - known.read_at > self._staleness_s:
            mine, all_of_them = await self._store.read(namespace), await self._store.read(EVERYWHERE)
            known = self._known[namespace] = _Known(mine, all_of_them, now, {})
        return known
