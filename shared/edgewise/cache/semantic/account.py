"""What serving by a licence may cost: an account of wrong answers, one for each namespace and bound.

A licence is learned from the past, and tomorrow an answer may have grown old or callers may ask other things. So
whatever a licence says, serving is paid for. A hit pays in a little less than the bound; a hit that the judge calls
wrong, having been judged with probability p, stands for 1/p wrong hits and draws as much. The balance is what the
record can still bear, and

    a hit is judged with probability CLOSE / balance          (all of them while the balance is small)
    a balance that can't bear one more wrong answer rests     (nothing is served, the judge goes on reading)

Theory. Of the wrong hits since the last one that was found, each went unseen with probability 1 - p; so they are more
than balance·ln(1/d)/CLOSE with probability at most d, whatever changed, when, and however adversely, as long as nobody
sees the judge's coin. No assumption on traffic enters. While the bound is kept with room to spare the balance grows
with the hits, and labels grow with the logarithm of the hits until the balance is MOST.

The account opens with one wrong answer and what fifty hits may cost, and is first credited when hits have paid that
back. Beside it a wealth bets on "more than the bound are wrong" and never falls below 1, label after label: it hears
of a change before the balance is gone, and is asked for more proof the more there is to lose. Source: Shin, Ramdas
and Rinaldo 2023, E-detectors; Horvitz and Thompson 1952 for the weights.

Rest. After an alarm nothing that was learned is forgotten, but every entry that is older must be called right once
before it is served again, and serving goes on when the judge has called enough would-be hits right, a wrong one
counting as many right ones. It goes on with a balance of one wrong answer, so a false alarm costs some hits.

An account changes by `settled` alone, a pure function, so that processes that share a store can take turns.
It knows nothing of scores, texts or storage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

FIRST_HITS = 50
MOST_AT_FIRST = 2.0
PAID = 0.9
"""The part of the bound that a hit pays in; the rest is for what goes unseen."""
CLOSE = 6.0
"""With this much, half of the balance goes unseen once in twenty changes."""
MOST = 50.0
"""The largest balance: what was earned long ago can't hide a change today."""
STAKE = 0.12
"""Of the wealth, on each label."""
PROOF = 20.0
"""The wealth that raises the alarm, for each wrong answer of the balance."""
LEAST_REHEARSED = 10.0
REST_UNJUDGED_S = 86_400.0
"""How long serving rests where there is no judge, and only a report can have raised the alarm."""


@dataclass(frozen=True, slots=True)
class Account:
    """The state of one account.

    hits     served so far
    balance  wrong answers that the record can still bear
    trouble  logarithm of the wealth that bets on a change
    rest     right answers that the judge must still see before serving goes on; 0: it is served
    since    seconds since the epoch: what was made before must be called right once more; 0: no alarm yet
    """

    hits: float = 0.0
    balance: float = 1.0
    trouble: float = 0.0
    rest: float = 0.0
    since: float = 0.0

    @property
    def judged(self) -> float:
        """The share of hits to judge."""
        return min(1.0, CLOSE / max(self.balance, CLOSE))


@dataclass(frozen=True, slots=True)
class Served:
    """Hits that nobody has told of yet and, if the judge read one of them, what it said.

    wrong   None: none of them was read
    chance  the probability with which it was read
    """

    hits: int
    wrong: bool | None = None
    chance: float = 1.0


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What the judge said of a candidate that would have been served but for the rest."""

    wrong: bool


@dataclass(frozen=True, slots=True)
class Rested:
    """Serving goes on without a judge's word: enough time has passed."""


Event = Served | Rehearsed | Rested


def opened(share: float) -> Account:
    """An account that nothing has happened to."""
    return Account(balance=_at_first(share))


def settled(account: Account, event: Event, share: float, now: float) -> Account:
    """The account after the event.

    share  the share of hits that may be reported wrong: the bound, allowing for the judge's errors
    """
    match event:
        case Served(hits, wrong, chance):
            paid = _credited(account, hits, share)
            return paid if wrong is None else _told(paid, wrong, chance, share, now)
        case Rehearsed(wrong):
            if account.rest <= 0:
                return account
            left = account.rest + (rehearsal(share) if wrong else -1.0)
            return replace(account, rest=left) if left > 0 else _resumed(account)
        case Rested():
            return _resumed(account) if account.rest > 0 else account


def rehearsal(share: float) -> float:
    """How many right answers end a rest: as many as make half a wrong one likely at that share."""
    return max(LEAST_REHEARSED, 0.5 / share)


def _at_first(share: float) -> float:
    return min(MOST_AT_FIRST, 1 + FIRST_HITS * share)


def _credited(account: Account, hits: int, share: float) -> Account:
    before, after = PAID * share * account.hits, PAID * share * (account.hits + hits)
    lent = _at_first(share)
    paid = max(lent, after) - max(lent, before)
    return replace(account, hits=account.hits + hits, balance=min(MOST, account.balance + paid))


def _told(account: Account, wrong: bool, chance: float, share: float, now: float) -> Account:
    step = math.log1p(STAKE / share * (1 - share)) if wrong else math.log1p(-STAKE)
    trouble = max(0.0, account.trouble) + step
    balance = account.balance - (1 / chance if wrong else 0.0)
    if account.rest <= 0 and (balance < 1 - 1e-9 or trouble >= math.log(PROOF * max(1.0, account.balance))):
        return replace(account, balance=balance, trouble=0.0, rest=rehearsal(share), since=now)
    return replace(account, balance=balance, trouble=trouble)


def _resumed(account: Account) -> Account:
    return replace(account, balance=max(account.balance, 1.0), trouble=0.0, rest=0.0)
