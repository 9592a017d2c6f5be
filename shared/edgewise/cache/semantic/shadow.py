"""Labels for the bound: which candidates are judged, by whom, and where what is learned is kept.

The sample is drawn before anything is known of the score, the same for every candidate of a namespace at a time, so
that the counts say how often a candidate of any score would be wrong. Hits are read more often, as their account asks
(`edgewise.cache.semantic.account`); what only that asked for is told to the account and never counted. Judging goes on
behind the request and costs one cheap call: the judge sees both questions and the kept answer, and no second answer is
generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from edgewise.cache.semantic.account import (
    REST_UNJUDGED_S,
    Account,
    Event,
    Rested,
    Served,
    Terms,
    opened,
    settled,
)
from edgewise.cache.semantic.bound import Evidence, Licence, Rule, cells_of, licence
from edgewise.clock import Clock

EVERYWHERE = "*"
"""The namespace in which the labels of all are counted together."""
STEADY = 0.1
"""The share of candidates that the sample draws once a namespace has its first labels."""
FIRST = 60
"""So many of a namespace's first candidates are all judged, and nothing but repeats is served meanwhile."""
SILENT = 50.0
"""So many labels that should have come and did not are a judge that is down, or not believed: nothing is served until
it is heard. A burst whose labels are on their way waits for the first of them."""


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


class Counts(Protocol):
    """Labels of the sample, counted over all processes. Raises `StoreError`."""

    async def add(self, namespace: str, cells: Mapping[str, int], wrong: bool) -> None: ...
    async def read(self, namespace: str) -> Evidence: ...


class Accounts(Protocol):
    """One account for each namespace and bound, that processes change in turns. Raises `StoreError`."""

    async def account(self, namespace: str, bound: float) -> Account | None:
        """None: nothing has happened yet."""
        ...

    async def settle(self, namespace: str, bound: float, event: Event, terms: Terms) -> Account:
        """The account after the event; no event of another process is lost."""
        ...

    async def confirm(self, namespace: str, key: str) -> None:
        """Note that the judge called the entry right just now."""
        ...

    async def confirmed(self, namespace: str, key: str) -> float:
        """When it last did, in seconds since the epoch; 0: never."""
        ...


class EvidenceStore(Counts, Accounts, Protocol):
    """What is learned about a namespace and outlives a process."""


class LocalEvidence:
    """Implements `EvidenceStore` in this process's memory; counts fade by half in `half_life_s`."""

    def __init__(self, clock: Clock, half_life_s: float) -> None:
        self._clock = clock
        self._half_life_s = half_life_s
        self._known: dict[str, Evidence] = {}
        self._accounts: dict[tuple[str, float], Account] = {}
        self._confirmed: dict[tuple[str, str], float] = {}

    async def add(self, namespace: str, cells: Mapping[str, int], wrong: bool) -> None:
        evidence = self._known.setdefault(namespace, Evidence())
        evidence.fade(self._clock.now(), self._half_life_s)
        for name, cell in cells.items():
            evidence.cells[name][cell][int(wrong)] += 1

    async def read(self, namespace: str) -> Evidence:
        evidence = self._known.setdefault(namespace, Evidence())
        evidence.fade(self._clock.now(), self._half_life_s)
        return evidence

    async def account(self, namespace: str, bound: float) -> Account | None:
        return self._accounts.get((namespace, bound))

    async def settle(self, namespace: str, bound: float, event: Event, terms: Terms) -> Account:
        before = await self.account(namespace, bound) or opened(terms)
        found = settled(before, event, terms, self._clock.now())
        self._accounts[namespace, bound] = found
        return found

    async def confirm(self, namespace: str, key: str) -> None:
        self._confirmed[namespace, key] = self._clock.now()

    async def confirmed(self, namespace: str, key: str) -> float:
        return self._confirmed.get((namespace, key), 0.0)


def trusted(evidence: Evidence, judged: bool) -> tuple[str, ...]:
    """The rankings whose shipped cuts may be used: without a judge the stricter reading of sameness, with one nothing
    before the first labels and then what holds for intents too."""
    if not judged:
        return ("same",)
    return ("topic",) if evidence.total() >= FIRST / 2 else ()


