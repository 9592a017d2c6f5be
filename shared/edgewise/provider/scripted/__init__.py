"""Scripted models: a provider that does exactly what it is told, for tests, demonstrations and load.

`recipe.py` is the language in which it is told, `reply.py` what it answers when told nothing, this file how the
answer is delivered: with latency, token by token, or breaking off at one of six points. It calls nobody and costs
what its price says (nothing, unless another is given). Time comes from the clock, so a test moves it by hand.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from edgewise.chat import Answer, Chunk, Usage, chunk, completion, usage_chunk
from edgewise.clock import Clock
from edgewise.errors import UpstreamDied, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from edgewise.price import Price
from edgewise.provider.port import Call, ChunkStream
from edgewise.provider.refusal import BROKEN, refused
from edgewise.provider.scripted.recipe import Recipe, read
from edgewise.provider.scripted.reply import Reply, ToolCall, prompt_tokens, reply
from edgewise.words import Model

NAME = "scripted"
FREE = Price(Decimal(0), Decimal(0))
_CAPABILITIES = frozenset(
    {"streaming", "tools", "parallel_tools", "vision", "json_schema", "json_object", "logprobs", "n", "seed"}
)
_ARGUMENT_CHARS = 12
_MOST_REMEMBERED = 10_000


class Scripted:
    """The scripted provider. Any model id is served; `echo`, `tool` and `json` are listed."""

    name = NAME

    def __init__(self, clock: Clock, price: Price | None = FREE) -> None:
        self._clock = clock
        self._price = price
        self._attempts: Counter[bytes] = Counter()

    def models(self) -> tuple[Model, ...]:
        return tuple(
            Model(
                NAME,
                kind,
                tier="tiny",
                context_tokens=1_000_000,
                output_tokens=100_000,
                capabilities=_CAPABILITIES,
                price=self._price,
                owned_by="edgewise",
            )
            for kind in ("echo", "tool", "json")
        )

    async def complete(self, call: Call) -> Answer:
        play = await self._play(call)
        if play.recipe.die is not None:
            raise UpstreamUnavailable("The script ends before the answer is whole.", code=BROKEN, status=502)
        await self._wait(call, play.recipe.token_ms * max(0, play.reply.completion_tokens - 1))
        return play.answer()

    async def stream(self, call: Call) -> ChunkStream:
        play = await self._play(call)
        die = play.recipe.die
        if die == "after-headers":
            raise UpstreamUnavailable("The script ends after the headers.", code=BROKEN, status=502)
        contents = 0
        for label, piece in play.chunks():
            contents += label == "content"
            if die == label or (die in ("mid-chunk", "after-content") and (contents == 2 or label == "before-finish")):
                raise UpstreamDied(f"The script ends at {die}.")
            if contents > 1 and play.recipe.token_ms:
                await self._wait(call, play.recipe.token_ms, begun=True)
            yield piece

    async def close(self) -> None:
        return None

    async def _play(self, call: Call) -> _Play:
        """The reply to be delivered, after its latency. Raises what the recipe says before the first byte."""
        recipe = read(call.model.id, call.body)
        if recipe.fails and recipe.times is not None and self._nth(call) > recipe.times:
            recipe = recipe.without_failure()
        await self._wait(call, recipe.latency_ms)
        if recipe.status is not None and recipe.status != 200:
            raise _failure(recipe)
        if recipe.die == "before-headers":
            raise UpstreamUnavailable("The script ends before the headers.")
        said = reply(call.model.id, recipe, call.body, call.stops, call.output_limit)
        return _Play(self._clock.token("chatcmpl-"), int(self._clock.now()), call, recipe, said)

    def _nth(self, call: Call) -> int:
        """How often this very request has been tried, this time included."""
        if len(self._attempts) > _MOST_REMEMBERED:
            self._attempts.clear()
        key = hashlib.sha256(repr((call.model.id, call.body)).encode()).digest()
        self._attempts[key] += 1
        return self._attempts[key]

    async def _wait(self, call: Call, wait_ms: float, *, begun: bool = False) -> None:
        if wait_ms <= 0:
            return
        left_s = call.deadline.left_s()
        await self._clock.sleep(max(0.0, min(wait_ms / 1000, left_s)))
        if wait_ms / 1000 > left_s:
            late = "The script takes longer than the deadline."
            raise UpstreamDied(late) if begun else UpstreamTimeout(late)


def _failure(recipe: Recipe) -> UpstreamError:
    status = recipe.status or 500
    told = {"message": recipe.message or f"The script fails with status {status}.", "code": recipe.code}
    return refused(status, told, recipe.retry_after_s)


class _Play:
    """One reply on stage: whole or in chunks, with the same id and time."""

    def __init__(self, id: str, created: int, call: Call, recipe: Recipe, said: Reply) -> None:
        self.id, self.created, self.call, self.recipe, self.reply = id, created, call, recipe, said
        self.model = call.model.id.partition("?")[0]
        self.number = int(call.body.get("n") or 1)

    def usage(self) -> Usage:
        told = self.recipe.prompt_tokens
        return Usage(
            prompt_tokens=prompt_tokens(self.call.body) if told is None else told,
            completion_tokens=self.reply.completion_tokens * self.number + self.recipe.reasoning_tokens,
            cached_tokens=self.recipe.cached_tokens,
            reasoning_tokens=self.recipe.reasoning_tokens,
        )

    def answer(self) -> Answer:
        said = self.reply
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(said.pieces) or None,
            "refusal": said.refusal,
        }
        if said.calls:
            message["tool_calls"] = [self._call(number, call, call.argument) for number, call in enumerate(said.calls)]
        elif said.refusal is None:
            message["content"] = message["content"] or ""
        choices = [
            {"index": index, "message": message, "logprobs": self._logprobs(said.pieces), "finish_reason": said.finish}
            for index in range(self.number)
        ]
        return Answer(completion(choices, id=self.id, created=self.created, model=self.model, usage=self.usage()))

    def chunks(self) -> Iterator[tuple[str, Chunk]]:
        """(label, chunk); a label that is a point of death falls just before its chunk."""
        for index in range(self.number):
            first = {"role": "assistant", "content": None if self.reply.calls else "", "refusal": None}
            yield "first", self._chunk(first, index)
        for piece in self.reply.pieces:
            for index in range(self.number):
                yield "content", self._chunk({"content": piece}, index, logprobs=self._logprobs((piece,)))
        if self.reply.refusal is not None:
            for index in range(self.number):
                yield "content", self._chunk({"refusal": self.reply.refusal}, index)
        for delta in self._call_deltas():
            for index in range(self.number):
                yield "content", self._chunk({"tool_calls": [delta]}, index)
        for index in range(self.number):
            yield "before-finish", self._chunk({}, index, finish=self.reply.finish)
        yield (
            "before-usage",
            usage_chunk(self.usage().wire(), id=self.id, created=self.created, model=self.model),
        )

    def _chunk(self, delta: dict[str, Any], index: int, *, finish: str | None = None, logprobs: Any = None) -> Chunk:
        made = chunk(delta, id=self.id, created=self.created, model=self.model, index=index, finish_reason=finish)
        if logprobs is not None:
            made["choices"][0]["logprobs"] = logprobs
        return made

    def _call(self, number: int, call: ToolCall, argument: str) -> dict[str, Any]:
        body = {"name": call.name, "input" if call.kind == "custom" else "arguments": argument}
        return {"id": f"call_{self.id.partition('-')[2]}_{number}", "type": call.kind, call.kind: body}

    def _call_deltas(self) -> Iterator[dict[str, Any]]:
        for number, call in enumerate(self.reply.calls):
            yield {"index": number, **self._call(number, call, "")}
            field = "input" if call.kind == "custom" else "arguments"
            for start in range(0, len(call.argument), _ARGUMENT_CHARS):
                yield {"index": number, call.kind: {field: call.argument[start : start + _ARGUMENT_CHARS]}}

    def _logprobs(self, pieces: tuple[str, ...]) -> dict[str, Any] | None:
        if not self.call.body.get("logprobs"):
            return None
        logprob = math.log(min(1.0, max(1e-9, self.recipe.confidence)))
        most = int(self.call.body.get("top_logprobs") or 0)
        content = []
        for piece in pieces:
            token = {"token": piece, "logprob": logprob, "bytes": list(piece.encode())}
            content.append({**token, "top_logprobs": [token] if most else []})
        return {"content": content, "refusal": None}
