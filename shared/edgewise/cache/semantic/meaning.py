"""Matching by meaning: candidates from the warm index, the verifier's word on each, the bound's licence to serve.

    find   embed → the nearest few → verify → best by the licence → read the entry again → hit
    add    the wording and its vector into the partition's index and log

Every doubt is a miss with a reason. A candidate is served only if the entry, read again from the store, is live and
was asked by the caller itself or, in a namespace that tenants share, by enough different principals. Labels for the
bound are gathered behind the request (`edgewise.cache.semantic.shadow`); a pair that the judge calls right becomes
another wording of the entry, so that the next one like it is nearer, and the entry of a hit that it calls wrong is
forgotten.

It knows nothing of how a request becomes a partition, nor of what a model is.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Protocol

from edgewise.background import Background
from edgewise.cache.port import Store
from edgewise.cache.semantic.account import Account, Served
from edgewise.cache.semantic.bound import CUTS
from edgewise.cache.semantic.index import Neighbour, Row
from edgewise.cache.semantic.library import Library
from edgewise.cache.semantic.log import Added, Vouched
from edgewise.cache.semantic.serving import WITHHELD, allowed, chance, heard, scores_of, surely_same, withheld
from edgewise.cache.semantic.shadow import STEADY, Judge, Licences
from edgewise.cache.semantic.verifier import Finding, Verifier, both
from edgewise.clock import Clock
from edgewise.words import Entry, Hit, Plan, Query

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SHARED = "shared:"
"""How the tenant of a namespace that tenants share begins."""

MOST_RECENT = 10_000
"""Hits whose scores are remembered, in case somebody reports them."""


class Embedder(Protocol):
    """`id` names the vector space: vectors of two ids are never compared. A service's `id` and `dim` are known after
    its first answer."""

    @property
    def id(self) -> str: ...
    @property
    def dim(self) -> int: ...
    def encode(self, texts: list[str]) -> Array | Awaitable[Array]:
        """(n, dim) float32 rows of unit length."""
        ...


class Embedders(Protocol):
    """Which embedder reads a text; None: nobody here reads its language."""

    def of(self, text: str) -> Embedder | None: ...


@dataclass(frozen=True, slots=True)
class MeaningOptions:
    """How matching by meaning behaves.

    candidates    how many neighbours are verified
    least_cosine  a neighbour below this is not verified
    quorum        principals that must have asked a question before a shared namespace answers others with it
    steady_rate   share of candidates that are judged once a namespace has its first labels
    longest_chars a longer text is not matched by meaning: the encoder would not read all of it
    """

    candidates: int = 5
    least_cosine: float = 0.3
    quorum: int = 3
    steady_rate: float = STEADY
    longest_chars: int = 600


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neighbour with the verifier's word on it."""

    partition: str
    near: Neighbour
    finding: Finding

    @property
    def scores(self) -> dict[str, float]:
        return scores_of(self.finding)


@dataclass(frozen=True, slots=True)
class Shown:
    """A candidate, what was asked and what came of it.

    verdict  the hit, or why there is none; those of `WITHHELD` are hits but for the account
    account  the account that the hit was for; None when the licence did not allow it
    sampled  drawn without a look at the score; otherwise the label is for the account alone
    chance   the probability with which it is read
    """

    query: Query
    candidate: Candidate
    verdict: Hit | str
    bound: float
    account: Account | None
    sampled: bool = False
    chance: float = 1.0

    @property
    def why(self) -> str | None:
        """Why there is no hit; None for a hit."""
        return None if isinstance(self.verdict, Hit) else self.verdict