@dataclass(slots=True)
class _Known:
    evidence: Evidence
    everywhere: Evidence
    read_at: float
    licences: dict[float, Licence] = field(default_factory=dict)
    accounts: dict[float, Account] = field(default_factory=dict)


class Licences:
    """The licences and accounts of each namespace, from evidence that is read again every `staleness_s`.

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
        self._untold: dict[tuple[str, float], int] = {}

    async def licence(self, namespace: str, bound: float) -> Licence:
        """What may be served there. With a judge at hand the prior waits for the first labels. Raises `StoreError`."""
        known = await self._read(namespace)
        found = known.licences.get(bound)
        if found is None:
            allowed = trusted(known.evidence, self._judge is not None) if self._has_prior else ()
            found = licence(known.evidence, self.rule(bound), known.everywhere, prior=allowed)
            known.licences[bound] = found
        return found

    async def rate(self, namespace: str, steady: float) -> float:
        """The share of candidates to judge now. Raises `StoreError`."""
        if self._judge is None:
            return 0.0
        known = await self._read(namespace)
        return 1.0 if known.evidence.total() < FIRST else steady

    async def account(self, namespace: str, bound: float) -> Account:
        """What serving there may still cost. Raises `StoreError`."""
        known = await self._read(namespace)
        found = known.accounts.get(bound)
        if found is None:
            kept = await self._store.account(namespace, bound)
            found = known.accounts[bound] = kept or opened(self._terms(bound))
        if found.rest > 0 and self._judge is None and self._clock.now() >= found.since + REST_UNJUDGED_S:
            found = await self._settle(namespace, bound, Rested())
        if self._judge is not None and self._untold.get((namespace, bound), 0) * found.judged > SILENT:
            return replace(found, rest=max(found.rest, 1.0))
        return found

    async def suspects(self, namespace: str, key: str, made_at: float, account: Account) -> bool:
        """Whether the entry is older than the last alarm and nobody called it right since. Raises `StoreError`."""
        return made_at < account.since and await self._store.confirmed(namespace, key) < account.since

    async def learn(self, namespace: str, scores: Mapping[str, float], *, wrong: bool) -> None:
        """Take in a label of the sample. Raises `StoreError`."""
        cells = cells_of(scores)
        for name in (namespace, EVERYWHERE):
            await self._store.add(name, cells, wrong)
        self._known.pop(namespace, None)

    async def confirm(self, namespace: str, key: str) -> None:
        """Take in that an entry was called right: it may be served again after an alarm. Raises `StoreError`."""
        await self._store.confirm(namespace, key)

    def served(self, namespace: str, bound: float) -> None:
        """Count a hit; the account hears of it with the next label, since a write for each would cost more."""
        self._untold[namespace, bound] = self._untold.get((namespace, bound), 0) + 1

    async def told(self, namespace: str, bound: float, event: Event) -> None:
        """Take in what became of a hit, or of what would have been one. Raises `StoreError`.

        The latter leaves hits that nobody has told of unpaid: they may have been served while the judge was silent.
        """
        untold = self._untold.pop((namespace, bound), 0)
        if isinstance(event, Served):
            event = replace(event, hits=event.hits + untold)
        await self._settle(namespace, bound, event)

    async def _settle(self, namespace: str, bound: float, event: Event) -> Account:
        found = await self._store.settle(namespace, bound, event, self._terms(bound))
        known = self._known.get(namespace)
        if known is not None:
            known.accounts[bound] = found
        return found

    def _terms(self, bound: float) -> Terms:
        return Terms(self.rule(bound).reported, self._judge is not None)

    def rule(self, bound: float) -> Rule:
        """The bound with what is known of the judge."""
        judge = self._judge
        return Rule(bound, false_alarm=judge.false_alarm if judge else 0.0, missed=judge.missed if judge else 0.0)

    async def _read(self, namespace: str) -> _Known:
        known, now = self._known.get(namespace), self._clock.tick()
        if known is None or now - known.read_at > self._staleness_s:
            mine, all_of_them = await self._store.read(namespace), await self._store.read(EVERYWHERE)
            known = self._known[namespace] = _Known(mine, all_of_them, now)
        return known
