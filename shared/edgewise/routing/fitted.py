"""Plans whose worth was fitted to labelled traffic: for each question, what each plan would bring and cost here.

A label here is a question on which every model of the table was asked (shadow traffic, or a recorded set). For each
plan (one model; a pair that must agree before a strong one; a third that may side with either) quality and cost are
known after the fact, so both are regressed on the question's hashed pieces. How, and when there is no table, is
`fitting.py`'s matter; this one only serves, in pure Python: a few plans, 32 KB each.
"""

from __future__ import annotations

import json
import math
import zlib
from array import array
from dataclasses import dataclass

from edgewise.routing.learn import PLACES, Seen

TABLE_VERSION = 1


@dataclass(frozen=True, slots=True)
class PlanKey:
    """A plan by its models: asked at once, then a third opinion, then the one that answers for sure."""

    first: tuple[str, ...]
    third: str | None = None
    strong: str | None = None

    def label(self) -> str:
        return "→".join(part for part in ("+".join(self.first), self.third, self.strong) if part)


@dataclass(frozen=True, slots=True)
class FittedPlans:
    """A table that serves. `quality` and `cost` are linear in the question's pieces."""

    plans: tuple[PlanKey, ...]
    lam: float
    base: tuple[tuple[float, float], ...]
    """Mean (quality, cost) of each plan."""
    weights: tuple[tuple[array[float], array[float]], ...]
    rarity: array[float]
    tested: str
    """What the cross-validation said, for reasons."""

    def worth(self, question: Seen) -> list[tuple[PlanKey, float, float]]:
        """(plan, expected quality, expected cost in dollars) for one question, in the table's order."""
        values = [self.rarity[place] for place in question.places]
        length = math.sqrt(sum(value * value for value in values)) or 1.0
        found = []
        for plan, base, (good, dear) in zip(self.plans, self.base, self.weights, strict=True):
            pairs = list(zip(question.places, values, strict=True))
            quality = base[0] + sum(good[place] * value for place, value in pairs) / length
            cost = base[1] + sum(dear[place] * value for place, value in pairs) / length
            found.append((plan, min(1.0, max(0.0, quality)), max(0.0, cost)))
        return found

    def best(self, question: Seen) -> tuple[PlanKey, float, float]:
        """The plan of most worth at the table's λ."""
        return max(self.worth(question), key=lambda row: row[1] - self.lam * row[2])

    def dump(self) -> bytes:
        """The table packed: weights as bytes of their own scale, which costs under half a hundredth of the largest."""
        blocks = [block for pair in self.weights for block in pair] + [self.rarity]
        scales = [max(map(abs, block), default=0.0) / 127 or 1.0 for block in blocks]
        head = {
            "version": TABLE_VERSION,
            "plans": [[key.first, key.third, key.strong] for key in self.plans],
            "lam": self.lam,
            "base": self.base,
            "scales": scales,
            "tested": self.tested,
        }
        text = json.dumps(head).encode()
        raw = b"".join(
            array("b", [round(value / scale) for value in block]).tobytes()
            for block, scale in zip(blocks, scales, strict=True)
        )
        return zlib.compress(len(text).to_bytes(4, "big") + text + raw, 6)

    @classmethod
    def load(cls, state: bytes) -> FittedPlans:
        """The table that `dump` wrote. Raises ValueError for another version or a torn state."""
        raw = zlib.decompress(state)
        size = int.from_bytes(raw[:4], "big")
        head = json.loads(raw[4 : 4 + size])
        scales = head.get("scales", ())
        if head.get("version") != TABLE_VERSION or len(raw) != 4 + size + len(scales) * PLACES:
            raise ValueError("a table of plans of another version")
        packed = array("b", raw[4 + size :])
        blocks = [
            array("f", [value * scale for value in packed[n * PLACES : (n + 1) * PLACES]])
            for n, scale in enumerate(scales)
        ]
        return cls(
            plans=tuple(PlanKey(tuple(first), third, strong) for first, third, strong in head["plans"]),
            lam=head["lam"],
            base=tuple((quality, cost) for quality, cost in head["base"]),
            weights=tuple(zip(blocks[:-1:2], blocks[1:-1:2], strict=True)),
            rarity=blocks[-1],
            tested=head["tested"],
        )
