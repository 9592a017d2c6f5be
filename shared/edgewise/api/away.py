"""Who may have a batch worked by a provider's own batch service: those whom nothing binds but the window and money.

A key that is bound (by limits, guards, routing) is held to its terms line by line, so its batches stay here; so does a
batch whose model is an alias with a choice in it, or whose batch price nobody knows. What is left has one model at one
provider whose batch service the operator turned on. Where budgets bind the caller, the most that the batch can cost is
held in them, if that leaves requests the rest that is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

from edgewise.api import chat
from edgewise.api.door import Knock
from edgewise.chat import ChatRequest
from edgewise.errors import EdgewiseError, QuotaExceeded, Unavailable
from edgewise.jobs.batch import WINDOW_S, Batch
from edgewise.jobs.offer import Offer, ProviderBatch
from edgewise.price import BATCH, Price
from edgewise.rooms import Rooms
from edgewise.routing.ask import demand_of, price
from edgewise.routing.tokens import Corrections
from edgewise.words import Credentials, Model, Plan, Principal, Usd, longest_answer

CHAT = "/v1/chat/completions"
"""Whose lines the most is known of that they can cost."""


class Callers(Protocol):
    """What policy says of those who submit batches."""

    async def impersonate(self, tenant: str, key_id: str, route: str) -> Principal: ...
    def is_bound(self, principal: Principal) -> bool: ...
    def is_capped(self, principal: Principal) -> bool: ...
    async def hold(self, principal: Principal, model: Model, usd: Usd, *, name: str, until: float, share: float) -> str:
        """Raises QuotaExceeded, Unavailable."""
        ...


class Admission:
    """`offer.Admit`. `services` maps a provider's name to its batch service; `share` is the part of a budget that
    batches may hold."""

    def __init__(
        self, rooms: Callable[[], Rooms], callers: Callers, services: Mapping[str, ProviderBatch], share: float = 1.0
    ) -> None:
        self._rooms = rooms
        self._callers = callers
        self._services = services
        self._share = share

    async def __call__(self, batch: Batch) -> Offer | None:
        if batch.model is None:
            return None
        try:
            caller = await self._callers.impersonate(batch.tenant, batch.key_id, batch.endpoint)
            if self._callers.is_bound(caller):
                return None
            request = ChatRequest({"model": batch.model, "messages": []})
            plan = Plan(caller, request, models=caller.settings.get("models", ("*",)))
            target = self._rooms().router.resolve(request, plan)
        except Unavailable:
            raise
        except EdgewiseError:
            # Each line then says for itself what is wrong.
            return None
        if len(target.models) != 1 or target.strategy is not None:
            return None
        (model,) = target.models
        service = self._services.get(model.provider)
        if service is None or batch.endpoint not in service.endpoints:
            return None
        there = at_batch_price(model.price, service.share)
        if there is None or not self._callers.is_capped(caller):
            return Offer(service, model, there) if there is not None else None
        if batch.endpoint != CHAT:
            return None
        account = _Account(self._callers, caller, batch, replace(model, price=there), self._share)
        return Offer(service, model, there, account, longest_answer(model))


@dataclass(frozen=True, slots=True)
class _Account:
    """`offer.Account` of one batch. The model has its price in a batch."""

    callers: Callers
    caller: Principal
    batch: Batch
    model: Model
    share: float

    def most_usd(self, body: Mapping[str, Any]) -> Usd | None:
        try:
            request = chat.parse(dict(body), Knock(Credentials(None, CHAT), {}, {}))
        except EdgewiseError:
            return None
        return price(self.model, demand_of(request), Corrections())[1]

    async def hold(self, usd: Usd) -> str | None:
        # Upkeep fetches it within minutes of its end; what nobody has fetched by then comes back.
        until = self.batch.expires_at + WINDOW_S
        try:
            return await self.callers.hold(
                self.caller, self.model, usd, name=self.batch.id, until=until, share=self.share
            )
        except QuotaExceeded:
            return None


def at_batch_price(price: Price | None, share: Decimal | None) -> Price | None:
    """The batch price of what costs `price`: the listed one, or `share` of the usual; None when it is not known."""
    if price is None:
        return None
    if BATCH in price.tiers or share is None:
        return price.tiers.get(BATCH)
    above = price.above
    if above is not None and (dearer := at_batch_price(above[1], share)) is not None:
        above = (above[0], dearer)
    return Price(price.input * share, price.output * share, request=price.request, above=above)