class SemanticMeaning:
    """Implements `edgewise.cache.port.Meaning`."""

    def __init__(
        self,
        clock: Clock,
        store: Store,
        embedders: Embedders,
        library: Library,
        licences: Licences,
        *,
        options: MeaningOptions | None = None,
        judge: Judge | None = None,
        background: Background | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        self._clock = clock
        self._store = store
        self._embedders = embedders
        self._library = library
        self._licences = licences
        self._options = options or MeaningOptions()
        self._judge = judge
        self._background = background
        self._verifier = verifier
        self._recent: OrderedDict[str, tuple[str, Mapping[str, float], float]] = OrderedDict()

    async def find(self, query: Query, plan: Plan) -> Hit | str:
        """A verified hit, or 'absent', 'language', 'long', 'unverified', 'unlicensed', 'quorum', 'gone', 'stale',
        'unconfirmed', 'resting' or 'unsure'."""
        if query.partition is None or query.text is None:
            return "absent"
        if len(query.text) > self._options.longest_chars:
            return "long"
        embedder = self._embedders.of(query.text)
        if embedder is None:
            return "language"
        vector = await _vector(embedder, query.text)
        near: list[tuple[str, Neighbour]] = []
        for partition in _partitions(query, embedder):
            found = await self._library.nearest(partition, vector, self._options.candidates)
            near += [(partition, each) for each in found if each.similarity >= self._options.least_cosine]
        if not near:
            return "absent"
        best = self.best(query.text, near)
        namespace, bound = f"{query.tenant}/{query.namespace}", plan.cache.max_wrong_share
        verdict = await self._decide(query, plan, best, namespace)
        borne = isinstance(verdict, Hit) or verdict in WITHHELD
        account = await self._licences.account(namespace, bound) if borne else None
        if isinstance(verdict, Hit):
            self._licences.served(namespace, bound)
        await self._sample(Shown(query, best, verdict, bound, account), vector, embedder, namespace)
        return verdict

    def best(self, text: str, near: list[tuple[str, Neighbour]]) -> Candidate:
        """The neighbour that the verifier likes best; the nearest when it likes none."""
        verifier = self._verifier = self._verifier or Verifier.shipped()
        findings = verifier.judge_all(text, [(each.row.text, each.similarity, each.row.key) for _, each in near])
        found = [Candidate(*pair, finding) for pair, finding in zip(near, findings, strict=True)]
        return max(found, key=lambda each: (both(each.finding), each.near.similarity))

    async def _decide(self, query: Query, plan: Plan, best: Candidate, namespace: str) -> Hit | str:
        licence = await self._licences.licence(namespace, plan.cache.max_wrong_share)
        ranking = allowed(best.finding, licence)
        if ranking is None:
            return "unverified" if best.finding.veto else "unlicensed"
        shared = query.tenant.startswith(SHARED)
        enough = not shared or await self._vouched(query, plan, best)
        # Until there are enough, what the caller's own asking brought, and nobody else's.
        kept = await self._store.get(query.tenant if enough else plan.tenant, best.near.row.key)
        now = self._clock.now()
        if kept is None or kept.entry.expires_at <= now or kept.entry.status != 200:
            if not enough:
                return "quorum"
            await self.remove(best.near.row.key, best.partition)
            return "gone"
        if kept.entry.fresh_until <= now:
            return "stale"
        account = await self._licences.account(namespace, plan.cache.max_wrong_share)
        suspect = await self._licences.suspects(namespace, kept.entry.key, kept.entry.created_at, account)
        why = withheld(best.finding, licence, account, suspect=suspect)
        if why is not None:
            return why
        self._recent[best.near.row.key] = (namespace, best.scores, plan.cache.max_wrong_share)
        if len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)
        return Hit(
            kept.entry,
            "semantic",
            age_s=max(0.0, now - kept.entry.created_at),
            # Across tenants a hit tells nothing of how near somebody else's question was.
            similarity=None if shared else round(best.near.similarity, 4),
            tier="index",
            evidence={} if shared else _evidence(ranking, best, namespace, plan.cache.max_wrong_share),
        )

    async def _vouched(self, query: Query, plan: Plan, best: Candidate) -> bool:
        """Whether enough different principals asked this; the caller's asking is counted for the next."""
        me, row = _principal(plan.tenant), best.near.row
        if len(row.principals) >= self._options.quorum:
            return True
        embedder = self._embedders.of(query.text or "")
        if embedder is not None and me not in row.principals:
            await self._library.change(best.partition, embedder.dim, Vouched(row.id, me))
        return False

    async def add(self, query: Query, plan: Plan, entry: Entry) -> None:
        """Make the entry findable by its question, in its conversation and, if the turn stands alone, outside."""
        if query.partition is None or query.text is None or len(query.text) > self._options.longest_chars:
            return
        embedder = self._embedders.of(query.text)
        if embedder is None:
            return
        vector = await _vector(embedder, query.text)
        askers = frozenset(map(_principal, (plan.tenant, *entry.principals)))
        row = Row(entry.key, entry.key, query.text, entry.expires_at, askers)
        for partition in _partitions(query, embedder):
            await self._library.change(partition, embedder.dim, Added(row, vector))

    async def remove(self, key: str, partition: str | None) -> None:
        """Forget every wording of the entry; `partition` is one that `find` opened, None means wherever it is."""
        await self._library.remove(key, partition)

    async def feedback(self, key: str, *, wrong: bool, evidence: Mapping[str, Any]) -> None:
        """Teach the bound. A report counts with the scores of the hit it speaks of: those that this process still
        knows, else those of `evidence`, which came with the hit.

        Who is content says nothing, so a report of a right hit teaches nothing: it would hide the wrong ones.
        """
        known = self._recent.pop(key, None) or _reported(evidence)
        if wrong:
            if known is not None:
                namespace, scores, bound = known
                await self._licences.learn(namespace, scores, wrong=True)
                await self._licences.told(namespace, bound, Served(0, wrong=True))
            await self.remove(key, None)

    async def _sample(self, shown: Shown, vector: Array, embedder: Embedder, namespace: str) -> None:
        """Have the candidate judged behind the request: some whatever their score, hits as their account asks."""
        if self._judge is None:
            return
        steady = await self._licences.rate(namespace, self._options.steady_rate)
        share = chance(shown.candidate.finding, shown.account, shown.why, steady)
        drawn = self._clock.uniform()
        if drawn >= share:
            return
        shown = replace(shown, sampled=drawn < steady, chance=share)
        work = self._judged(self._judge, shown, vector, embedder, namespace)
        if self._background is not None:
            self._background.spawn(work)
        else:
            await work

    async def _judged(self, judge: Judge, shown: Shown, vector: Array, embedder: Embedder, namespace: str) -> None:
        query, best = shown.query, shown.candidate
        row, text = best.near.row, query.text or ""
        entry = shown.verdict.entry if isinstance(shown.verdict, Hit) else await self._kept(query.tenant, row.key)
        if entry is None:
            return
        opinion = await judge.judge(text, row.text, entry.answer.text)
        if opinion.right is None:
            return
        if shown.sampled:
            await self._licences.learn(namespace, best.scores, wrong=not opinion.right)
        if shown.account is not None:
            await self._account_for(shown, shown.account, namespace, right=opinion.right)
        if not opinion.right and (shown.account is not None or surely_same(best.finding)):
            # A wrong answer to what is nearly the same question is the answer's fault: it has grown old.
            await self.remove(row.key, best.partition)
        if opinion.right and not query.tenant.startswith(SHARED):
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            wording = Row(f"{row.key}~{digest}", row.key, text, entry.expires_at, row.principals)
            await self._library.change(best.partition, embedder.dim, Added(wording, vector))

    async def _kept(self, tenant: str, key: str) -> Entry | None:
        kept = await self._store.get(tenant, key)
        return None if kept is None else kept.entry

    async def _account_for(self, shown: Shown, account: Account, namespace: str, *, right: bool) -> None:
        """Tell the account what became of what it was asked to bear."""
        event = heard(account, shown.why, right=right, chance=shown.chance)
        if event is not None:
            await self._licences.told(namespace, shown.bound, event)
        if right and shown.verdict == "unconfirmed":
            await self._licences.confirm(namespace, shown.candidate.near.row.key)


