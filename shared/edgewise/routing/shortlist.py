"""Prices candidates for one request and keeps the list short, so that a decision takes a millisecond, not ten.

The catalogue offers `auto` well over a hundred models; most are beaten by a neighbour in both cost and quality. A
float price ranks them all; exact money is computed only for those that stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgewise.routing.ask import USUAL_OUTPUT_TOKENS, Candidate, Demand, grader_of, price
from edgewise.routing.breaker import Breakers
from edgewise.routing.judging import Grader
from edgewise.routing.scorer import family
from edgewise.routing.tokens import Corrections
from edgewise.words import TIERS, Model

Judges = Model | bool
"""A model that grades all; True: each grades itself; False: nobody grades."""
MOST = 14
A_TIER = 3
UNKNOWN_QUALITY = 0.7
UNKNOWN_LATENCY_MS = 3000.0
USUAL_DIFFICULTY = 0.33
STEEPNESS = 2.5
"""How fast quality falls with difficulty, on the logit scale."""


@dataclass(slots=True)
class Shortlist:
    """Priced candidates for one request."""

    corrections: Corrections
    breakers: Breakers
    _rates: dict[str, tuple[float, float]] = field(default_factory=dict)

    def graders(self, judge: Judges, demand: Demand) -> Callable[[Candidate], Grader | None]:
        """Who would grade a candidate's answer, priced when somebody wants to know; None where its context is full."""

        found: dict[str, Grader | None] = {}

        def grader(candidate: Candidate) -> Grader | None:
            answered = candidate.model
            if judge is False:
                return None
            if answered.name not in found:
                named = answered if judge is True else judge
                found[answered.name] = grader_of(named, answered, demand, self.corrections)
            return found[answered.name]

        return grader

    def forget(self) -> None:
        """Prices may have changed."""
        self._rates.clear()

    def candidates(
        self, models: Sequence[Model], demand: Demand, difficulty: float, *, keep_order: bool
    ) -> tuple[Candidate, ...]:
        """`models` priced; only the best few when there are many and their order says nothing."""
        kept = list(models) if keep_order or len(models) <= MOST else self._best(models, demand)
        awake = [model for model in kept if not self.breakers.is_open(model.name)]
        asleep = [model for model in kept if self.breakers.is_open(model.name)]
        return tuple(self._candidate(model, demand, difficulty) for model in [*awake, *asleep])

    def _best(self, models: Sequence[Model], demand: Demand) -> list[Model]:
        """The cheapest few of each tier, of different makers; those that rest only where nobody else is."""
        by_tier: dict[str, list[tuple[bool, float, int]]] = {}
        for number, model in enumerate(models):
            cost = self._cost(model, demand)
            if cost is not None:
                by_tier.setdefault(model.tier, []).append((self.breakers.is_open(model.name), cost, number))
        kept: list[Model] = []
        for tier in TIERS:
            makers: set[str] = set()
            for _, _, number in sorted(by_tier.get(tier, ())):
                maker = family(models[number].id)
                if maker not in makers:
                    makers.add(maker)
                    kept.append(models[number])
                if len(makers) == A_TIER:
                    break
        return kept or list(models)[:MOST]

    def _cost(self, model: Model, demand: Demand) -> float | None:
        rates = self._rates.get(model.name)
        if rates is None:
            if model.price is None:
                return None
            rates = self._rates[model.name] = (float(model.price.input), float(model.price.output))
        return demand.prompt_tokens * rates[0] + USUAL_OUTPUT_TOKENS * rates[1]

    def _candidate(self, model: Model, demand: Demand, difficulty: float) -> Candidate:
        expected, worst = price(model, demand, self.corrections)
        seen = self.breakers.latency_ms(model)
        return Candidate(
            model,
            expected,
            worst,
            seen if seen is not None else model.latency_ms or UNKNOWN_LATENCY_MS,
            quality_at(model.quality if model.quality is not None else UNKNOWN_QUALITY, difficulty),
        )


def quality_at(mean: float, difficulty: float) -> float:
    """A model's expected quality on a question of this difficulty, from its mean over all questions."""
    mean = min(0.99, max(0.01, mean))
    logit = math.log(mean / (1 - mean)) + STEEPNESS * (USUAL_DIFFICULTY - difficulty)
    return 1 / (1 + math.exp(-logit))
