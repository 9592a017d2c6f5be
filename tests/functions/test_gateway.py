"""Recorded function-URL events through both of the gateway's handlers: streamed and whole, they say the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from edgewise.clock import FakeClock, SystemClock
from edgewise.invocations import Invocations
from edgewise.local.runtime_api import Call, RuntimeApi
from edgewise.runtime import Runtime
from edgewise.url_event import Context
from tests.functions.conftest import event

Load = Callable[..., ModuleType]
Answer = tuple[int, dict[str, str], str]


async def streamed(app: Any, *events: dict[str, Any]) -> list[Answer]:
    """What `app` answers under our runtime."""
    api = RuntimeApi()
    await api.start()
    loop = asyncio.create_task(Runtime(app, Invocations(api.address), SystemClock(), margin_s=1.5).run())
    answers: list[Answer] = []
    try:
        for number, one in enumerate(events):
            await api.idle()
            call = Call(f"id-{number}", json.dumps(one).encode(), int((SystemClock().now() + 60) * 1000))
            api.invoke(call)
            head, found, payload = (await call.whole()).partition(b"\0" * 8)
            assert found
            start = json.loads(head)
            answers.append((start["statusCode"], start["headers"], payload.decode()))
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        api.stop()
    return answers


@dataclass
class Whole:
    """What the buffered handler answers under the managed client."""

    handler: Any

    def __call__(self, one: dict[str, Any]) -> Answer:
        clock = FakeClock()
        answer = self.handler(one, Context("id", "arn", int((clock.now() + 60) * 1000), clock))
        json.dumps(answer)
        return answer["statusCode"], answer["headers"], answer["body"]


def deltas(stream: str) -> str:
    """The text of an SSE answer that ends as it must."""
    lines = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] > 0
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1])


def text(answer: Answer) -> str:
    assert answer[0] == 200
    return str(json.loads(answer[2])["choices"][0]["message"]["content"])


async def test_recorded_events_under_the_streaming_runtime(function: Load) -> None:
    app = function("gateway/app").app
    whole, stream, again = await streamed(app, event("url_chat"), event("url_chat_stream"), event("url_chat"))
    assert text(whole) and deltas(stream[2]) == text(whole) == text(again)
    assert stream[1]["content-type"].startswith("text/event-stream")
    assert whole[1]["x-edgewise-cache"] == "miss" and again[1]["x-edgewise-cache"] == "hit"
    assert "content-length" not in whole[1]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("url_chat_wrong_key", 401, "invalid_api_key"), ("url_chat_bad_json", 400, None)],
)
async def test_refusals_have_openais_shape(function: Load, name: str, status: int, code: str | None) -> None:
    ((told, _, body),) = await streamed(function("gateway/app").app, event(name))
    error = json.loads(body)["error"]
    assert told == status and set(error) == {"message", "type", "param", "code"}
    assert code is None or error["code"] == code


async def test_base64_bodies_models_and_health(function: Load) -> None:
    app = function("gateway/app").app
    base64, models, health = await streamed(app, event("url_chat_base64"), event("url_models"), event("url_health"))
    assert text(base64)
    assert "scripted/echo" in {model["id"] for model in json.loads(models[2])["data"]}
    assert health[0] == 200


@pytest.fixture
def own_loop() -> Iterator[None]:
    """A handler runs its own event loop, the process's current one."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


@pytest.mark.usefixtures("own_loop")
def test_the_buffered_handler_answers_the_same_events(function: Load) -> None:
    handler = function("gateway/buffered").handler
    whole = Whole(handler)
    assert deltas(whole(event("url_chat_stream"))[2]) == text(whole(event("url_chat")))
    assert whole(event("url_chat_wrong_key"))[0] == 401
    assert whole(event("url_health"))[0] == 200
    handler.close()
