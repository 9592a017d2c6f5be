"""The routing room: which model, in what order, and why.

Resolves a requested name to candidates, prices them for this request, lets a strategy choose, and carries the choice
out. What it learns comes back through `observe` and `learn`. It keeps no text: what it remembers are counts.

It doesn't know what an answer costs its caller's budget (policy), nor whether the answer was cached.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

from edgewise.background import Background
from edgewise.chat import Answer, ChatRequest
from edgewise.clock import Clock, Deadline
from edgewise.errors import EdgewiseError, InvalidRequest, ModelNotFound
from edgewise.routing import evidence, names
from edgewise.routing.ask import Ask, Candidate, demand_of, total
from edgewise.routing.breaker import Breakers
from edgewise.routing.catalog import Catalog
from edgewise.routing.complexity import question_of
from edgewise.routing.drive import MAX_RETRIES, MAX_WAIT_S, Drive
from edgewise.routing.knowing import Knowing, Lengths, Reading, gain_of, pair_of
from edgewise.routing.learn import Seen
from edgewise.routing.names import Alias
from edgewise.routing.options import Options, parse
from edgewise.routing.pacing import Pacing
from edgewise.routing.rescue import Rescue, distinct, usable, wanted
from edgewise.routing.retry_budget import RetryBudget
from edgewise.routing.scorer import hull
from edgewise.routing.shortlist import Shortlist
from edgewise.routing.strategies import BY_NAME
from edgewise.routing.tokens import Corrections
from edgewise.routing.upkeep import Labels, refresh
from edgewise.words import Attempt, Caller, Choice, Live, Model, Plan, Target

ORDERED = frozenset({"fallback", "weighted", "least_busy", "sticky", "lowest_latency"})
"""Strategies for which the list of candidates is the operator's, not a market to pick from."""
MOST_SESSIONS = 2000
REFRESH_S = 300.0
"""How old learned states may be in one process."""
SHADOW = "shadow"


