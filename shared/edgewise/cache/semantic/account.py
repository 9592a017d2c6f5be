"""What serving by a licence may cost: an account of wrong answers, one for each namespace and bound.

A licence is learned from the past, and tomorrow an answer may have grown old or callers may ask other things. So
whatever a licence says, serving is paid for. A hit pays in the bound; a hit that the judge calls wrong, having been
judged with probability p, stands for 1/p wrong hits and draws as much. The balance is what the record can still bear:
it begins with nothing, nothing is ever lent or forgiven, and

    a hit is judged with probability CLOSE / balance    (all of them while the balance is small, or there is trouble)
    trouble that is proven rests                        (nothing is served, the judge goes on reading)
    a balance under POOR serves, once there was an alarm, only what is surer than the licence asks for
                                                        (`edgewise.cache.semantic.serving`)

Trouble is a wealth that bets on "more than the bound are wrong" and never falls below 1. One wrong answer that is found
is trouble already, so all hits are read until as many right ones have outweighed it; and little proof is asked for
where there is little to lose.

Theory. Of the wrong hits before one is found, each went unseen with probability 1 - p; so they are more than
balance·ln(1/d)/CLOSE with probability at most d, whatever changed, when, and however adversely, as long as nobody sees
the judge's coin. After that all are seen, and the wealth needs a few more to be sure. No assumption on traffic enters,
but for what is served while the balance is small: there it is that the licence holds, or what is surer than it. While
the bound is kept with room to spare the balance grows with the hits, and labels grow with the logarithm of the hits
until the balance is MOST. Source: Shin, Ramdas and Rinaldo 2023, E-detectors; Horvitz and Thompson 1952 for the
weights.

Rest. An alarm only asks: serving goes on when the judge has called enough would-be hits right. Each wrong one makes the
rest longer and confirms the alarm: nothing that was learned is forgotten, but every entry made before must be called
right once before it is served again. What the alarm cost is still owed when serving goes on. An account that
owes more than MOST_OWED, or has no judge to ask, confirms its alarm at once.

An account changes by `settled` alone, a pure function, so that processes that share a store can take turns.
It knows nothing of scores, texts or storage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

PAID = 0.9
"""The part of the bound that a hit pays in while not every hit is read; the rest is for what goes unseen."""
CLOSE = 6.0
"""With this much, half of the balance goes unseen once in twenty changes."""
MOST = 30.0
"""The largest balance: what was earned long ago can't hide a change today. With it one hit in five is read, since fewer
labels say too little of a share that grows slowly."""
POOR = 2.0
"""Under this balance a wrong answer more may be one too many."""
STAKE = 0.12
"""Of the wealth, on each label."""
PROOF = 20.0
"""The wealth that raises the alarm, for each wrong answer of the balance."""
POOR_PROOF = 5.0
"""The wealth that raises it while the account is poor."""
MOST_OWED = 1.0
"""Owing more, any wrong answer raises the alarm and confirms it: what bleeds slowly proves nothing."""
LEAST_REHEARSED = 10.0
UNJUDGED = 3.0
"""What an account begins with where there is no judge: two reports or three raise the alarm, not one."""
REST_UNJUDGED_S = 86_400.0
"""How long serving rests where there is no judge, and only a report can have raised the alarm."""


@dataclass(frozen=True, slots=True)
class Account:
    """The state of one account.

    balance  wrong answers that the record can still bear; below 0 it is over its bound
    trouble  logarithm of the wealth that bets on a change
    rest     right answers that the judge must still see before serving goes on; 0: it is served
    since    seconds since the epoch: what was made before must be called right once more; 0: no alarm was confirmed yet
    alarms   how many so far
    """

    balance: float = 0.0
    trouble: float = 0.0
    rest: float = 0.0
    since: float = 0.0
    alarms: float = 0.0

    @property
    def poor(self) -> bool:
        """Whether little is lost by an alarm, and much without one."""
        return self.balance < POOR

    @property
    def cautious(self) -> bool:
        """Whether it has to earn what an alarm cost."""
        return self.poor and self.alarms > 0

    @property
    def judged(self) -> float:
        """The share of hits to judge."""
        return 1.0 if self.trouble > 0 else min(1.0, CLOSE / max(self.balance, CLOSE))


@dataclass(frozen=True, slots=True)
class Terms:
    """What an account is kept by.

    share   the share of hits that may be reported wrong: the bound, allowing for the judge's errors
    judged  whether there is a judge
    """

    share: float
    judged: bool = True


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


def opened(terms: Terms) -> Account:
    """An account that nothing has happened to."""
    return Account() if terms.judged else Account(balance=UNJUDGED)


def settled(account: Account, event: Event, terms: Terms, now: float) -> Account:
    """The account after the event."""
    match event:
        case Served(hits, wrong, chance):
            pays = terms.share * (1.0 if account.judged >= 1 else PAID)
            paid = replace(account, balance=min(MOST, account.balance + hits * pays))
            return paid if wrong is None else _told(paid, wrong, chance, terms, now)
        case Rehearsed(wrong):
            if account.rest <= 0:
                return account
            if wrong:
                return replace(account, rest=account.rest + rehearsal(terms.share), since=now)
            return replace(account, rest=account.rest - 1) if account.rest > 1 else _resumed(account)
        case Rested():
            return _resumed(account)


def rehearsal(share: float) -> float:
    """How many right answers end a rest: as many as make half a wrong one likely at that share."""
    return max(LEAST_REHEARSED, 0.5 / share)


def _told(account: Account, wrong: bool, chance: float, terms: Terms, now: float) -> Account:
    step = math.log1p(STAKE / terms.share * (1 - terms.share)) if wrong else math.log1p(-STAKE)
    after = replace(
        account,
        balance=account.balance - (1 / chance if wrong else 0.0),
        trouble=max(0.0, account.trouble) + step,
    )
    owes = wrong and after.balance < -MOST_OWED
    proven = after.trouble >= math.log(POOR_PROOF if after.poor else PROOF * after.balance)
    if after.rest > 0 or not (owes or proven):
        return after
    confirmed = owes or not terms.judged
    since = now if confirmed else after.since
    return replace(after, trouble=0.0, rest=rehearsal(terms.share), since=since, alarms=after.alarms + 1)


def _resumed(account: Account) -> Account:
    return replace(account, trouble=0.0, rest=0.0)
