"""One file a strategy; each is a pure function from an `Ask` to a `Choice`. `BY_NAME` is the list of them."""

from __future__ import annotations

from collections.abc import Callable

from edgewise.routing.ask import Ask
from edgewise.routing.strategies import (
    cascading,
    confidence,
    cost_aware,
    fallback,
    hybrid,
    learned,
    least_busy,
    lowest_latency,
    simple,
    smart_cascade,
    sticky,
    weighted,
)
from edgewise.words import Choice

Strategy = Callable[[Ask], Choice]

BY_NAME: dict[str, Strategy] = {
    "simple": simple.choose,
    "confidence": confidence.choose,
    "cascading": cascading.choose,
    "cost_aware": cost_aware.choose,
    "smart_cascade": smart_cascade.choose,
    "hybrid": hybrid.choose,
    "learned": learned.choose,
    "fallback": fallback.choose,
    "weighted": weighted.choose,
    "lowest_latency": lowest_latency.choose,
    "least_busy": least_busy.choose,
    "sticky": sticky.choose,
}
