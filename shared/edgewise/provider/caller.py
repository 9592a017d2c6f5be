"""Calls one model: tries again while that can help, and writes down every try.

A try is repeated only before its first chunk has been handed on, only for failures that say another attempt may help
(`retryable`), only while the retry budget allows it, and only if what is left of the deadline is enough for the wait
and for an attempt after it. The wait is full jitter, uniform between 0 and min(cap, base·2ⁿ), on top of the provider's
own Retry-After; a Retry-After longer than one would wait for is passed to the client instead.

Every try ends in the trail with its time, usage and cost. A provider that refuses or cannot be reached charges
nothing: 0. A try that broke off after the provider had begun has a cost that nobody knows: None. Other models are not
this module's affair, nor is what a failure means for the health of a provider.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter"; Google SRE book, "Handling Overload" (retry budgets).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypeVar

from edgewise.chat import Answer, ChatRequest, Chunk, Chunks, Usage
from edgewise.clock import Clock, Deadline
from edgewise.errors import ModelNotFound, UpstreamDied, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from edgewise.provider.budget import RetryShare
from edgewise.provider.port import Call, Provider
from edgewise.provider.refusal import BROKEN
from edgewise.words import Attempt, Model, Usd

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often to try. Times in seconds.

    base_s, cap_s   of the jittered wait              max_wait_s     the longest Retry-After that is waited for
    min_attempt_s   an attempt with less time than this before the deadline is not begun
    """

    max_retries: int = 2
    base_s: float = 0.5
    cap_s: float = 8.0
    max_wait_s: float = 20.0
    min_attempt_s: float = 0.25


class RetryBudget(Protocol):
    """Whether one more retry is affordable, over all requests: told of each first try, asked once for each retry
    that would be made."""

    def began(self) -> None: ...
    def allow(self) -> bool: ...


class Caller:
    """`edgewise.flow.Caller` over providers by name."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        clock: Clock,
        patience: Patience | None = None,
        budget: RetryBudget | None = None,
    ) -> None:
        self._providers = providers
        self._clock = clock
        self._patience = patience or Patience()
        self._budget = budget or RetryShare(clock)

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        """The whole answer. Raises `UpstreamError`, the last try's; `ModelNotFound` for an unknown provider."""
        provider, call = self._provider(model), Call.of(model, request, deadline)

        async def once() -> Answer:
            tried = _Try(self._clock, model, trail)
            try:
                answer = await provider.complete(call)
            except BaseException as error:
                tried.failed(error)
                raise
            tried.succeeded(answer.usage)
            return answer

        return await self._tried(call, once)

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks:
        """The chunks, when the first has arrived. Raises like `complete` until then; the iterator raises
        `UpstreamDied`. Closing the iterator (`aclose`) ends the call upstream and records the try."""
        provider, call = self._provider(model), Call.of(model, request, deadline)

        async def once() -> AsyncGenerator[Chunk, None]:
            chunks = self._followed(provider, call, trail)
            await anext(chunks)
            return chunks

        return await self._tried(call, once)

    async def _followed(self, provider: Provider, call: Call, trail: list[Attempt]) -> AsyncGenerator[Chunk, None]:
        """Yields an empty chunk once the first real one is there, so that a stream that is given up before it is
        read still runs its `finally`; then the real ones."""
        tried = _Try(self._clock, call.model, trail)
        source = provider.stream(call)
        usage = None
        try:
            piece = await anext(source, None)
            if piece is None:
                raise UpstreamUnavailable("The provider sent an empty stream.", code=BROKEN, status=502)
            tried.first()
            yield {}
            usage = piece.get("usage")
            yield piece
            async for piece in source:
                if piece.get("usage"):
                    usage = piece["usage"]
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
            tried.succeeded(Usage.of(usage))
        finally:
            await source.aclose()

    def _provider(self, model: Model) -> Provider:
        provider = self._providers.get(model.provider)
        if provider is None:
            raise ModelNotFound(f"No provider {model.provider!r} is configured here.", param="model")
        return provider

    async def _tried(self, call: Call, once: Callable[[], Awaitable[T]]) -> T:
        retries = 0
        self._budget.began()
        while True:
            if call.deadline.left_s() < self._patience.min_attempt_s:
                raise UpstreamTimeout("No time is left for an attempt before this request's deadline.")
            try:
                return await once()
            except UpstreamError as error:
                wait_s = self._wait_s(call, error, retries)
                if wait_s is None:
                    raise
            await self._clock.sleep(wait_s)
            retries += 1

    def _wait_s(self, call: Call, error: UpstreamError, retries: int) -> float | None:
        """Seconds to wait before the next try; None when there shall be none."""
        patience = self._patience
        if not error.retryable or retries >= patience.max_retries:
            return None
        told_s: float = getattr(error, "retry_after_s", None) or 0.0
        if told_s > patience.max_wait_s:
            return None
        wait_s: float = told_s + self._clock.uniform() * min(patience.cap_s, patience.base_s * 2**retries)
        needed_s = max(patience.min_attempt_s, (call.model.latency_ms or 0.0) / 1000)
        if call.deadline.left_s() - wait_s < needed_s or not self._budget.allow():
            return None
        return wait_s


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

    def succeeded(self, usage: Usage | None) -> None:
        price = self._model.price
        cost = price.cost(usage) if price is not None and usage is not None else None
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


def charged(error: UpstreamError | None) -> Usd | None:
    """0 for an attempt that the provider turned away; None (unknown) once it may have begun to work."""
    if error is None or error.code == BROKEN or isinstance(error, UpstreamDied | UpstreamTimeout):
        return None
    return Decimal(0)
