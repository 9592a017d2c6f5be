"""Who steps in when a choice fails: whether this caller may use them, and what that may cost at most.

What a client names itself must be allowed to it, or the request is refused; what the operator's lists, or the same
model at another provider, would bring is left out where the caller may not use it. A model that was not among the
candidates is priced here, so that what policy holds covers it; one of unknown price makes the whole choice unknown,
unless it is only a twin, or of an operator's list under a budget: these are then left out. What nobody may ask is not
held for.

It doesn't know when who steps in: that is the drive's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from decimal import Decimal
from typing import Any

from edgewise.chat import ChatRequest
from edgewise.errors import NotAllowed
from edgewise.routing import names
from edgewise.routing.ask import Ask, price, total
from edgewise.routing.options import NOTHING_ASKED, Options
from edgewise.routing.tokens import Corrections
from edgewise.words import Choice, Model, Usd

Allowed = Sequence[str]


@dataclass(frozen=True, slots=True)
class Rescue:
    """Completes choices. `named` are the models behind a name, `twins` the same model at other providers."""

    named: Callable[[str], tuple[Model, ...]]
    twins: Callable[[Model], tuple[Model, ...]]
    corrections: Corrections

    def complete(
        self, choice: Choice, ask: Ask, request: ChatRequest, allowed: Allowed, *, capped: bool = False
    ) -> Choice:
        """`choice`, whose worst case is that of its steps, with all who may step in and what they may cost.

        capped  whether money is held for it        Raises `NotAllowed`.
        """
        options = ask.options

        def of(option: str, listed: Iterable[str]) -> tuple[Model, ...]:
            models = distinct(model for name in listed for model in self.named(name))
            return usable(models, option, request, allowed)

        fallbacks = choice.fallbacks
        if options.fallbacks:
            fallbacks = tuple(m for m in of("fallbacks", options.fallbacks) if ask.demand.fits(m))
        elif options.allow_fallbacks is False:
            fallbacks = ()
        elif not ask.many:
            fallbacks = distinct([*(c.model for c in ask.candidates[1:]), *self._twins(choice, ask, request, allowed)])
        if capped and not options.fallbacks and choice.worst_usd is not None:
            fallbacks = tuple(model for model in fallbacks if model.price is not None)
        on_context = of("context_fallbacks", options.context_fallbacks)
        on_content = of("content_fallbacks", options.content_fallbacks)
        if options is NOTHING_ASKED and fallbacks == choice.fallbacks == ():
            return choice
        return changed(
            choice,
            fallbacks=fallbacks,
            on_context=on_context,
            on_content=on_content,
            max_attempts=options.max_attempts,
            hedge=options.hedge,
            worst_usd=self._worst(choice, ask, [*fallbacks, *on_context], on_content),
        )

    def _twins(self, choice: Choice, ask: Ask, request: ChatRequest, allowed: Allowed) -> list[Model]:
        found = [t for c in ask.candidates for t in self.twins(c.model)]
        return [
            twin
            for twin in found
            if ask.demand.fits(twin)
            and wanted(twin, ask.options)
            and may_use(twin, request, allowed)
            and (twin.price is not None or choice.worst_usd is None)
        ]

    def _worst(self, choice: Choice, ask: Ask, instead: Sequence[Model], beside: Sequence[Model]) -> Usd | None:
        """The dearest way it can end. A call that fails costs nothing or is all that is paid, so one of `instead` takes
        the last step's place; a hedge is paid as well, and so is every answer that a filter cut before one of `beside`
        was asked."""
        known = {c.model.name: c.worst_usd for c in ask.candidates}
        known |= {m.name: price(m, ask.demand, self.corrections)[1] for m in (*instead, *beside) if m.name not in known}
        last = total([known[m.name] for m in choice.steps[-1].models])
        dearest = largest([known[m.name] for m in instead])
        answered = largest([last, dearest])
        if choice.worst_usd is None or last is None or answered is None:
            return None
        hedge = dearest if ask.options.hedge else Decimal(0)
        return total([choice.worst_usd - last, answered, hedge, *(known[m.name] for m in beside)])


def largest(parts: Sequence[Usd | None]) -> Usd | None:
    """The largest, 0 of none; None when a part is unknown."""
    return None if any(part is None for part in parts) else max((p for p in parts if p is not None), default=Decimal(0))


def usable(models: tuple[Model, ...], option: str, request: ChatRequest, allowed: Allowed) -> tuple[Model, ...]:
    """Those of `models` that the caller may use. Raises `NotAllowed` when the request itself asks for another."""
    if "*" in allowed:
        return models
    asked = asked_for(option, request.routing)
    kept = tuple(m for m in models if (names.allows(m, allowed) if asked else may_use(m, request, allowed)))
    if asked and len(kept) < len(models):
        raise NotAllowed(
            "This key may not use every model that is named here.", param=f"routing.{option}", code="model_not_allowed"
        )
    return kept


def may_use(model: Model, request: ChatRequest, allowed: Allowed) -> bool:
    """By its own name, or because the caller may use the operator's name that was asked for."""
    return names.allows(model, allowed) or request.model in allowed


def asked_for(option: str, routing: Mapping[str, Any]) -> bool:
    return any(str(name).replace("-", "_") == option and value for name, value in routing.items())


def wanted(model: Model, options: Options) -> bool:
    """What `only` and `ignore` leave."""
    return (not options.only or model.provider in options.only) and model.provider not in options.ignore


def distinct(models: Iterable[Model]) -> tuple[Model, ...]:
    """`models` without repetitions, by name, in order."""
    return tuple({model.name: model for model in models}.values())
