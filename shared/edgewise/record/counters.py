"""Counts since this process began: what `/healthz`, the console and a laptop see without any store.

Names are the metrics' names (see `edgewise.record.line`); a label is one word of low cardinality.
"""

from __future__ import annotations

from collections import Counter


class Counters:
    """Sums by name. Not shared between processes; roll-ups are."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()

    def add(self, name: str, amount: float = 1) -> None:
        self._sums[name] += amount  # type: ignore[assignment]

    def __getitem__(self, name: str) -> float:
        return self._sums[name]

    def all(self) -> dict[str, float]:
        return dict(self._sums)
