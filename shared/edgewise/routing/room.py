"""The routing room: which model, in what order, and why.

Resolves a requested name to candidates, prices them for this request, lets a strategy choose, and carries the choice
out. It keeps no text: what it remembers of a request are counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

from edgewise.chat import Answer, ChatRequest
from edgewise.clock import Clock, Deadline
from edgewise.errors import InvalidRequest, ModelNotFound
from edgewise.routing import names
from edgewise.routing.ask import USUAL_OUTPUT_TOKENS, Ask, Candidate, Demand, demand_of, price
from edgewise.routing.catalog import Catalog
from edgewise.routing.drive import Drive
from edgewise.routing.health import Health, LocalHealth
from edgewise.routing.names import Alias
from edgewise.routing.options import Options, parse
from edgewise.routing.strategies import fallback, simple
from edgewise.routing.tokens import Corrections
from edgewise.words import Attempt, Caller, Choice, Live, Model, Plan, Target

Strategy = Callable[[Ask], Choice]
STRATEGIES: dict[str, Strategy] = {"simple": simple.choose, "fallback": fallback.choose}


@dataclass(slots=True)
class Room:
    """Implements `flow.Router`. `defaults` are routing options of the house, under everybody else's."""

    catalog: Catalog
    clock: Clock
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    default_strategy: str = "simple"
    health: Health | None = None
    corrections: Corrections = field(default_factory=Corrections)
    in_flight: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.health is None:
            self.health = LocalHealth(self.clock)

    def resolve(self, request: ChatRequest, plan: Plan) -> Target:
        """What the requested name stands for. Raises `ModelNotFound`, `NotAllowed`, `InvalidRequest`."""
        asked, options = self._read(request, plan)
        routing = {**asked.routing, **plan.routing, **request.routing}
        if plan.prefer_cheap:
            routing["prefer"] = "cheap"
        if options.models:
            models = [model for name in options.models for model in names.read(name, self.catalog, self.aliases).models]
            asked = changed(asked, models=distinct(models), many=True)
        kept = tuple(m for m in asked.models if _wanted(m, options))
        if not kept:
            raise ModelNotFound("No model is left after `only` and `ignore`.", param="routing")
        return names.target_of(
            changed(asked, models=kept), plan.models, routing, answers_from=self.catalog.version if asked.many else ""
        )

    def _read(self, request: ChatRequest, plan: Plan) -> tuple[names.Asked, Options]:
        if not request.model:
            raise InvalidRequest("A model is required.", param="model")
        asked = names.read(request.model, self.catalog, self.aliases)
        layers: list[Mapping[str, Any]] = [self.defaults, asked.routing, plan.routing, request.routing]
        if plan.prefer_cheap:
            layers.append({"prefer": "cheap"})
        return asked, parse(*layers)

    async def choose(self, request: ChatRequest, plan: Plan, target: Target) -> Choice:
        """The plan of models for this request. Raises `InvalidRequest` when no candidate can take it."""
        asked, options = self._read(request, plan)
        many = asked.many or bool(options.models)
        demand = demand_of(request)
        fitting = [m for m in target.models if demand.fits(m, self.corrections.factor(m.name, m.id))]
        if many and not fitting:
            raise InvalidRequest("No candidate model can take this request (tools, images, schema or length).")
        # A model that the client named itself is asked even if the catalogue doubts it: the provider knows better.
        models = fitting or list(target.models)
        ask = Ask(
            demand=demand,
            candidates=tuple(self._candidate(model, demand) for model in models),
            options=options,
            many=many,
            features={"prompt_tokens": demand.prompt_tokens},
            in_flight=self.in_flight,
            uniform=self.clock.uniform,
        )
        name = options.strategy or (self.default_strategy if many else "fallback")
        choice = STRATEGIES.get(name, simple.choose)(ask)
        return self._with_fallbacks(choice, ask)

    def _candidate(self, model: Model, demand: Demand) -> Candidate:
        expected, worst = price(model, demand, self.corrections, USUAL_OUTPUT_TOKENS)
        quality = model.quality if model.quality is not None else 0.7
        return Candidate(model, expected, worst, model.latency_ms or 3000.0, quality)

    def _with_fallbacks(self, choice: Choice, ask: Ask) -> Choice:
        """Who steps in: the request's own list, else the strategy's; for one named model only its twins."""
        options = ask.options
        if options.fallbacks:
            return changed(choice, fallbacks=self._named(options.fallbacks, ask.demand))
        if not ask.many:
            twins = [t for m in ask.candidates for t in self.catalog.twins(m.model) if ask.demand.fits(t)]
            own = [c.model for c in ask.candidates[1:]]
            found = distinct([*own, *twins])
            return changed(choice, fallbacks=found if options.allow_fallbacks is not False else ())
        return changed(choice, fallbacks=()) if options.allow_fallbacks is False else choice

    def _named(self, wanted: Sequence[str], demand: Demand) -> tuple[Model, ...]:
        found = [model for name in wanted for model in names.read(name, self.catalog, self.aliases).models]
        return distinct(model for model in found if demand.fits(model))

    async def carry_out(
        self, choice: Choice, request: ChatRequest, caller: Caller, deadline: Deadline, trail: list[Attempt]
    ) -> Live:
        """Ask the choice's models until one has answered. Raises the last `UpstreamError` when none has."""
        assert self.health is not None
        options = parse(self.defaults, request.routing)
        drive = Drive(
            choice,
            request,
            caller,
            deadline,
            trail,
            self.health,
            on_context=self._named(options.context_fallbacks, demand_of(request)) if options.context_fallbacks else (),
            on_content=self._named(options.content_fallbacks, demand_of(request)) if options.content_fallbacks else (),
            max_attempts=options.max_attempts,
        )
        return await drive.run()

    def observe(
        self,
        request: ChatRequest,  # noqa: ARG002
        choice: Choice,
        trail: list[Attempt],
        answer: Answer | None,  # noqa: ARG002
    ) -> None:
        """Learn from a finished request: token counts per model."""
        estimated = int(choice.features.get("prompt_tokens", 0)) if choice.features else 0
        for attempt in trail:
            if attempt.error is None:
                self.corrections.learn(attempt.model.name, estimated, attempt.usage)


def distinct(models: Iterable[Model]) -> tuple[Model, ...]:
    """`models` without repetitions, by name, in order."""
    return tuple({model.name: model for model in models}.values())


def _wanted(model: Model, options: Options) -> bool:
    return (not options.only or model.provider in options.only) and model.provider not in options.ignore
