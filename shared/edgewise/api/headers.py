"""Response headers: every answer says where it came from, what it cost and why.

Values come from providers, operators and clients, so each one is cleaned: a header never breaks its line. Where a
cache namespace is shared between tenants, nothing that tells a hit from a miss goes out: it would tell one tenant
what another has asked (arXiv 2409.20002).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from edgewise.clock import Clock
from edgewise.served import Served, cache_word
from edgewise.words import Hit, Miss

OPENAI_VERSION: Final = "2020-10-01"
EXPOSED: Final = (
    "x-request-id, openai-processing-ms, openai-version, age, retry-after, x-should-retry, "
    "x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens, "
    "x-edgewise-cache, x-edgewise-cache-kind, x-edgewise-cache-reason, x-edgewise-cache-key, x-edgewise-similarity, "
    "x-edgewise-model, x-edgewise-provider, x-edgewise-route-reason, x-edgewise-attempts, x-edgewise-cost-usd, "
    "x-edgewise-saved-usd, x-edgewise-overhead-ms, x-edgewise-confidence, x-edgewise-confidence-source"
)
"""What a page in a browser may read."""

_UNSAFE = dict.fromkeys([*range(32), 127], " ")


def clean(value: str) -> str:
    """`value` as it may stand in a header: one line, latin-1, at most 400 characters."""
    if value.isascii() and value.isprintable() and len(value) <= 400:
        return value
    return value.translate(_UNSAFE).encode("latin-1", "replace").decode("latin-1")[:400].strip()


def of_served(served: Served, clock: Clock) -> dict[str, str]:
    """All that the headers of one answer tell."""
    elapsed_ms = (clock.tick() - served.started) * 1000
    headers: dict[str, str] = {}
    if served.plan is not None:
        for name, value in served.plan.headers.items():
            headers[name.lower()] = clean(value)
    if served.shared:
        headers["x-edgewise-cache"] = "shared"
        return headers
    headers["openai-processing-ms"] = str(max(0, round(elapsed_ms)))
    headers["x-edgewise-cache"] = cache_word(served.verdict)
    if served.query is not None:
        headers["x-edgewise-cache-key"] = served.cache_key or served.query.key
    upstream_ms = sum(attempt.latency_ms for attempt in served.attempts)
    match served.verdict:
        case Hit() as hit:
            _of_hit(headers, hit)
            # A stale answer in place of a provider that failed has tries, and reading a request may have cost.
            headers["x-edgewise-attempts"] = str(len(served.attempts))
            headers["x-edgewise-cost-usd"] = _cost(served)
        case Miss(reason=reason):
            headers["x-edgewise-cache-reason"] = clean(reason)
    if served.live is not None:
        _of_live(headers, served)
        if not served.attempts:
            # A stream's attempt is closed when it ends; until then all that passed before its first chunk is its own.
            return headers
    headers["x-edgewise-overhead-ms"] = f"{max(0.0, elapsed_ms - upstream_ms):.1f}"
    return headers


def _of_hit(headers: dict[str, str], hit: Hit) -> None:
    entry = hit.entry
    headers["age"] = str(max(0, int(hit.age_s)))
    headers["x-edgewise-cache-kind"] = hit.kind
    headers["x-edgewise-model"] = clean(entry.model if "/" in entry.model else f"{entry.provider}/{entry.model}")
    headers["x-edgewise-provider"] = clean(entry.provider)
    if hit.similarity is not None:
        headers["x-edgewise-similarity"] = f"{hit.similarity:.4f}"
    if entry.cost_usd is not None:
        headers["x-edgewise-saved-usd"] = usd(entry.cost_usd)


def _of_live(headers: dict[str, str], served: Served) -> None:
    live, choice = served.live, served.choice
    assert live is not None
    headers["x-edgewise-model"] = clean(live.model.name)
    headers["x-edgewise-provider"] = clean(live.model.provider)
    reason = live.reason or (choice.reason if choice else "")
    if reason:
        headers["x-edgewise-route-reason"] = clean(reason)
    if live.confidence is not None:
        headers["x-edgewise-confidence"] = f"{live.confidence:.3f}"
        if live.confidence_source:
            headers["x-edgewise-confidence-source"] = clean(live.confidence_source)
    if live.chunks is None:
        headers["x-edgewise-attempts"] = str(len(served.attempts))
        headers["x-edgewise-cost-usd"] = _cost(served)
    else:
        headers["x-edgewise-attempts"] = str(len(served.attempts) + 1)


def _cost(served: Served) -> str:
    cost = served.cost_usd
    return "unknown" if cost is None else usd(cost)


def usd(amount: Decimal) -> str:
    """Plain digits, never an exponent, no trailing zeros."""
    plain = f"{amount:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
