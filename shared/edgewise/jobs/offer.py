"""What a provider's batch service is asked, and the terms on which a batch goes there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from edgewise.chat import Usage
from edgewise.jobs.batch import Batch
from edgewise.price import Price, price_of
from edgewise.words import Model, Usd

RemoteState = Literal["working", "ended"]


class ProviderBatch(Protocol):
    """A provider's batch service. Every call may raise `UpstreamRefused` or `UpstreamUnavailable`.

    endpoints  the routes whose lines it takes
    share      what it costs of the usual price, for a model whose batch price is not listed; None: nobody knows
    """

    @property
    def endpoints(self) -> frozenset[str]: ...
    @property
    def share(self) -> Decimal | None: ...

    async def find(self, batch_id: str) -> str | None:
        """The provider's id of a batch that was submitted for ours."""
        ...

    async def submit(self, batch_id: str, endpoint: str, model: Model, lines: AsyncIterator[bytes]) -> str:
        """Lines of a batch file whose model is `model.id`; the provider's id of its batch."""
        ...

    async def poll(self, id: str) -> RemoteState: ...
    def collect(self, id: str, model: Model) -> AsyncIterator[Mapping[str, Any]]:
        """Lines of its output, in OpenAI's shape; only those that were answered."""
        ...

    async def cancel(self, id: str) -> None:
        """Have it stop; it has when `poll` says so."""
        ...


class Account(Protocol):
    """The money of a caller whom budgets bind."""

    def most_usd(self, body: Mapping[str, Any]) -> Usd | None:
        """The most that a line can cost in a batch, its answer bounded by `Offer.longest`; None when nobody knows."""
        ...

    async def hold(self, usd: Usd) -> str | None:
        """Hold this much for a batch, however often it is asked; what settles it, '' where no budget has to do with it,
        None where there is no room. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """The provider's batch service for one batch, the model there, and its price in a batch.

    account  where it must be held for; None: nobody's money is bounded
    longest  tokens that an answer may have where its line bounds none; None: as many as it takes
    """

    service: ProviderBatch
    model: Model
    price: Price
    account: Account | None = None
    longest: int | None = None

    def noted(self) -> dict[str, Any]:
        """What is to be known of it for as long as the batch is away."""
        model = [self.model.provider, self.model.id]
        return {"model": model, "price": self.price.row(), "longest": self.longest}

    @classmethod
    def of(cls, noted: Mapping[str, Any], services: Mapping[str, ProviderBatch]) -> Offer | None:
        """What a batch went away on, whatever has changed here since; None when its provider cannot be asked."""
        provider, model_id = noted["model"]
        service, longest = services.get(provider), noted["longest"]
        if service is None:
            return None
        longest = int(longest) if longest is not None else None
        return cls(service, Model(provider, model_id), price_of(noted["price"]), longest=longest)


Admit = Callable[[Batch], Awaitable[Offer | None]]
"""Whether this batch may go to a provider's batch service, and to which. None: line by line."""


def _chat_usage(usage: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Usage in chat's words; a response says input and output."""
    if not usage or "input_tokens" not in usage:
        return usage
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage.get("output_tokens", 0),
        "prompt_tokens_details": usage.get("input_tokens_details"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }


def cost_of(price: Price, body: Mapping[str, Any]) -> Decimal | None:
    """What an answer costs at the batch price; None when it does not tell its usage."""
    usage = Usage.of(_chat_usage(body.get("usage")))
    return price.cost(usage) if usage is not None else None
