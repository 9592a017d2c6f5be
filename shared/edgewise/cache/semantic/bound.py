"""How far down the ranking may be served, so that the share of wrong answers among hits stays under a bound.

Theory of operation. A score ranks candidates; serving every candidate at or above a cut t makes a share R(t) of the
hits wrong. A shadow sample, drawn with a probability that does not look at the score, is judged: was the kept answer
right for the new question? For each cut of a fixed grid the hypothesis "R(t) > bound" is tested by betting: a wealth
that begins at 1, is multiplied by 1 + L·bound for a right answer and by 1 - L·(1 - bound) for a wrong one, is
expected not to grow while the hypothesis holds, and by Ville's inequality ever reaches 1/alpha with probability at
most alpha. So it may be looked at after every label, which a confidence interval may not. Three stakes L run side by
side and are averaged; the wealth then depends on the counts alone, so evidence from many processes adds up.

Many cuts, one alpha: the cuts of a ranking are nested and are tested in an order fixed beforehand (from a starting cut
to looser ones, each only if the one before passed, which costs nothing; stricter ones share the other half), and the
rankings share alpha equally.

A judge errs. If it calls right answers wrong with rate f and lets wrong ones pass with rate m, then R > bound means
that it reports more than bound·(1 - m) + (1 - bound)·f, and that is what is tested.

Before there is evidence the shipped prior serves: cuts that kept each bound on pairs that the verifier had not seen
(docs/decisions/0034-meaning.md). It enters as a credit of wealth that a namespace's own labels soon outweigh, with
half of what the labels of all namespaces together have earned. Old evidence fades by half in `half_life_s`. A licence
speaks of the past; what serving by it may cost when the world changes is the account's business
(`edgewise.cache.semantic.account`).

Source: Shafer 2021, Testing by betting; Waudby-Smith and Ramdas 2024, Estimating means of bounded random variables by
betting; Ville 1939. It knows nothing of text, vectors or storage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

CUTS: dict[str, tuple[float, ...]] = {
    "same": (0.92, 0.88, 0.84, 0.8, 0.76, 0.73, 0.7, 0.66, 0.62, 0.59, 0.55, 0.5, 0.42, 0.34),
    "topic": (0.9925, 0.99, 0.987, 0.984, 0.98, 0.975, 0.97, 0.96, 0.95, 0.935, 0.92, 0.9, 0.87, 0.83, 0.78, 0.7),
}
"""The grid of each ranking, strictest first. Fixed: changing it forgets all evidence."""
START: dict[str, int] = {"same": 5, "topic": 7}
"""Where each ranking's sequence begins: a cut that much traffic passes, so that its labels come soon."""
PRIOR: dict[str, tuple[tuple[float, float], ...]] = {
    "same": ((0.01, 0.8), (0.02, 0.66), (0.05, 0.62), (0.1, 0.55)),
    "topic": ((0.01, 0.9925), (0.02, 0.984), (0.05, 0.95), (0.1, 0.87)),
}
"""(bound, cut) that the shipped verifier keeps on pairs that it had not seen, where one candidate in five is a
look-alike written to deceive (one in six is wrong in a recorded stream). The cuts of `topic` keep it on questions
whose classes are intents too, where those of `same` do not: so where labels can be had, `same` waits for them."""
STAKES = (0.3, 0.6, 0.95)
CREDIT = 5.0
"""How much more than its licence the prior brings: two wrong answers in a row do not yet revoke it."""

Counts = list[list[float]]
"""[right, wrong] of each cell between two cuts of a ranking; cell i holds scores in [cut i, cut i-1)."""


def empty() -> dict[str, Counts]:
    """No evidence."""
    return {name: [[0.0, 0.0] for _ in cuts] for name, cuts in CUTS.items()}


@dataclass(slots=True)
class Evidence:
    """What is known of one namespace: judged candidates, counted by cell.

    cells  by ranking; faded as of `at` (seconds since the epoch)
    """

    cells: dict[str, Counts] = field(default_factory=empty)
    at: float = 0.0

    def fade(self, now: float, half_life_s: float) -> None:
        """Let what was known until now weigh less."""
        if self.at and now > self.at and half_life_s > 0:
            keep = 0.5 ** ((now - self.at) / half_life_s)
            for cells in self.cells.values():
                for cell in cells:
                    cell[0] *= keep
                    cell[1] *= keep
        self.at = max(self.at, now)

    def see(self, scores: Mapping[str, float], wrong: bool, weight: float = 1.0) -> None:
        """Take in one judged candidate."""
        for name, cell in cells_of(scores).items():
            self.cells[name][cell][int(wrong)] += weight

    def total(self) -> float:
        """How many judged candidates passed the loosest cut of the widest ranking."""
        return max(sum(right + wrong for right, wrong in cells) for cells in self.cells.values())