def _evidence(ranking: str, best: Candidate, namespace: str, bound: float) -> dict[str, Any]:
    """Why a hit was served, for the record; and all that a report of it must bring back."""
    scores = {name: round(score, 4) for name, score in best.scores.items()}
    return {"ranking": ranking, **scores, "namespace": namespace, "bound": bound}


def _reported(evidence: Mapping[str, Any]) -> tuple[str, Mapping[str, float], float] | None:
    """The reverse of `_evidence`; None for evidence of another kind."""
    if "ranking" not in evidence:
        return None
    scores = {name: float(evidence[name]) for name in CUTS if name in evidence}
    return str(evidence["namespace"]), scores, float(evidence["bound"])


async def _vector(embedder: Embedder, text: str) -> Array:
    """The text's vector; a service's is waited for."""
    found = embedder.encode([text])
    return (await found if isawaitable(found) else found)[0]  # type: ignore[no-any-return]


def _partitions(query: Query, embedder: Embedder) -> list[str]:
    """The query's partitions in the embedder's space."""
    return [
        hashlib.sha256(f"{embedder.id}\n{partition}".encode()).hexdigest()
        for partition in (query.partition, query.solo_partition)
        if partition is not None
    ]


def _principal(tenant: str) -> str:
    """Who asks, as a namespace's quorum counts them: a digest, since the index is read by all processes of the
    deployment. Keys of one tenant are one principal: whoever makes keys could else make a quorum."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:16]
