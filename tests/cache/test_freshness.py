"""How long an answer is fresh, and what may be done with one that is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.cache.freshness import Lifetimes, is_deterministic, lifetime_s, standing
from edgewise.chat import CacheAsk
from edgewise.errors import EdgewiseError, QuotaExceeded, UpstreamRateLimited, UpstreamRefused, UpstreamTimeout
from edgewise.words import CachePolicy, Volatility
from tests.cache.parts import entry_of, key_of

DAY = Lifetimes(ttl_s=86_400, jitter=0.1)


def test_the_client_then_the_key_then_the_operator() -> None:
    """The client's ttl is taken as it is; the others are shortened by chance, never lengthened."""
    assert lifetime_s(CacheAsk(ttl_s=300), CachePolicy(ttl_s=60), "static", DAY, 0.99) == 300
    assert lifetime_s(CacheAsk(), CachePolicy(ttl_s=60), "static", DAY, 0.0) == 60
    assert lifetime_s(CacheAsk(), CachePolicy(), "static", DAY, 0.5) == pytest.approx(86_400 * 0.95)


@pytest.mark.parametrize(("volatility", "most_s"), [("live", 30), ("daily", 1800), ("slow", 6 * 3600)])
def test_what_changes_soon_is_kept_shortly(volatility: Volatility, most_s: float) -> None:
    """A question about today is not a fact; but a client that says how long is believed."""
    assert lifetime_s(CacheAsk(), CachePolicy(), volatility, DAY, 0.0) == most_s
    assert lifetime_s(CacheAsk(ttl_s=9_000), CachePolicy(), volatility, DAY, 0.0) == 9_000


@given(chance=st.floats(0, 1, exclude_max=True), ttl_s=st.floats(1, 1e6))
def test_jitter_only_shortens(chance: float, ttl_s: float) -> None:
    """And by no more than the operator allows."""
    life_s = lifetime_s(CacheAsk(), CachePolicy(ttl_s=ttl_s), "static", DAY, chance)
    assert 0.9 * min(ttl_s, DAY.longest_s) <= life_s <= ttl_s


def test_where_tenants_share_a_client_can_only_shorten() -> None:
    """Else the last who asked about today before there are enough would tell all others for a month."""
    for ttl_s, life_s in ((5.0, 5.0), (90 * 86_400.0, 30.0), (None, 30.0)):
        assert lifetime_s(CacheAsk(ttl_s=ttl_s), CachePolicy(), "live", Lifetimes(), 0.0, shared=True) == life_s


def test_fresh_stale_gone() -> None:
    """Fresh until `fresh_until`, stale until `expires_at`, never after."""
    entry = entry_of(key_of("a"), 0, fresh_until=10.0, expires_at=30.0)
    ask = CacheAsk()
    assert [standing(entry, ask, now) for now in (0, 9.9, 10, 29.9, 30, 99)] == [
        "fresh",
        "fresh",
        "stale",
        "stale",
        "expired",
        "expired",
    ]


def test_the_client_narrows_it() -> None:
    """`max-age` refuses what is older; a smaller `stale` leaves an entry for failures only."""
    entry = entry_of(key_of("a"), 0, fresh_until=10.0, expires_at=30.0)
    assert standing(entry, CacheAsk(max_age_s=5), 6) == "too-old"
    assert standing(entry, CacheAsk(max_age_s=6), 6) == "fresh"
    assert standing(entry, CacheAsk(stale_s=5), 15) == "stale"
    assert standing(entry, CacheAsk(stale_s=5), 16) == "fallback"


def test_a_kept_refusal_is_never_stale() -> None:
    entry = entry_of(key_of("a"), 0, fresh_until=5.0, expires_at=30.0, status=400)
    assert [standing(entry, CacheAsk(), now) for now in (4, 6)] == ["fresh", "expired"]


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (UpstreamRefused("no", status=400), True),
        (UpstreamRefused("no", status=404), True),
        (UpstreamRefused("no", status=401), False),
        (UpstreamRefused("no", status=403), False),
        (UpstreamRateLimited("slow down"), False),
        (UpstreamTimeout("late"), False),
        (QuotaExceeded("spent"), False),
        (None, False),
    ],
)
def test_only_refusals_that_repeat_are_kept(error: EdgewiseError | None, kept: bool) -> None:
    """What the provider says of the request itself; never what it says of the account or the moment."""
    assert is_deterministic(error) is kept
