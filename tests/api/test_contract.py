"""Every kind of answer, held to OpenAI's own description of it; and a replay, held to the live stream."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.api.app import app
from edgewise.chat import Folding
from edgewise.clock import FakeClock
from edgewise.settings import Settings
from edgewise.words import Model
from tests.api import spec
from tests.api.client import Client, Got
from tests.api.test_embeddings import client as embedding_client
from tests.fakes import FakeCaller, rooms, saying

CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
]
ANSWERS: dict[str, Any] = {
    "text": saying("some words to say"),
    "calls": saying("", content=None, finish="tool_calls", tool_calls=CALLS),
    "refusal": saying("", content=None, refusal="I can't do that."),
    "cut": saying("cut", finish="length"),
}


@pytest.mark.data
@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("stream", [False, True])
async def test_chat_conforms_live_and_replayed(kind: str, stream: bool) -> None:
    ask = Client(app(rooms(script=lambda _: ANSWERS[kind]), Settings()))
    for _ in range(2):
        got = await ask.chat("x", stream=stream, stream_options={"include_usage": True} if stream else None)
        if not stream:
            spec.conforms(got.json, "CreateChatCompletionResponse")
        for chunk in got.chunks:
            spec.conforms(chunk, "CreateChatCompletionStreamResponse")


@pytest.mark.data
async def test_the_other_answers_conform() -> None:
    ask = Client(app(rooms(), Settings(), listing=lambda: [Model("openai", "gpt-x")]))
    spec.conforms((await ask.ask("GET", "/v1/models")).json, "ListModelsResponse")
    spec.conforms((await ask.ask("GET", "/v1/models/gpt-x")).json, "Model")
    body = {"model": "embed-1", "input": ["a", "b"]}
    embedded = await embedding_client(rooms()).ask("POST", "/v1/embeddings", body)
    spec.conforms(embedded.json, "CreateEmbeddingResponse")
    for wrong in (await ask.ask("GET", "/v1/none"), await ask.ask("PUT", "/v1/models"), await ask.chat(temperature=9)):
        spec.conforms(wrong.json, "ErrorResponse")


def folded(got: Got) -> Any:
    """What a client makes of a stream, without what is fresh in each."""
    folding = Folding()
    for chunk in got.chunks:
        folding.add(chunk)
    whole = dict(folding.answer().completion)
    return {name: value for name, value in whole.items() if name not in ("id", "created")}


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80), piece_chars=st.integers(1, 40), usage=st.booleans())
async def test_a_replay_tells_what_the_live_stream_told_however_that_was_cut(
    text: str, piece_chars: int, usage: bool
) -> None:
    clock = FakeClock()
    caller = FakeCaller(clock, lambda _: saying(text), piece_chars=piece_chars)
    ask = Client(app(rooms(clock=clock, caller=caller), Settings()))
    options: Any = {"stream": True, "stream_options": {"include_usage": usage}}
    live = await ask.chat("q", **options)
    replayed = await ask.chat("q", **options)
    assert (live.headers["x-edgewise-cache"], replayed.headers["x-edgewise-cache"]) == ("miss", "hit")
    assert folded(live) == folded(replayed)
    assert live.text == replayed.text == text
    assert (live.events[-1], replayed.events[-1]) == ("[DONE]", "[DONE]")
