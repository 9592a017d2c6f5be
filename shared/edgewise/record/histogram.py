"""Histograms that add up: counts in buckets whose bounds grow by a fixed factor.

A percentile cannot be averaged; a count can be added. Bucket `i` holds values in (2^((i-1)/8), 2^(i/8)] ms, so a
percentile read from any sum of histograms is at most 9.1 % above the true one, and 4.4 % off in the middle. From 1 ms
to an hour there are 175 buckets, of which a minute fills a handful.

Source  the scheme of Prometheus' native histograms, schema 3 (2^(2^-3)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

PER_DOUBLING = 8
LOWEST = -24
HIGHEST = 180


def bucket(value: float) -> int:
    """The bucket of `value` (ms). What is below 0.125 ms or above 100 minutes is in the outermost one."""
    if value <= 0:
        return LOWEST
    index = math.ceil(math.log2(value) * PER_DOUBLING - 1e-9)
    return LOWEST if index < LOWEST else min(index, HIGHEST)


def middle(index: int) -> float:
    """The value that stands for a bucket: the geometric middle of its bounds."""
    return float(2 ** ((index - 0.5) / PER_DOUBLING))


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The value below which `share` (0 to 1) of the counted ones lie; None when none were counted."""
    total = sum(counts.values())
    if total == 0:
        return None
    rank, seen = max(1, math.ceil(share * total)), 0
    for index in sorted(counts):
        seen += counts[index]
        if seen >= rank:
            return middle(index)
    raise AssertionError("unreachable")
