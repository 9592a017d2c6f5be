"""Scores plans of models for one request and says which is worth most.

    value = quality − λ·cost − μ·latency          λ quality points per dollar, μ quality points per second

Three shapes of plan: one model; a cheap model whose answer is kept when its own evidence suffices, else a strong one;
two cheap models asked at once whose answer is kept when they agree, else a strong one. Candidates are first cut to
the hull of cost and quality: a dominated first tier is the worst trap of cascades.

A cascade's cost is c_cheap + c_check + (1 − P(accept))·κ·c_strong. κ is the price of the questions that escalate over
the mean one (they are harder, so longer): 1.2-1.35 wherever it was measured, and leaving it out overstates the saving
by ten points. Hence the gate: a cascade runs only where P(accept) > (c_cheap + c_check)/c_strong; otherwise the plan
goes straight to the strong model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from edgewise.routing.ask import Ask, Candidate, total
from edgewise.routing.judging import Grader, passing
from edgewise.words import Usd

KAPPA = 1.3
"""Cost of an escalated question over the mean one (1.35 on ZeroEval, 1.19-1.29 on MMLU-Pro)."""
PAIR_ACCEPT = 0.78
"""Share of questions on which two cheap models of the same rank agree, per point of their quality."""
PAIR_QUALITY = 0.954
ALONE_ACCEPT = 0.85
"""Share of a cheap model's answers in which its own evidence finds nothing amiss."""
ALONE_LIFT = 0.02
"""How much better than its mean the answers are in which nothing is amiss."""
HARDER = 0.72
"""Strong model's quality on questions that the cheap ones disagree on, over its mean (59.8 of 83.6)."""
ESCALATED = 0.9
"""Strong model's quality on questions whose cheap answer was not kept, over its mean."""
MOST_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Scored:
    """One plan and what it should bring. `first` is asked at once; `strong` only when `first` fails the check."""

    first: tuple[Candidate, ...]
    strong: Candidate | None
    quality: float
    cost: float
    latency_ms: float
    value: float
    accept: float = 1.0
    grader: Grader | None = None
    """Who grades the first answer where its own looks leave it open."""

    @property
    def cost_usd(self) -> Usd | None:
        return None if self.cost == float("inf") else Decimal(repr(round(self.cost, 10)))

    @property
    def worst_usd(self) -> Usd | None:
        parts = [c.worst_usd for c in (*self.first, *([self.strong] if self.strong else []))]
        return total([*parts, self.grader.worst_usd] if self.grader else parts)

    def label(self) -> str:
        names = "+".join(c.model.name for c in self.first) + (f" ({self.grader.source})" if self.grader else "")
        return f"{names}→{self.strong.model.name}" if self.strong else names


