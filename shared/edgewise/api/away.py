"""Who may have a batch worked by a provider's own batch service: those whom nothing binds but the window.

A key that is bound (by budgets, limits, guards) is held to its terms line by line, so its batches stay here;
so does a batch whose model is an alias with a choice in it, or whose batch price nobody knows. What is left has one
model at one provider whose batch service the operator turned on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from edgewise.api.lines import Impersonate
from edgewise.chat import ChatRequest
from edgewise.errors import EdgewiseError, Unavailable
from edgewise.jobs.batch import Batch
from edgewise.jobs.remote import Offer, ProviderBatch
from edgewise.price import BATCH, Price
from edgewise.rooms import Rooms
from edgewise.words import Plan, Principal


class Admission:
    """`remote.Admit`. `services` maps a provider's name to its batch service; `is_bound` is policy's word."""

    def __init__(
        self,
        rooms: Callable[[], Rooms],
        impersonate: Impersonate,
        is_bound: Callable[[Principal], bool],
        services: Mapping[str, ProviderBatch],
    ) -> None:
        self._rooms = rooms
        self._impersonate = impersonate
        self._is_bound = is_bound
        self._services = services

    async def __call__(self, batch: Batch) -> Offer | None:
        if batch.model is None:
            return None
        try:
            caller = await self._impersonate(batch.tenant, batch.key_id, batch.endpoint)
            if self._is_bound(caller):
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
        price = at_batch_price(model.price, service.share)
        return Offer(service, model, price) if price is not None else None


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
