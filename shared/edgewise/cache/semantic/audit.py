"""How often a judge errs, from pairs that people labelled: the two rates that the bound is corrected by.

Which side is safe. The rule and the account know one number of the judge: the share of hits that it may report wrong,
bound·(1 - missed) + (1 - bound)·false_alarm (`bound.Rule.reported`). The larger that share is, the sooner a cut is
licensed, the more a hit pays in, the later the alarm rings and the shorter the rest is. It grows with `false_alarm` and
shrinks with `missed`. So what keeps the bound is a `false_alarm` that is no more than the truth and a `missed` that is
no less: a lower and an upper confidence bound, each at half of the doubt, so that both hold at once. An audit of no
pairs gives 0 and 1.

A judge that can't tell gives no label. If that befell wrong matches more often than right ones, they would be
rarer among the labels than among the hits. So such a word counts here, on either side, for what is safe: on a pair of
different answers it is a miss, on a pair of one answer it is no false alarm. With u the chance of such a word, labels
of 'wrong' are R·(1 - missed) + (1 - R)·false_alarm over R·(1 - u) + (1 - R)·(1 - u'), which is no less than the rule
reckons with.

What the pairs must be. Pairs that are harder than traffic have more of both errors. More misses are safe. More false
alarms are not: that rate may be declared only from matches drawn from the traffic itself.

Exact one-sided limits of a binomial share: Clopper and Pearson 1934. It knows nothing of models or prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

MOST_LABELS = 100_000


@dataclass(slots=True)
class Tally:
    """Verdicts on pairs of one kind."""

    right: int = 0
    wrong: int = 0
    unclear: int = 0

    def count(self, said: bool | None) -> None:
        """Take in whether the judge called the match right; None: it could not tell."""
        if said is None:
            self.unclear += 1
        elif said:
            self.right += 1
        else:
            self.wrong += 1

    @property
    def total(self) -> int:
        return self.right + self.wrong + self.unclear


@dataclass(frozen=True, slots=True)
class Rate:
    """One of the judge's errors: how often it was seen, and the limit to reckon with."""

    errors: int
    of: int
    limit: float

    @property
    def share(self) -> float:
        return self.errors / self.of if self.of else 0.0


def false_alarms(same: Tally, confidence: float) -> Rate:
    """How often the judge calls a match of one answer wrong: at least `limit`."""
    return Rate(same.wrong, same.total, at_least(same.wrong, same.total, _each(confidence)))


def misses(different: Tally, confidence: float) -> Rate:
    """How often the judge lets a match of different answers pass: at most `limit`."""
    errors = different.right + different.unclear
    return Rate(errors, different.total, at_most(errors, different.total, _each(confidence)))


def needed(rate: Rate, limit: float, confidence: float) -> int | None:
    """How many pairs of different answers bring the misses' limit down to `limit`, if the share stays as it was seen.
    None: more than `MOST_LABELS`, or none can."""
    if rate.share >= limit or limit >= 1:
        return None

    def enough(count: int) -> bool:
        # As `at_most(…) <= limit`, without looking for where it is.
        return _cdf(round(rate.share * count), count, limit) <= _each(confidence)

    count = max(rate.of, 1)
    while not enough(count):
        count *= 2
        if count > MOST_LABELS:
            return None
    low = count // 2
    while count - low > 1:
        middle = (low + count) // 2
        low, count = (low, middle) if enough(middle) else (middle, count)
    return count


def at_most(errors: int, of: int, doubt: float) -> float:
    """The largest share by which so few errors are not less likely than `doubt`."""
    if errors >= of:
        return 1.0
    return _crossing(lambda share: _cdf(errors, of, share) > doubt)


def at_least(errors: int, of: int, doubt: float) -> float:
    """The smallest share by which so many errors are not less likely than `doubt`."""
    if errors == 0:
        return 0.0
    return _crossing(lambda share: 1 - _cdf(errors - 1, of, share) < doubt)


def _each(confidence: float) -> float:
    return (1 - confidence) / 2


def _crossing(below: Callable[[float], bool]) -> float:
    """Where in (0, 1) `below` stops being true."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2


def _cdf(errors: int, of: int, share: float) -> float:
    """The chance of `errors` or fewer among `of`, 0 < share < 1."""
    log_choose = math.lgamma(of + 1)
    yes, no = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(log_choose - math.lgamma(i + 1) - math.lgamma(of - i + 1) + i * yes + (of - i) * no)
        for i in range(errors + 1)
    )
