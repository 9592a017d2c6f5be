"""What a strategy sees of one request: what it demands, who could answer it, and what each would cost.

A strategy is a function `Ask -> Choice` without side effects: everything it may know is in here, so a logged ask can
be replayed through another strategy. Prices are per request, with the prompt cache counted: a dear model with a warm
cache may be cheaper than a cheap one that starts cold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edgewise.chat import ChatRequest, Usage
from edgewise.grading import THOUGHT_TOKENS, WORD_TOKENS
from edgewise.price import Price, tier_asked
from edgewise.routing.bound import image_tokens, most_prompt_tokens
from edgewise.routing.judging import RUBRIC_TOKENS, Grader, source_of
from edgewise.routing.options import Options
from edgewise.routing.tokens import Corrections, prompt_tokens
from edgewise.words import Model, Usd, longest_answer

USUAL_OUTPUT_TOKENS = 350
"""The mean answer when nothing is known of it (a few hundred tokens in every recorded set)."""
UNKNOWN_GRADER_MS = 1500.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request needs of a model. Tokens are o200k estimates, before a family's factor."""

    prompt_tokens: int
    output_limit: int | None
    needs: frozenset[str]
    cached_tokens: int = 0
    choices: int = 1
    has_image: bool = False
    most_tokens: float | None = None
    """The most tokens of the prompt without its images (`edgewise.routing.bound`); None: a tenth above the estimate."""
    images: int = 0
    for_an_hour: bool = False
    """Whether a part of the prompt is to be written into the provider's cache for an hour."""
    tier: str = ""
    """The provider's service tier that is wished for."""

    def fits(self, model: Model, factor: float = 1.0) -> bool:
        """Whether `model` can take the request at all: capabilities and context window."""
        return self.needs <= model.capabilities and self.has_room(model, factor)

    def has_room(self, model: Model, factor: float = 1.0) -> bool:
        """Input and the least useful output must fit the window; an unknown window is not a reason to refuse."""
        if model.context_tokens is None:
            return True
        wanted = self.output_limit or 256
        return self.prompt_tokens * factor + min(wanted, model.output_tokens or wanted) <= model.context_tokens


def demand_of(request: ChatRequest, prompt: int | None = None, *, bounded: bool = True) -> Demand:
    """Read a request's needs. `seed` and `n` are wishes that providers emulate or reject themselves.

    bounded  whether somebody must know the most that it can cost: every letter is read for that
    """
    body = request.body
    needs: set[str] = set()
    image = _has_image(request)
    if body.get("tools") or body.get("functions"):
        needs.add("tools")
    if image:
        needs.add("vision")
    wanted = body.get("response_format")
    if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
        needs.add("json_schema")
    if body.get("logprobs"):
        needs.add("logprobs")
    most: Mapping[str, Any] = most_prompt_tokens(request)._asdict() if bounded else {}
    return Demand(
        prompt_tokens=prompt_tokens(request) if prompt is None else prompt,
        output_limit=request.output_limit,
        needs=frozenset(needs),
        choices=request.choices,
        has_image=image,
        tier=tier_asked(body),
        **most,
    )


