"""What every provider promises, run against each of them.

An adapter's test module subclasses `ProviderContract` and gives a `rig` fixture: its provider, and a way to arrange
what the other side will do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from edgewise.chat import Answer, Chunk, Folding
from edgewise.clock import Deadline, SystemClock
from edgewise.errors import (
    UpstreamDied,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from edgewise.provider.port import Call, Provider
from edgewise.words import Model
from tests.upstream import CUTS, Manner, Upstream

CLOCK = SystemClock()
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


class Rig(Protocol):
    """One provider under test. `arrange` sets what happens to the next call and gives what its body must say."""

    provider: Provider
    model: Model

    def arrange(self, manner: Manner) -> dict[str, Any]: ...
    async def ended_early(self) -> None:
        """Return when the other side has noticed that its caller left."""
        ...


@dataclass
class OverUpstream:
    """A rig over the loopback upstream."""

    provider: Provider
    model: Model
    upstream: Upstream
    extra: dict[str, Any] = field(default_factory=dict)

    def arrange(self, manner: Manner) -> dict[str, Any]:
        self.upstream.behave(manner)
        return self.extra

    async def ended_early(self) -> None:
        async with asyncio.timeout(5):
            await self.upstream.left.wait()


def call(rig: Rig, *, deadline_s: float = 20.0, **body: Any) -> Call:
    body.setdefault("messages", [{"role": "user", "content": "Say hello to the world"}])
    return Call(rig.model, {"model": "asked", **body}, Deadline.after(CLOCK, deadline_s))


async def streamed(rig: Rig, asked: Call) -> list[Chunk]:
    return [piece async for piece in rig.provider.stream(asked)]


def folded(pieces: list[Chunk]) -> Answer:
    folding = Folding()
    for piece in pieces:
        folding.add(piece)
    assert folding.finished
    return folding.answer()


class ProviderContract:
    """Subclass it, and give `rig`."""

    async def test_a_whole_answer_has_every_key_of_the_specification(self, rig: Rig) -> None:
        answer = await rig.provider.complete(call(rig, **rig.arrange(Manner(text="Hello, wörld 北京"))))
        assert answer.text == "Hello, wörld 北京"
        assert {"id", "object", "created", "model", "choices", "usage"} <= answer.completion.keys()
        assert answer.completion["object"] == "chat.completion"
        (choice,) = answer.choices
        assert {"index", "message", "logprobs", "finish_reason"} <= choice.keys()
        assert {"role", "content", "refusal"} <= choice["message"].keys()
        assert answer.finish_reasons == ("stop",)
        assert answer.usage is not None and answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0

    async def test_a_stream_folds_to_the_whole_answer(self, rig: Rig) -> None:
        manner = Manner(text="Hello, wörld 北京")
        whole = await rig.provider.complete(call(rig, **rig.arrange(manner)))
        streamed_ = folded(await streamed(rig, call(rig, **rig.arrange(manner))))
        assert streamed_.text == whole.text
        assert streamed_.finish_reasons == whole.finish_reasons
        assert streamed_.usage == whole.usage

    async def test_a_stream_keeps_the_grammar(self, rig: Rig) -> None:
        """Role first; content; a finish reason by itself; usage last without choices; one id, every chunk whole."""
        pieces = await streamed(rig, call(rig, **rig.arrange(Manner(text="Hello to you all"))))
        assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"
        assert pieces[-1]["choices"] == [] and pieces[-1]["usage"]["total_tokens"] > 0
        assert pieces[-2]["choices"][0]["finish_reason"] == "stop" and not pieces[-2]["choices"][0]["delta"]
        assert all(piece["choices"][0]["finish_reason"] is None for piece in pieces[:-2])
        assert len({piece["id"] for piece in pieces}) == 1
        assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}
        assert len(pieces) > 4, "it really streams"

    async def test_a_tool_call_comes_alike_both_ways(self, rig: Rig) -> None:
        manner = Manner(tool=("add", '{"a": 3}'))
        whole = await rig.provider.complete(call(rig, tools=[TOOL], **rig.arrange(manner)))
        in_pieces = folded(await streamed(rig, call(rig, tools=[TOOL], **rig.arrange(manner))))
        for answer in (whole, in_pieces):
            (made,) = answer.tool_calls
            assert made["id"] and made["type"] == "function"
            assert made["function"]["name"] == "add"
            assert made["function"]["arguments"].replace(" ", "") == '{"a":3}'
            assert answer.finish_reasons == ("tool_calls",)
            assert answer.choices[0]["message"]["content"] is None

    @pytest.mark.parametrize(
        ("status", "kind", "shown"),
        [
            (400, UpstreamRefused, 400),
            (401, UpstreamError, 502),
            (403, UpstreamError, 502),
            (404, UpstreamRefused, 404),
            (408, UpstreamTimeout, 504),
            (429, UpstreamRateLimited, 429),
            (500, UpstreamUnavailable, 502),
            (503, UpstreamUnavailable, 503),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_refusal_is_told_by_its_status(
        self, rig: Rig, status: int, kind: type[UpstreamError], shown: int, stream: bool
    ) -> None:
        asked = call(rig, **rig.arrange(Manner(status=status)))
        with pytest.raises(UpstreamError) as caught:
            await (streamed(rig, asked) if stream else rig.provider.complete(asked))
        assert type(caught.value) is kind
        assert caught.value.status == shown
        assert caught.value.body()["error"].keys() == {"message", "type", "param", "code"}

    async def test_a_rate_limit_brings_its_wait(self, rig: Rig) -> None:
        asked = call(rig, **rig.arrange(Manner(status=429, headers={"retry-after": "7"})))
        with pytest.raises(UpstreamRateLimited) as caught:
            await rig.provider.complete(asked)
        assert caught.value.retry_after_s == 7
        assert caught.value.headers["retry-after"] == "7"

    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("drop", ["end", "close", "reset"])
    async def test_a_stream_that_dies_raises_wherever_it_dies(self, rig: Rig, cut: Any, drop: Any) -> None:
        asked = call(rig, **rig.arrange(Manner(text="one two three four", cut=cut, drop=drop)))
        got: list[Chunk] = []

        async def read() -> None:
            async for piece in rig.provider.stream(asked):
                got.append(piece)

        with pytest.raises(UpstreamError) as caught:
            await read()
        assert caught.value.retryable or isinstance(caught.value, UpstreamDied)
        if cut in ("before-headers", "after-headers"):
            assert not got and caught.value.retryable
        else:
            assert got, "what came is handed on before the death is known"

    @pytest.mark.parametrize("cut", CUTS)
    async def test_a_whole_answer_that_breaks_off_raises(self, rig: Rig, cut: Any) -> None:
        asked = call(rig, **rig.arrange(Manner(text="one two three four", cut=cut)))
        with pytest.raises(UpstreamUnavailable):
            await rig.provider.complete(asked)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_the_deadline_ends_a_silent_call(self, rig: Rig, stream: bool) -> None:
        gate = asyncio.Event()
        asked = call(rig, deadline_s=0.05, **rig.arrange(Manner(gate=gate)))
        with pytest.raises(UpstreamTimeout):
            await (streamed(rig, asked) if stream else rig.provider.complete(asked))
        gate.set()

    async def test_closing_a_stream_ends_the_call(self, rig: Rig) -> None:
        manner = Manner(text="one two three four", gate=(gate := asyncio.Event()), gate_at="content")
        pieces = rig.provider.stream(call(rig, **rig.arrange(manner)))
        assert isinstance(pieces, AsyncIterator)
        await anext(pieces)
        await pieces.aclose()
        await rig.ended_early()
        gate.set()

    async def test_an_unknown_model_id_is_passed_on(self, rig: Rig) -> None:
        asked = call(rig, **rig.arrange(Manner(text="yes")))
        other = Call(Model(rig.model.provider, "never-heard-of"), asked.body, asked.deadline)
        assert (await rig.provider.complete(other)).text == "yes"

    async def test_closing_twice_is_harmless(self, rig: Rig) -> None:
        await rig.provider.close()
        await rig.provider.close()
