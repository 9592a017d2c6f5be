"""What the cache counts: hits by kind, misses by reason, what was kept and what was not and why, and trouble.

Counts are of this process since it started; adding them up over processes is the record's business.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from edgewise.words import Hit, Verdict


@dataclass(slots=True)
class CacheStats:
    """Plain counters. Counting never fails and costs a dictionary update."""

    hits: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)
    offers: Counter[str] = field(default_factory=Counter)
    """'kept', or why not."""
    trouble: Counter[str] = field(default_factory=Counter)
    """Failures that were turned into misses, by what failed."""

    def saw(self, verdict: Verdict) -> None:
        if isinstance(verdict, Hit):
            self.hits[verdict.kind] += 1
            self.tiers[verdict.tier] += 1
        else:
            self.misses[verdict.reason] += 1

    @property
    def hit_rate(self) -> float:
        """Share of lookups that were answered, 0 to 1; 0 before the first."""
        hits, misses = self.hits.total(), self.misses.total()
        return hits / (hits + misses) if hits + misses else 0.0

    def wire(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "hits": dict(self.hits),
            "tiers": dict(self.tiers),
            "misses": dict(self.misses),
            "offers": dict(self.offers),
            "trouble": dict(self.trouble),
            "hit_rate": round(self.hit_rate, 6),
        }
