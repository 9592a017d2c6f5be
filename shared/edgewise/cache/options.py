"""The operator's figures for the cache room, read once from the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgewise.cache.admission import Admission
from edgewise.cache.freshness import Lifetimes
from edgewise.cache.lease import Patience
from edgewise.settings import Settings


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """timeout_s          how long one lookup in the store may take before it is a miss
    meaning_timeout_s  the same for a match by meaning
    quorum             tenants that must have asked before a shared namespace serves an entry to another
    keep_requests      keep what was asked beside the answer, for warming
    pieces             how far the vectors of embeddings are kept
    """

    admission: Admission = field(default_factory=Admission)
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    patience: Patience = field(default_factory=Patience)
    timeout_s: float = 0.25
    meaning_timeout_s: float = 1.0
    quorum: int = 3
    keep_requests: bool = False
    pieces: Literal["table", "memory", "off"] = "table"

    @classmethod
    def of(cls, settings: Settings) -> CacheOptions:
        return cls(
            admission=Admission(tool_calls=settings.cache_tool_calls, most_bytes=settings.cache_answer_bytes),
            lifetimes=Lifetimes(
                ttl_s=settings.cache_ttl_s,
                stale_s=settings.cache_stale_s,
                negative_s=settings.cache_negative_s,
                jitter=settings.cache_ttl_jitter,
            ),
            patience=Patience(lease_s=settings.cache_lease_s, follow_s=settings.cache_follow_s),
            timeout_s=settings.cache_timeout_s,
            meaning_timeout_s=settings.cache_meaning_timeout_s,
            quorum=settings.cache_quorum,
            keep_requests=settings.cache_keep_requests,
            pieces=settings.cache_embeddings,
        )