def cells_of(scores: Mapping[str, float]) -> dict[str, int]:
    """The cell of each ranking that the scores fall in; a ranking whose loosest cut is not passed is left out."""
    found = {}
    for name, cuts in CUTS.items():
        score = scores.get(name, 0.0)
        cell = next((i for i, cut in enumerate(cuts) if score >= cut), None)
        if cell is not None:
            found[name] = cell
    return found


@dataclass(frozen=True, slots=True)
class Rule:
    """How to decide.

    bound        the largest share of hits that may be wrong, in (0, 1)
    alpha        the largest chance that a licence is given wrongly
    false_alarm  how often the judge calls a right answer wrong
    missed       how often it lets a wrong one pass
    """

    bound: float = 0.02
    alpha: float = 0.1
    false_alarm: float = 0.0
    missed: float = 0.0

    @property
    def reported(self) -> float:
        """The share of reports of 'wrong' that the bound stands for."""
        share = self.bound * (1 - self.missed) + (1 - self.bound) * self.false_alarm
        return min(0.999, max(1e-6, share))


@dataclass(frozen=True, slots=True)
class Licence:
    """What may be served: a candidate that passes the cut of any ranking named here."""

    cuts: Mapping[str, float]
    by_prior: bool = False

    def allows(self, scores: Mapping[str, float], surer: float = 0.0) -> str | None:
        """The ranking by which it may be served; None when by none.

        surer  by how much the cuts are raised, in log-odds; none above the strictest of the prior
        """
        return next(
            (name for name, cut in self.cuts.items() if scores.get(name, 0.0) >= _raised(name, cut, surer)), None
        )


def _raised(name: str, cut: float, surer: float) -> float:
    if not surer:
        return cut
    higher = 1 / (1 + (1 / cut - 1) * math.exp(-surer))
    return max(cut, min(higher, PRIOR[name][0][1]))


def log_wealth(right: float, wrong: float, share: float) -> float:
    """The logarithm of the wealth after so many right and wrong answers, against "more than `share` are wrong"."""
    logs = []
    for stake in STAKES:
        bet = stake / (1 - share)
        logs.append(right * math.log1p(bet * share) + wrong * math.log1p(-stake))
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs) / len(logs))


def prior_cut(name: str, bound: float) -> float:
    """The shipped cut of a ranking for a bound, between the table's rows by the logarithm of the bound."""
    rows = PRIOR[name]
    if bound <= rows[0][0]:
        return min(0.999, rows[0][1] + 0.005 * math.log2(rows[0][0] / max(bound, 1e-4)))
    for (low, tight), (high, loose) in pairwise(rows):
        if bound <= high:
            way = math.log(bound / low) / math.log(high / low)
            return tight + (loose - tight) * way
    return rows[-1][1]


def licence(
    mine: Evidence, rule: Rule, everywhere: Evidence | None = None, *, prior: Sequence[str] = ("same",)
) -> Licence:
    """What may be served on this evidence.

    everywhere  the evidence of all namespaces, of which half the (logarithmic) weight counts here too
    prior       the rankings whose shipped cuts count
    """
    share = rule.reported
    cuts: dict[str, float] = {}
    by_prior = False
    for name, grid in CUTS.items():
        worth = _wealths(mine, everywhere, name, share)
        start = START[name]
        need = math.log(2 * len(CUTS) / rule.alpha)
        needs = [need] * len(grid)
        for i in range(start):
            needs[i] = need + math.log(start)
        trusted = [name in prior and cut >= prior_cut(name, rule.bound) - 1e-9 for cut in grid]
        passed = [
            value + (wanted + math.log(CREDIT) if trust else 0.0) >= wanted
            for value, wanted, trust in zip(worth, needs, trusted, strict=True)
        ]
        loosest = _loosest(passed, start)
        if loosest is not None:
            cuts[name] = grid[loosest]
            by_prior |= trusted[loosest]
    return Licence(cuts, by_prior)


def _wealths(mine: Evidence, everywhere: Evidence | None, name: str, share: float) -> list[float]:
    found = []
    sums = [0.0, 0.0, 0.0, 0.0]
    others = everywhere.cells[name] if everywhere else None
    for i, (right, wrong) in enumerate(mine.cells[name]):
        sums[0] += right
        sums[1] += wrong
        value = log_wealth(sums[0], sums[1], share)
        if others is not None:
            sums[2] += others[i][0]
            sums[3] += others[i][1]
            value += 0.5 * min(log_wealth(sums[2], sums[3], share), 2 * math.log(CREDIT))
        found.append(value)
    return found


def _loosest(passed: list[bool], start: int) -> int | None:
    """The last of the cuts that pass in a row from `start`; else the loosest stricter one that passes by itself."""
    if passed[start]:
        at = start
        while at + 1 < len(passed) and passed[at + 1]:
            at += 1
        return at
    return next((i for i in range(start - 1, -1, -1) if passed[i]), None)
