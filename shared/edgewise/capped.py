"""A caller for money that is capped: no model is asked for an answer of a length that nobody bounded.

What is held before a call is its worst case, so there must be one. Where neither the client nor the catalogue says how
long an answer may be, the request is sent with the bound that it was priced with (`words.longest_answer`). Anthropic's
and Bedrock's adapters always send one; OpenAI's interface has none unless it is asked for.
"""

from __future__ import annotations

from dataclasses import replace

from edgewise.chat import Answer, ChatRequest, Chunks
from edgewise.clock import Deadline
from edgewise.words import Attempt, Caller, Model, longest_answer


class Capped:
    """Implements `edgewise.words.Caller` around another."""

    __slots__ = ("_caller",)

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        return await self._caller.complete(model, bounded(model, request), deadline, trail)

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks:
        return await self._caller.stream(model, bounded(model, request), deadline, trail)


def bounded(model: Model, request: ChatRequest) -> ChatRequest:
    """`request` with a bound on its answer. OpenAI takes none beside a `prediction`, which bounds it by itself."""
    if request.output_limit is not None or request.body.get("prediction") is not None:
        return request
    return replace(request, body={**request.body, "max_completion_tokens": longest_answer(model)})
