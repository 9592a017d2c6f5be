"""Counts since this process began: what `/healthz`, the console and a laptop see without any store.

Names are the metrics' names (see `edgewise.record.line`); a label is one word of low cardinality.
"""

from __future__ import annotations

from collections.abc import Mapping


class Counters:
    """Sums by name. Not shared between processes; roll-ups are."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}

    def add(self, name: str, amount: float = 1) -> None:
        self._sums[name] = self._sums.get(name, 0) + amount

    def add_all(self, amounts: Mapping[str, float]) -> None:
        sums = self._sums
        for name, amount in amounts.items():
            sums[name] = sums.get(name, 0) + amount

    def __getitem__(self, name: str) -> float:
        return self._sums.get(name, 0)

    def all(self) -> dict[str, float]:
        return dict(self._sums)
