"""One candidate: may it be served, is it to be judged, and who is told of it.

These are the decisions themselves, without a store: the gateway (`edgewise.cache.semantic.meaning`) and the bench make
them by the same functions.

    allowed    does a licence reach down to it?
    withheld   does the account keep it back all the same?
    chance     how probably is it judged?
    heard      what does the account make of the judge's word?

A candidate that the account keeps back is judged like a hit: so a poor account goes on learning which entries are
right, and a rest can end. It knows nothing of texts, vectors or storage.
"""

from __future__ import annotations

from edgewise.cache.semantic.account import Account, Event, Rehearsed, Served
from edgewise.cache.semantic.bound import CUTS, Licence
from edgewise.cache.semantic.verifier import Finding

LEAST_SAME = 0.25
SURER = 0.5
"""By how much surer than its licence asks, in log-odds, a hit must be while its account is cautious."""
WITHHELD = ("unconfirmed", "resting", "unsure")
"""Why the account keeps back what the licence allows."""


def surely_same(finding: Finding) -> bool:
    """Both models take the two for one question."""
    return finding.repeat or (finding.same >= 0.8 and finding.topic >= 0.95)


def scores_of(finding: Finding) -> dict[str, float]:
    """The finding as each ranking of the bound sees it; one intent in quite different words is not enough."""
    return {"same": finding.same, "topic": finding.topic if finding.same >= LEAST_SAME else 0.0}


def allowed(finding: Finding, licence: Licence, surer: float = 0.0) -> str | None:
    """The ranking by which the candidate may be served, 'repeat', or None."""
    if finding.veto:
        return None
    return "repeat" if finding.repeat else licence.allows(scores_of(finding), surer)


def withheld(finding: Finding, licence: Licence, account: Account, *, suspect: bool) -> str | None:
    """Why a candidate that is allowed is not served now; None: it is.

    suspect  it is older than the last alarm, and nobody has called it right since
    """
    if suspect:
        return "unconfirmed"
    if account.rest > 0:
        return "resting"
    return "unsure" if account.cautious and allowed(finding, licence, SURER) is None else None


def chance(finding: Finding, account: Account | None, verdict: str | None, steady: float) -> float:
    """The probability with which the candidate is judged.

    account  whose hit it is or would be; None when the licence does not allow it
    verdict  as `withheld`
    steady   the share of candidates that the sample draws, whatever their score
    """
    if account is not None:
        return max(steady, account.judged if verdict is None else 1.0)
    scores = scores_of(finding)
    return steady if any(scores[name] >= cuts[-1] for name, cuts in CUTS.items()) else 0.0


def heard(account: Account, verdict: str | None, *, right: bool, chance: float) -> Event | None:
    """What the account is told of a candidate that was judged, with that probability; None: nothing."""
    if verdict is None:
        return Served(0, not right, chance)
    # That an old entry is wrong says nothing of how the next ones are matched.
    return Rehearsed(not right) if account.rest > 0 and (right or verdict == "resting") else None
