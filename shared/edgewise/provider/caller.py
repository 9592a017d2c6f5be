"""Calls one model, once, and writes down how it went.

Every call ends in the trail with its time, usage and cost. A provider that refuses or cannot be reached charges
nothing: 0. A call that broke off after the provider had begun has a cost that nobody knows: None. Whether to ask again
or somebody else, and what a failure means for the health of a provider, is the router's affair: two layers that both
try again multiply.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from decimal import Decimal
from typing import Any

from edgewise.chat import Answer, ChatRequest, Chunk, Chunks, Usage, begun
from edgewise.clock import Clock, Deadline
from edgewise.errors import ModelNotFound, UpstreamDied, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from edgewise.price import Price, tier_asked
from edgewise.provider.port import Call, Provider
from edgewise.provider.refusal import BROKEN
from edgewise.words import Attempt, Model, Usd

LEAST_S = 0.25
"""A call with less time than this before its deadline is not begun."""


class Caller:
    """`edgewise.words.Caller` over providers by name."""

    def __init__(self, providers: Mapping[str, Provider], clock: Clock) -> None:
        self._providers = providers
        self._clock = clock

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        """The whole answer. Raises `UpstreamError`; `ModelNotFound` for an unknown provider."""
        provider, call = self._begin(model, request, deadline)
        tried = _Try(self._clock, model, trail)
        try:
            answer = await provider.complete(call)
        except BaseException as error:
            tried.failed(error)
            raise
        tried.succeeded(answer.usage, answer.completion.get("service_tier"), call.body)
        return answer

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks:
        """The chunks, when the first has arrived. Raises like `complete` until then; the iterator raises
        `UpstreamDied`. Closing the iterator (`aclose`) ends the call upstream and records it."""
        provider, call = self._begin(model, request, deadline)
        return await begun(self._followed(provider, call, trail))

    async def _followed(self, provider: Provider, call: Call, trail: list[Attempt]) -> AsyncGenerator[Chunk, None]:
        """Yields an empty chunk once the first real one is there, so that a stream that is given up before it is
        read still runs its `finally`; then the real ones."""
        tried = _Try(self._clock, call.model, trail)
        source = provider.stream(call)
        usage = tier = None
        try:
            piece = await anext(source, None)
            if piece is None:
                raise UpstreamUnavailable("The provider sent an empty stream.", code=BROKEN, status=502)
            tried.first()
            yield {}
            usage, tier = piece.get("usage"), piece.get("service_tier")
            yield piece
            async for piece in source:
                if piece.get("usage"):
                    usage = piece["usage"]
                tier = piece.get("service_tier") or tier
                yield piece
        except UpstreamError as error:
            died = error
            if tried.first_ms is not None and not isinstance(error, UpstreamDied):
                died = UpstreamDied(error.message, code=error.code)
            tried.failed(died)
            if died is error:
                raise
            raise died from error
        except BaseException as error:
            # The client has gone away, or the function is being stopped.
            tried.failed(error)
            raise
        else:
            tried.succeeded(Usage.of(usage), tier, call.body)
        finally:
            await source.aclose()

    def _begin(self, model: Model, request: ChatRequest, deadline: Deadline) -> tuple[Provider, Call]:
        provider = self._providers.get(model.provider)
        if provider is None:
            raise ModelNotFound(f"No provider {model.provider!r} is configured here.", param="model")
        if deadline.left_s() < LEAST_S:
            raise UpstreamTimeout("No time is left for an attempt before this request's deadline.")
        return provider, Call.of(model, request, deadline)


class _Try:
    """One attempt being timed."""

    __slots__ = ("_clock", "_model", "_started", "_trail", "first_ms")

    def __init__(self, clock: Clock, model: Model, trail: list[Attempt]) -> None:
        self._clock, self._model, self._trail = clock, model, trail
        self._started = clock.tick()
        self.first_ms: float | None = None

    def _elapsed_ms(self) -> float:
        return (self._clock.tick() - self._started) * 1000

    def first(self) -> None:
        self.first_ms = self._elapsed_ms()

    def succeeded(self, usage: Usage | None, tier: Any, body: Mapping[str, Any]) -> None:
        """`tier` is what the provider says that it served."""
        price = self._model.price
        cost = cost_of(price, usage, tier, body) if price is not None and usage is not None else None
        self._trail.append(
            Attempt(self._model, latency_ms=self._elapsed_ms(), first_ms=self.first_ms, usage=usage, cost_usd=cost)
        )

    def failed(self, error: BaseException) -> None:
        upstream = error if isinstance(error, UpstreamError) else None
        # Anything else is the client leaving (a cancelled task, a closed stream) or a mistake of ours.
        status, word = (500, "internal") if isinstance(error, Exception) else (499, "cancelled")
        self._trail.append(
            Attempt(
                self._model,
                status=upstream.status if upstream else status,
                error=(upstream.code or upstream.type) if upstream else word,
                latency_ms=self._elapsed_ms(),
                first_ms=self.first_ms,
                cost_usd=charged(upstream),
            )
        )


def cost_of(price: Price, usage: Usage, tier: Any, body: Mapping[str, Any]) -> Usd:
    """What a call cost that was served in `tier`; in what was asked or as usual, whichever is dearer, where the
    provider does not say."""
    if tier:
        return price.cost(usage, str(tier))
    asked = tier_asked(body)
    return max(price.cost(usage), price.cost(usage, asked)) if asked else price.cost(usage)


def charged(error: UpstreamError | None) -> Usd | None:
    """0 for an attempt that the provider turned away; None (unknown) once it may have begun to work."""
    if error is None or error.code == BROKEN or isinstance(error, UpstreamDied | UpstreamTimeout):
        return None
    return Decimal(0)