def hull(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates that no mixture of others beats in both cost and quality, cheapest first.

    One of unknown price is on no hull.
    """
    ordered = sorted((c for c in candidates if c.cost_usd is not None), key=lambda c: (c.cost, -c.quality))
    kept: list[Candidate] = []
    for candidate in ordered:
        if kept and candidate.quality <= kept[-1].quality:
            continue
        while len(kept) >= 2 and _turns_down(kept[-2], kept[-1], candidate):
            kept.pop()
        kept.append(candidate)
    return kept


def _turns_down(first: Candidate, middle: Candidate, last: Candidate) -> bool:
    rise = (middle.quality - first.quality) * (last.cost - first.cost)
    chord = (last.quality - first.quality) * (middle.cost - first.cost)
    return rise <= chord


def ends(candidates: Sequence[Candidate], reference: Candidate | None = None) -> tuple[Candidate, Candidate]:
    """The weak and the strong model that learning is about: the hull's ends, or what is cheapest under a reference."""
    ranked = hull(candidates) or list(candidates)
    if reference is None:
        return ranked[0], ranked[-1]
    return next((c for c in ranked if c.cost < reference.cost), reference), reference


def pays(accept: float, first_cost: float, strong_cost: float) -> bool:
    """Whether a cascade costs less than going straight to the strong model."""
    return (
        strong_cost > 0
        and accept > (first_cost / strong_cost)
        and first_cost + (1 - accept) * KAPPA * strong_cost < strong_cost
    )


def plans(ask: Ask) -> list[Scored]:
    """Every plan worth considering for `ask`, best value first; never empty when there are candidates."""
    lam = ask.options.lam + ask.window_lambda
    mu = ask.options.latency_weight
    priced = hull(ask.candidates)[-MOST_CANDIDATES:] or list(ask.candidates)
    found = [_scored((c,), None, c.quality, c.cost, c.latency_ms, lam, mu) for c in priced]
    for number, strong in enumerate(priced):
        found += _cascades(ask, priced[:number], strong, lam, mu)
    return sorted(found, key=lambda plan: (-plan.value, plan.cost, plan.label()))


def _cascades(ask: Ask, cheaper: Sequence[Candidate], strong: Candidate, lam: float, mu: float) -> list[Scored]:
    found = []
    for cheap in cheaper:
        found += [plan for plan in (alone(cheap, strong, lam, mu), graded(ask, cheap, strong, lam, mu)) if plan]
        if ask.comparable is None or not ask.options.agree:
            continue
        second = partner(ask, cheap, strong)
        if second is not None:
            accept = PAIR_ACCEPT * (cheap.quality + second.quality) / 2
            if pays(accept, cheap.cost + second.cost, strong.cost):
                quality = accept * PAIR_QUALITY + (1 - accept) * strong.quality * HARDER
                found.append(_cascade((cheap, second), strong, accept, quality, lam, mu))
    return found


def kept_share(cheap: Candidate, grader: Grader | None) -> tuple[float, float]:
    """(share of a cheap model's answers that are kept, share of those that are good), with or without verdicts."""
    lifted = min(1.0, cheap.quality + ALONE_LIFT)
    if grader is None:
        return ALONE_ACCEPT * cheap.quality, lifted
    share, right = passing(lifted, grader.source)
    return ALONE_ACCEPT * share, right


def check_cost(grader: Grader | None) -> float:
    """Expected dollars of a verdict: an answer that looks amiss is not put to anybody."""
    return ALONE_ACCEPT * float(grader.cost_usd) if grader is not None and grader.cost_usd is not None else 0.0


def alone(cheap: Candidate, strong: Candidate, lam: float, mu: float, grader: Grader | None = None) -> Scored | None:
    """A cheap model whose answer is kept unless it looks wrong, or its grader says so; None where it would not pay."""
    share, right = kept_share(cheap, grader)
    checked = cheap.cost + check_cost(grader)
    if not pays(share, checked, strong.cost):
        return None
    quality = share * right + (1 - share) * strong.quality * ESCALATED
    cost = checked + (1 - share) * KAPPA * strong.cost
    graded_ms = ALONE_ACCEPT * grader.latency_ms if grader is not None else 0.0
    latency = cheap.latency_ms + graded_ms + (1 - share) * strong.latency_ms
    return _scored((cheap,), strong, quality, cost, latency, lam, mu, share, grader=grader)


def graded(ask: Ask, cheap: Candidate, strong: Candidate, lam: float, mu: float) -> Scored | None:
    """`alone` with verdicts; None where nobody may grade, or at an unknown price."""
    grader = ask.grader(cheap)
    return None if grader is None or grader.cost_usd is None else alone(cheap, strong, lam, mu, grader)


def worthwhile(ask: Ask, cheap: Candidate, strong: Candidate) -> Grader | None:
    """Who should grade `cheap` before `strong` is asked; None where a verdict costs more than it brings."""
    lam, mu = ask.options.lam + ask.window_lambda, ask.options.latency_weight
    without, found = alone(cheap, strong, lam, mu), graded(ask, cheap, strong, lam, mu)
    better = found is not None and (without is None or found.value > without.value)
    return found.grader if found is not None and better else None


def partner(ask: Ask, cheap: Candidate, strong: Candidate) -> Candidate | None:
    """The cheapest second opinion that is independent (another family) and not much worse."""
    able = [
        c
        for c in ask.candidates
        if c.cost_usd is not None
        and c.cost < strong.cost / 4
        and c.quality >= cheap.quality - 0.12
        and family(c.model.id) != family(cheap.model.id)
    ]
    return min(able, key=lambda c: (c.cost - 0.02 * strong.cost * c.quality, c.model.name), default=None)


@lru_cache(maxsize=4096)
def family(model_id: str) -> str:
    """Whose model it is: models of one maker err alike, so their agreement says less."""
    lowered = model_id.lower()
    for name in (
        "claude",
        "gpt",
        "gemini",
        "gemma",
        "llama",
        "mistral",
        "mixtral",
        "nova",
        "qwen",
        "deepseek",
        "command",
    ):
        if name in lowered:
            return {"gemma": "gemini", "mixtral": "mistral"}.get(name, name)
    return lowered.split("-")[0]


def _cascade(
    first: tuple[Candidate, ...], strong: Candidate, accept: float, quality: float, lam: float, mu: float
) -> Scored:
    cost = sum(c.cost for c in first) + (1 - accept) * KAPPA * strong.cost
    latency = max(c.latency_ms for c in first) + (1 - accept) * strong.latency_ms
    return _scored(first, strong, quality, cost, latency, lam, mu, accept)


def _scored(
    first: tuple[Candidate, ...], strong: Candidate | None, quality: float, cost: float, latency_ms: float,
    lam: float, mu: float, accept: float = 1.0, *, grader: Grader | None = None,
) -> Scored:  # fmt: skip
    # An unknown price can't be weighed: such a plan stands behind every priced one.
    value = quality - lam * cost - mu * latency_ms / 1000 if cost != float("inf") else quality - 1e6
    return Scored(first, strong, quality, cost, latency_ms, value, accept, grader)