def _has_image(request: ChatRequest) -> bool:
    return any(
        isinstance(part, Mapping) and part.get("type") in ("image_url", "input_image")
        for message in request.messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model that could answer this request, priced for it. None is unknown."""

    model: Model
    cost_usd: Usd | None
    worst_usd: Usd | None
    latency_ms: float
    quality: float
    """Probability that its answer to this request is good."""
    cost: float = field(init=False)
    """Expected dollars as a number to compare by; an unknown price is dearer than any known one."""

    def __post_init__(self) -> None:
        # Compared some four hundred times a decision, so it is turned into a number once.
        object.__setattr__(self, "cost", math.inf if self.cost_usd is None else float(self.cost_usd))


@dataclass(frozen=True, slots=True)
class Ask:
    """Everything that a strategy may know."""

    demand: Demand
    candidates: tuple[Candidate, ...]
    options: Options
    many: bool = True
    """False: the client named one model, and the candidates are its twins."""
    features: Mapping[str, Any] = field(default_factory=dict)
    difficulty: float = 0.5
    """Calibrated probability that a small model's answer is not good enough, 0 to 1."""
    gain: float | None = None
    """Learned: expected quality of the strong model less that of the weak one; None when nothing was learned."""
    window_lambda: float = 0.0
    """Shadow price of the budget window, quality points per dollar, on top of the options' own λ."""
    uniform: Callable[[], float] = lambda: 0.5
    in_flight: Mapping[str, int] = field(default_factory=dict)
    pinned: str | None = None
    """The model that this session last spoke to."""
    comparable: str | None = None
    """How two answers to this request could be compared ('tools', 'json', 'number', 'label'); None: they can't."""
    reference: Candidate | None = None
    """The model that a guarantee names: no worse than that one."""
    grader: Callable[[Candidate], Grader | None] = lambda _: None
    """Who would grade a candidate's answer; None when no judge was asked for, or none may be."""
    extra: Mapping[str, Any] = field(default_factory=dict)


def grader_of(named: Model, answered: Model, demand: Demand, corrections: Corrections) -> Grader | None:
    """What it costs to have `named` grade the answer of `answered`; None when the two don't fit into its context."""
    word = THOUGHT_TOKENS if "reasoning" in named.capabilities else WORD_TOKENS
    longest = demand.output_limit or longest_answer(answered)
    told = demand.prompt_tokens + RUBRIC_TOKENS
    usual = Demand(told + min(longest, USUAL_OUTPUT_TOKENS), word, frozenset())
    # What was a token of the one vocabulary may be several of another: four is more than any two differ in on text.
    most = None if demand.most_tokens is None else demand.most_tokens + 4 * (RUBRIC_TOKENS + longest)
    worst = Demand(told + longest, word, frozenset(), most_tokens=most, images=demand.images)
    if not usual.fits(named, corrections.factor(named.name, named.id)):
        return None
    return Grader(
        named,
        source_of(named, answered),
        price(named, usual, corrections, word)[0],
        price(named, worst, corrections, word)[1],
        named.latency_ms or UNKNOWN_GRADER_MS,
    )


def price(
    model: Model, demand: Demand, corrections: Corrections, usual_output: float = USUAL_OUTPUT_TOKENS
) -> tuple[Usd | None, Usd | None]:
    """(expected, worst) cost of this request at `model`, US dollars; (None, None) when the price is unknown."""
    if model.price is None:
        return None, None
    prompt = round(demand.prompt_tokens * corrections.factor(model.name, model.id))
    limit = demand.output_limit or longest_answer(model)
    usual = min(limit, round(usual_output))
    likely = Usage(prompt, usual * demand.choices, cached_tokens=min(demand.cached_tokens, prompt))
    expected = model.price.cost(likely, demand.tier)
    return expected, _worst(model, model.price, demand, prompt, limit * demand.choices)


def _worst(model: Model, price: Price, demand: Demand, prompt: int, answer: int) -> Usd | None:
    """The dearest that the call can be; None when nothing bounds its prompt."""
    most: float = round(prompt * 1.1) + 16
    if demand.most_tokens is not None:
        most = demand.most_tokens + demand.images * image_tokens(model.id)
        # A longer prompt is refused, and not charged.
        most = min(most, model.context_tokens or math.inf)
    if most == math.inf:
        return None
    most = round(most)
    # A prompt that is written into the provider's cache may be dearer than one that is only read.
    usages = [Usage(most, answer), Usage(most, answer, cache_write_tokens=most)]
    if demand.for_an_hour:
        usages.append(Usage(most, answer, cache_write_tokens=most, cache_write_1h_tokens=most))
    # A wish for a tier is not always met: it is served as usual then.
    return max(price.cost(usage, tier) for usage in usages for tier in {"", demand.tier})


def total(parts: list[Usd | None]) -> Usd | None:
    """The sum, or None when a part is unknown."""
    return None if any(part is None for part in parts) else sum((p for p in parts if p is not None), Decimal(0))
