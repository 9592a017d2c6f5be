"""The routing room: which model, in what order, and why.

Resolves a requested name to candidates, prices them for this request, lets a strategy choose, and carries the choice
out. What it learns comes back through `observe` and `learning`. It keeps no text: what it remembers are counts.

It doesn't know what an answer costs its caller's budget (policy), nor whether the answer was cached.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any

from edgewise.background import Background
from edgewise.chat import Answer, ChatRequest
from edgewise.clock import Clock, Deadline
from edgewise.errors import InvalidRequest, ModelNotFound, NotAllowed
from edgewise.routing import evidence, names
from edgewise.routing.ask import Ask, Candidate, Demand, demand_of
from edgewise.routing.breaker import Breakers
from edgewise.routing.calls import Calls
from edgewise.routing.catalog import Catalog
from edgewise.routing.complexity import question_of
from edgewise.routing.drive import MAX_RETRIES, MAX_WAIT_S, RESTING, Drive
from edgewise.routing.judging import SELVES
from edgewise.routing.knowing import PAIR, Knowing, Lengths
from edgewise.routing.names import Alias
from edgewise.routing.options import Options, parse
from edgewise.routing.rescue import Rescue, asked_for, distinct, may_use, usable, wanted
from edgewise.routing.retry_budget import RetryBudget
from edgewise.routing.scorer import ends
from edgewise.routing.shortlist import Judges, Shortlist
from edgewise.routing.strategies import BY_NAME
from edgewise.routing.tokens import Corrections
from edgewise.words import Attempt, Caller, Choice, Live, Model, Plan, Target

if TYPE_CHECKING:
    from edgewise.routing.learning import Learning
    from edgewise.routing.overrides import Overrides
    from edgewise.routing.pacing import Pacing
    from edgewise.routing.upkeep import Labels

ORDERED = frozenset({"fallback", "weighted", "least_busy", "sticky", "lowest_latency"})
"""Strategies for which the list of candidates is the operator's, not a market to pick from."""
MOST_SESSIONS = 2000
SESSION_CHARS = 128
"""What of a session's name counts: its client may make it as long as it likes."""
PROVED = frozenset({"hybrid", "learned"})
"""Strategies that keep a guarantee."""
NOBODY = (
    "No model is available here: no provider is set up. OPENAI_API_KEY, ANTHROPIC_API_KEY, EDGEWISE_BEDROCK, "
    "EDGEWISE_UPSTREAMS and EDGEWISE_LOCAL_MODEL each set one up, on the gateway's side."
)


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
    budget: RetryBudget | None = None
    max_retries: int = MAX_RETRIES
    max_wait_s: float = MAX_WAIT_S
    pacing: Pacing | None = None
    in_flight: dict[str, int] = field(default_factory=dict)
    table: Callable[[], Labels] | None = None
    """Where labels go and learned states come from; None keeps both in this process."""
    background: Background | None = None
    overrides: Overrides | None = None
    """Where the operator's later changes to the catalogue come from; None: nowhere."""
    _learning: Learning | None = None
    _sessions: OrderedDict[tuple[str, str], str] = field(default_factory=OrderedDict)
    """(tenant, session) to the model that answered it last, the longest silent first."""
    _shortlist: Shortlist = field(init=False)
    _rescue: Rescue = field(init=False)

    def __post_init__(self) -> None:
        self.breakers = self.breakers or Breakers(self.clock)
        self.budget = self.budget or RetryBudget(self.clock)
        self._shortlist = Shortlist(self.corrections, self.breakers)
        self._rescue = Rescue(self._named_models, self._twins, self.corrections)

    def resolve(self, request: ChatRequest, plan: Plan) -> Target:
        """What the requested name stands for. Raises `ModelNotFound`, `NotAllowed`, `InvalidRequest`."""
        if self.overrides is not None:
            self.overrides.refresh(self.catalog, self._take_in)
        asked, options = self._read(request, plan)
        # What the house prefers changes who answers `auto`, so it is part of the name that answers are kept under.
        routing = {**(self.defaults if asked.many else {}), **asked.routing, **plan.routing, **request.routing}
        if plan.prefer_cheap:
            routing["prefer"] = "cheap"
        kept = tuple(model for model in asked.models if wanted(model, options))
        if not kept:
            if not asked.models:
                raise ModelNotFound(NOBODY, param="model")
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
        if asked.many and (reference := options.guarantee.get("model")) is not None:
            asked = changed(asked, models=distinct([*asked.models, *self._named_models(reference)]))
        return asked, options

    def _twins(self, model: Model) -> tuple[Model, ...]:
        return self.catalog.twins(model)

    def _take_in(self, catalog: Catalog) -> None:
        """Another catalogue from now on; requests under way keep the models that they were resolved to."""
        self.catalog = catalog
        self._shortlist.forget()

    def _named_models(self, name: str) -> tuple[Model, ...]:
        return names.read(name, self.catalog, self.aliases).models

    async def choose(self, request: ChatRequest, plan: Plan, target: Target) -> Choice:
        """The plan of models for this request. Raises `InvalidRequest` when no candidate can take it."""
        asked, options = self._read(request, plan)
        if asked.many:
            self._refresh()
        ask = self.ask(request, target.models, asked, options, plan)
        name = options.strategy or (self.default_strategy if asked.market else "fallback")
        if options.guarantee and asked.many and name not in PROVED:
            # A promise that a key's owner was given is not undone by a strategy that a request names.
            name = "learned"
        choice = self._rescue.complete(BY_NAME[name](ask), ask, request, plan.models, capped=plan.capped)
        learns = options.shadow or options.guarantee or choice.strategy == "learned"
        return self.learning.mark(choice, ask, plan.tenant) if asked.many and learns else choice

    @property
    def learning(self) -> Learning:
        """What learns: imported and made when somebody first does, for a cold start would pay for it in vain."""
        if self._learning is None:
            from edgewise.routing.learning import Learning

            table = self.table() if self.table is not None else None
            parts = self.clock, self.knowing, self.corrections, self._named_models
            self._learning = Learning(*parts, table, self.background)
        return self._learning

    def _refresh(self) -> None:
        """Load what upkeep has learned, now and then, behind the request that notices."""
        if self._learning is not None:
            self._learning.refresh()
        elif self.table is not None and self.background is not None:
            self.background.spawn(self._begin())

    async def _begin(self) -> None:
        self.learning.refresh()

    def ask(
        self, request: ChatRequest, models: Sequence[Model], asked: names.Asked, options: Options, plan: Plan
    ) -> Ask:
        """Everything a strategy may know of this request. Pure but for what this process has seen."""
        capped = plan.capped or options.max_cost_usd is not None or options.dry_run
        demand = demand_of(request, bounded=capped)
        fitting = [m for m in models if demand.fits(m, self.corrections.factor(m.name, m.id))]
        if asked.many and not fitting:
            raise InvalidRequest("No candidate model can take this request (tools, images, schema or length).")
        # A model that the client named itself is asked even if the catalogue doubts it: the provider knows better.
        reading = self.knowing.read(question_of(request))
        in_order = options.strategy in ORDERED or not asked.market
        candidates = self._shortlist.candidates(fitting or models, demand, reading.difficulty, keep_order=in_order)
        candidates, reference = self._reference(candidates, models, asked, options, (demand, reading.difficulty))
        shadow_price = self._shadow_price(options, plan)
        kind = evidence.comparable(request)
        weak, strong = (candidate.model for candidate in ends(candidates, reference))
        gain, extra = self.knowing.says(reading, (weak, strong), options, plan.tenant, provable=kind is not None)
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
                "shadow_price": round(shadow_price, 3),
                "candidates": [c.model.name for c in candidates],
                **self._resting(models if in_order else ()),
                **{name: round(value, 3) for name, value in reading.counts.items()},
            },
            difficulty=reading.difficulty,
            gain=gain,
            window_lambda=shadow_price,
            uniform=self.clock.uniform,
            in_flight=self.in_flight,
            pinned=self._sessions.get(_session(plan.tenant, options.session)),
            comparable=kind,
            reference=reference,
            grader=self._shortlist.graders(self._judges(options, plan), demand),
            extra=extra,
        )

    def _resting(self, listed: Sequence[Model]) -> dict[str, list[str]]:
        """Which models of an operator's list are passed over because they fail."""
        assert self.breakers is not None
        found = [model.name for model in listed if self.breakers.is_open(model.name)]
        return {RESTING: found} if found else {}

    def _reference(
        self, candidates: tuple[Candidate, ...], models: Sequence[Model], asked: names.Asked, options: Options,
        at: tuple[Demand, float],
    ) -> tuple[tuple[Candidate, ...], Candidate | None]:  # fmt: skip
        """The model that a guarantee names, among the candidates. Raises `NotAllowed`, `ModelNotFound`."""
        named = options.guarantee.get("model") if asked.many else None
        if named is None:
            return candidates, None
        wanted = {model.name for model in self._named_models(str(named))}
        found = next((c for c in candidates if c.model.name in wanted), None)
        if found is not None:
            return candidates, found
        able = [model for model in models if model.name in wanted]
        if not able:
            raise NotAllowed(
                "The model of the guarantee may not be used here.", param="routing.guarantee", code="model_not_allowed"
            )
        (found,) = self._shortlist.candidates(able[:1], *at, keep_order=True)
        return (*candidates, found), found

    def _shadow_price(self, options: Options, plan: Plan) -> float:
        """What a dollar costs more while money is short, quality points: the house's, or the key's own."""
        house = self.pacing.price if self.pacing is not None else 0.0
        if not (options.pace and plan.paces):
            return house
        from edgewise.routing.pacing import dearest

        return max(house, dearest(plan.paces))

    def _judges(self, options: Options, plan: Plan) -> Judges:
        """Who grades answers. A judge that is not there, or not for this key, is no evidence, and fails no request."""
        if options.judge is None or options.judge in SELVES:
            return options.judge is not None
        try:
            found = self._named_models(options.judge)
        except ModelNotFound:
            return False
        # Who may ask `auto` may not name any model they like as a judge: what a request names must be its key's own.
        named = asked_for("judge", plan.request.routing)
        may = [
            m for m in found if names.allows(m, plan.models) or (not named and may_use(m, plan.request, plan.models))
        ]
        return may[0] if may else False

    async def carry_out(
        self, choice: Choice, request: ChatRequest, caller: Caller, deadline: Deadline, trail: list[Attempt]
    ) -> Live:
        """Ask the choice's models until one has answered. Raises the last `UpstreamError` when none has."""
        assert self.breakers is not None and self.budget is not None
        drive = Drive(
            choice,
            request,
            Calls(caller, trail, self.breakers, self.budget, self.in_flight),
            deadline,
            log_length=self.knowing.log_length,
            calibrated=self.knowing.calibrated,
            max_retries=self.max_retries,
            max_wait_s=self.max_wait_s,
        )
        return await drive.run()

    def follow_up(self, plan: Plan, choice: Choice, live: Live, request_id: str) -> Choice | None:
        """What is to be asked again of other models, behind the answer, to learn from; None: nothing."""
        return self.learning.follow_up(plan, choice, live, request_id) if PAIR in choice.features else None

    async def compare(
        self, shadow: Choice, plan: Plan, live: Live, caller: Caller, deadline: Deadline, trail: list[Attempt]
    ) -> None:
        """Ask a shadow's models and learn from what they say. Raises nothing that a provider does."""
        try:
            await self.learning.compare(shadow, plan, live, caller, deadline, trail)
        finally:
            self._spend(trail)

    def _spend(self, trail: list[Attempt]) -> None:
        if self.pacing is not None:
            self.pacing.spend(sum(float(attempt.cost_usd) for attempt in trail if attempt.cost_usd is not None))

    def observe(self, plan: Plan, choice: Choice, trail: list[Attempt], answer: Answer | None) -> None:
        """Take in a finished request: token counts and lengths by model, the session's model, what was spent."""
        estimated = int(choice.features.get("prompt_tokens") or 0)
        for attempt in trail:
            if attempt.error is None:
                self.corrections.learn(attempt.model.name, estimated, attempt.usage)
                self.knowing.lengths.setdefault(attempt.model.name, Lengths()).add(attempt.usage)
        self._spend(trail)
        session = _session(plan.tenant, plan.request.routing.get("session"))
        final = next((a for a in reversed(trail) if a.error is None and a.role in ("answer", "hedge")), None)
        if session[1] and final is not None and answer is not None:
            self._sessions[session] = final.model.name
            self._sessions.move_to_end(session)
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)


def _session(tenant: str, named: Any) -> tuple[str, str]:
    """A session's key: the same name of two tenants is two sessions. No name, no session."""
    return tenant, str(named or "")[:SESSION_CHARS]
