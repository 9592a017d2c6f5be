"""Who may have a batch worked by a provider's own batch service: those whom nothing binds but the window.

A key with terms (budgets, limits, guards, a list of models) is held to them line by line, so its batches stay here;
so does a batch whose model is an alias with a choice in it, or has no batch price. What is left has one model at one
provider whose batch service the operator turned on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgewise.api.lines import Impersonate
from edgewise.chat import ChatRequest
from edgewise.errors import EdgewiseError
from edgewise.flow import Rooms
from edgewise.jobs.batch import Batch
from edgewise.jobs.remote import Offer, ProviderBatch
from edgewise.words import Plan

ENDPOINTS = ("/v1/chat/completions", "/v1/responses")


class Admission:
    """`remote.Admit`. `services` maps a provider's name to its batch service."""

    def __init__(
        self, rooms: Callable[[], Rooms], impersonate: Impersonate, services: Mapping[str, ProviderBatch]
    ) -> None:
        self._rooms = rooms
        self._impersonate = impersonate
        self._services = services

    async def __call__(self, batch: Batch) -> Offer | None:
        if batch.endpoint not in ENDPOINTS or batch.model is None:
            return None
        try:
            caller = await self._impersonate(batch.tenant, batch.key_id, batch.endpoint)
            if caller.settings:
                return None
            request = ChatRequest({"model": batch.model, "messages": []})
            target = self._rooms().router.resolve(request, Plan(caller, request))
        except EdgewiseError:
            # Each line then says for itself what is wrong.
            return None
        if len(target.models) != 1 or target.strategy is not None:
            return None
        (model,) = target.models
        service, price = self._services.get(model.provider), model.price
        if service is None or price is None or price.batch_input is None or price.batch_output is None:
            return None
        return Offer(service, model.id, price)