@dataclass(slots=True)
class Room:
    """Implements `flow.Router`.

    defaults   routing options of the house, under everybody else's
    pacing     a budget over a window that routing paces itself by; None without one
    """

    catalog: Catalog
    clock: Clock
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    default_strategy: str = "hybrid"
    breakers: Breakers | None = None
    knowing: Knowing = field(default_factory=Knowing)
    corrections: Corrections = field(default_factory=Corrections)
    budget: RetryBudget = field(default_factory=RetryBudget)
    max_retries: int = MAX_RETRIES
    max_wait_s: float = MAX_WAIT_S
    pacing: Pacing | None = None
    in_flight: dict[str, int] = field(default_factory=dict)
    table: Labels | None = None
    """Where labels go and learned states come from; None keeps both in this process."""
    background: Background | None = None
    _refreshed: float | None = None
    _sessions: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _shortlist: Shortlist = field(init=False)
    _rescue: Rescue = field(init=False)

    def __post_init__(self) -> None:
        self.breakers = self.breakers or Breakers(self.clock)
        self._shortlist = Shortlist(self.corrections, self.breakers)
        self._rescue = Rescue(self._named_models, self.catalog.twins, self.corrections)

    def resolve(self, request: ChatRequest, plan: Plan) -> Target:
        """What the requested name stands for. Raises `ModelNotFound`, `NotAllowed`, `InvalidRequest`."""
        asked, options = self._read(request, plan)
        # What the house prefers changes who answers `auto`, so it is part of the name that answers are kept under.
        routing = {**(self.defaults if asked.many else {}), **asked.routing, **plan.routing, **request.routing}
        if plan.prefer_cheap:
            routing["prefer"] = "cheap"
        kept = tuple(model for model in asked.models if wanted(model, options))
        if not kept:
            raise ModelNotFound("No model is left after `only` and `ignore`.", param="routing")
        if len(kept) < len(asked.models):
            asked = changed(asked, models=kept)
        return names.target_of(asked, plan.models, routing, answers_from=self.catalog.version if asked.many else "")

    def _read(self, request: ChatRequest, plan: Plan) -> tuple[names.Asked, Options]:
        if not request.model:
            raise InvalidRequest("A model is required.", param="model")
        asked = names.read(request.model, self.catalog, self.aliases)
        layers: list[Mapping[str, Any]] = [self.defaults, asked.routing, plan.routing, request.routing]
        if plan.prefer_cheap:
            layers.append({"prefer": "cheap"})
        options = parse(*layers)
        if options.models:
            models = distinct(m for name in options.models for m in self._named_models(name))
            models = usable(models, "models", request, plan.models)
            asked = changed(asked, models=models, many=True)
        return asked, options

    def _named_models(self, name: str) -> tuple[Model, ...]:
        return names.read(name, self.catalog, self.aliases).models

    async def choose(self, request: ChatRequest, plan: Plan, target: Target) -> Choice:
        """The plan of models for this request. Raises `InvalidRequest` when no candidate can take it."""
        asked, options = self._read(request, plan)
        if asked.market:
            self._refresh()
        ask = self.ask(request, target.models, asked, options)
        name = options.strategy or (self.default_strategy if asked.market else "fallback")
        choice = self._rescue.complete(BY_NAME[name](ask), ask, request, plan.models)
        return self._with_shadow(choice, ask)

    def ask(self, request: ChatRequest, models: Sequence[Model], asked: names.Asked, options: Options) -> Ask:
        """Everything a strategy may know of this request. Pure but for what this process has seen."""
        demand = demand_of(request)
        fitting = [m for m in models if demand.fits(m, self.corrections.factor(m.name, m.id))]
        if asked.many and not fitting:
            raise InvalidRequest("No candidate model can take this request (tools, images, schema or length).")
        # A model that the client named itself is asked even if the catalogue doubts it: the provider knows better.
        reading = self.knowing.read(question_of(request))
        candidates = self._shortlist.candidates(
            fitting or models, demand, reading.difficulty, keep_order=options.strategy in ORDERED or not asked.market
        )
        gain, extra = self._learned(candidates, reading, options)
        kind = evidence.comparable(request)
        return Ask(
            demand=demand,
            candidates=candidates,
            options=options,
            many=asked.many,
            features={
                "prompt_tokens": demand.prompt_tokens,
                "output_limit": demand.output_limit,
                "difficulty": round(reading.difficulty, 4),
                "comparable": kind,
                "gain": None if gain is None else round(gain, 4),
                "needs": sorted(demand.needs),
                "prefer": options.prefer,
                "candidates": [c.model.name for c in candidates],
                **{name: round(value, 3) for name, value in reading.counts.items()},
            },
            difficulty=reading.difficulty,
            gain=gain,
            window_lambda=self.pacing.price if self.pacing else 0.0,
            uniform=self.clock.uniform,
            in_flight=self.in_flight,
            pinned=self._sessions.get(options.session) if options.session else None,
            comparable=kind,
            extra=extra,
        )

    def _learned(
        self, candidates: Sequence[Candidate], reading: Reading, options: Options
    ) -> tuple[float | None, dict[str, Any]]:
        """What the pair's learner says, if it may speak: its test has passed, or a guarantee is proved."""
        ranked = hull(candidates)
        if len(ranked) < 2:
            return None, {}
        table = self.knowing.plans
        if table is not None and not options.guarantee and options.strategy in (None, "hybrid"):
            return None, {"plans": table.worth(reading.seen), "lam": table.lam, "tested": table.tested}
        pair = pair_of(ranked[0].model, ranked[-1].model)
        learner = self.knowing.learners.get(pair)
        if learner is None:
            return None, {"learned": "no labels yet"}
        extra: dict[str, Any] = {"learned": learner.test.reason()}
        if options.guarantee:
            found = self.knowing.operating(pair, float(options.guarantee.get("delta", 0.02)))
            if found is None:
                return None, extra
            extra["threshold"] = found.threshold
            return learner.gain(reading.seen), extra
        return (learner.gain(reading.seen) if learner.test.serving else None), extra

    def _refresh(self) -> None:
        """Load what upkeep has learned, now and then, behind the request that notices."""
        if self.table is None or self.background is None:
            return
        now = self.clock.tick()
        if self._refreshed is None or now - self._refreshed >= REFRESH_S:
            self._refreshed = now
            self.background.spawn(refresh(self.knowing, self.table))

    def _learn(self, pair: str, question: Seen, gain: float) -> None:
        """One label: into the table for all to learn from, or into this process alone."""
        if self.table is not None and self.background is not None:
            self.background.spawn(self.table.write(pair, question, gain))
        else:
            self.knowing.learn(pair, question, gain)

    def _with_shadow(self, choice: Choice, ask: Ask) -> Choice:
        """A set share of requests is also asked of the other tier, so that there are labels to learn from."""
        share = ask.options.shadow or 0.0
        if share <= 0 or ask.comparable is None or len(choice.steps) > 1 or self.clock.uniform() >= share:
            return choice
        ranked = hull(ask.candidates)
        ends = [c for c in (ranked[0], ranked[-1]) if c.model != choice.steps[0].models[0]] if len(ranked) > 1 else []
        if len(ends) != 1:
            return choice
        features = {**choice.features, SHADOW: ends[0].model.name}
        return changed(choice, features=features, worst_usd=total([choice.worst_usd, ends[0].worst_usd]))

    async def carry_out(
        self, choice: Choice, request: ChatRequest, caller: Caller, deadline: Deadline, trail: list[Attempt]
    ) -> Live:
        """Ask the choice's models until one has answered. Raises the last `UpstreamError` when none has."""
        assert self.breakers is not None
        drive = Drive(
            choice,
            request,
            caller,
            deadline,
            trail,
            self.breakers,
            self.budget,
            log_length=self.knowing.log_length,
            max_retries=self.max_retries,
            max_wait_s=self.max_wait_s,
            in_flight=self.in_flight,
        )
        shadow = choice.features.get(SHADOW)
        if shadow is None or request.stream:
            return await drive.run()
        beside = asyncio.create_task(self._shadowed(str(shadow), drive))
        try:
            live, other = await drive.run(), await beside
        finally:
            # A request that fails takes its shadow with it, or the call would be charged to nobody.
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
        if live.answer is not None and other is not None:
            self._label(request, live, self._named_models(str(shadow))[0], other)
        return live

    async def _shadowed(self, name: str, drive: Drive) -> Answer | None:
        """The shadow's answer; its failure is nobody's."""
        try:
            return await drive.whole(self._named_models(name)[0], drive.request, drive.deadline, "shadow")
        except EdgewiseError:
            return None

    def _label(self, request: ChatRequest, live: Live, shadow: Model, other: Answer) -> None:
        kind = evidence.comparable(request)
        if kind is None or live.answer is None:
            return
        agreed = evidence.agreement(live.answer, other, kind).source == "agreement"
        # Which of the two is the weak one follows from the hull that the choice was made on: cheaper is weak.
        cheap = _cheaper(live.model, shadow)
        strong = shadow if cheap is live.model else live.model
        self._learn(pair_of(cheap, strong), self.knowing.read(question_of(request)).seen, gain_of(agreed))

    def learn(self, request: ChatRequest, weak: str, strong: str, gain: float) -> None:
        """One label from outside (feedback, a judge): how much better `strong` was than `weak`, from −1 to 1."""
        pair = f"{weak}|{strong}"
        self._learn(pair, self.knowing.read(question_of(request)).seen, max(-1.0, min(1.0, gain)))

    def observe(self, request: ChatRequest, choice: Choice, trail: list[Attempt], answer: Answer | None) -> None:
        """Take in a finished request: token counts and lengths by model, the session's model, what was spent."""
        estimated = int(choice.features.get("prompt_tokens") or 0)
        for attempt in trail:
            if attempt.error is None:
                self.corrections.learn(attempt.model.name, estimated, attempt.usage)
                self.knowing.lengths.setdefault(attempt.model.name, Lengths()).add(attempt.usage)
        spent = sum(float(attempt.cost_usd) for attempt in trail if attempt.cost_usd is not None)
        if self.pacing is not None:
            self.pacing.spend(spent)
        session = request.routing.get("session")
        final = next((a for a in reversed(trail) if a.error is None and a.role in ("answer", "hedge")), None)
        if session and final is not None and answer is not None:
            self._sessions[str(session)] = final.model.name
            self._sessions.move_to_end(str(session))
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)


def _cheaper(first: Model, second: Model) -> Model:
    if first.price is None or second.price is None:
        return first
    return first if first.price.output <= second.price.output else second
