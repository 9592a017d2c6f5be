"""How long an answer may be served, and what may be done with one that is no longer fresh.

An entry is fresh until `fresh_until`, stale until `expires_at`, then gone. A stale one may be served while it is
renewed (stale-while-revalidate) or when the provider fails (stale-if-error). How long it is fresh: the client's `ttl`,
else the key's, else the operator's; the last two are cut by how soon the answer to such a question changes (a question
about today is not a fact) and shortened by a random share, so that what was filled together does not expire together.
A refusal by the provider that would only repeat itself is kept for seconds. Where tenants share, a client's `ttl` can
only shorten: what others are told is not one client's to prolong.

Source: RFC 9111 §4.2 and §5.2.1 (request directives), RFC 5861 (the two stale extensions).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from edgewise.chat import CacheAsk
from edgewise.errors import EdgewiseError, UpstreamRefused
from edgewise.words import CachePolicy, Entry, Volatility

CAPS_S: dict[Volatility, float] = {"static": inf, "slow": 6 * 3600.0, "daily": 1800.0, "live": 30.0}
"""The longest that an answer of each volatility is fresh."""
_REPEATS = frozenset({400, 404, 405, 413, 415, 422})
"""What a provider says of the request itself. Not 401, 403, 429: those are about the gateway's own account."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The operator's figures, seconds. `jitter` is the largest share by which a lifetime is shortened, 0 to 1."""

    ttl_s: float = 86_400.0
    stale_s: float = 0.0
    negative_s: float = 5.0
    longest_s: float = 90 * 86_400.0
    jitter: float = 0.1


def lifetime_s(
    ask: CacheAsk,
    policy: CachePolicy,
    volatility: Volatility,
    lifetimes: Lifetimes,
    chance: float,
    *,
    shared: bool = False,
) -> float:
    """For how many seconds an answer is fresh. `chance` is a number in [0, 1); `shared`: tenants share it."""
    if ask.ttl_s is not None and not shared:
        return min(ask.ttl_s, lifetimes.longest_s)
    ttl_s = policy.ttl_s if policy.ttl_s is not None else lifetimes.ttl_s
    usual_s = min(ttl_s, CAPS_S[volatility], lifetimes.longest_s) * (1 - lifetimes.jitter * chance)
    return usual_s if ask.ttl_s is None else min(ask.ttl_s, usual_s)


Standing = Literal["fresh", "stale", "fallback", "too-old", "expired"]


def standing(entry: Entry, ask: CacheAsk, now: float) -> Standing:
    """What may be done with `entry` for this client.

    fresh     serve it                         stale     serve it and renew it
    fallback  serve it if the provider fails   too-old   fresh, but older than the client accepts
    expired   never serve it
    """
    if now >= entry.expires_at:
        return "expired"
    if ask.max_age_s is not None and now - entry.created_at > ask.max_age_s:
        return "too-old"
    if now < entry.fresh_until:
        return "fresh"
    if entry.status != 200:
        return "expired"
    return "stale" if ask.stale_s is None or now - entry.fresh_until <= ask.stale_s else "fallback"


def is_deterministic(error: EdgewiseError | None) -> bool:
    """The provider refused the request itself, and would again."""
    return isinstance(error, UpstreamRefused) and error.status in _REPEATS
