"""Answers made behind the client's back, by OpenAI's own client: poll, stream again, cancel, delete, be told."""

from __future__ import annotations

import asyncio
import hmac
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import openai
import pytest

from edgewise.api.background import Background, Desk
from edgewise.api.door import credentials_of
from edgewise.api.lines import Lines
from edgewise.api.making import Making
from edgewise.aws import Aws, Table
from edgewise.chat import ChatRequest, text_of
from edgewise.clock import Deadline, SystemClock
from edgewise.errors import InvalidRequest, UpstreamDied, UpstreamRefused
from edgewise.jobs.answers.dynamodb import DynamoShelf
from edgewise.jobs.answers.work import AnswerWork
from edgewise.jobs.room import Options
from edgewise.jobs.share import Share
from edgewise.jobs.webhook import Webhooks, signature
from edgewise.words import Principal
from tests import fakes
from tests.jobs.rig import Counts
from tests.jobs.stack import Places, impersonate, room_at, serving, working

HOOK = "http://127.0.0.1/hook"


@dataclass(slots=True)
class Behind:
    """The gateway with a worker, and what they did."""

    client: openai.AsyncOpenAI
    caller: fakes.FakeCaller
    shelf: DynamoShelf
    hooks: list[tuple[str, bytes, Mapping[str, str]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)


async def _allowed(url: str) -> None:
    if not url.startswith("http://127.0.0.1/"):
        raise InvalidRequest("Not there.", param="x-edgewise-webhook")


class GatedCaller(fakes.FakeCaller):
    """Begins to answer 'slow' questions, and goes on when the gate is open."""

    gate: asyncio.Event

    async def stream(self, model: Any, request: ChatRequest, deadline: Deadline, trail: Any) -> Any:
        chunks = await super().stream(model, request, deadline, trail)
        mended = self.script is not _script
        return self._gated(chunks) if "slow" in str(request.messages[-1]["content"]) and not mended else chunks

    async def _gated(self, chunks: Any) -> AsyncGenerator[Any, None]:
        try:
            for _ in range(3):
                yield await anext(chunks)
            await self.gate.wait()
            if "frail" in str(self.calls[-1].messages[-1]["content"]):
                self.script = lambda _: fakes.saying("said otherwise")
                raise UpstreamDied("The provider's stream broke off.")
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()


@pytest.fixture
async def behind(moto_aws: Aws, state_table: Table, bucket: str, queues: tuple[str, str]) -> AsyncIterator[Behind]:
    clock = SystemClock()
    places = Places(state_table.name, bucket, *queues)
    room, uploads = room_at(moto_aws, places, clock, Options(lease_s=3))
    caller = GatedCaller(clock, _script)
    caller.gate = asyncio.Event()
    rooms = fakes.rooms(clock=clock, caller=caller)
    shelf = DynamoShelf(state_table, room.blobs, clock)
    hooks: list[tuple[str, bytes, Mapping[str, str]]] = []

    async def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        hooks.append((url, body, headers))
        return 500 if len(hooks) == 1 else 200

    async def identify(request: Any) -> Principal:
        return await rooms.policy.identify(credentials_of(request))

    webhooks = Webhooks("whsec_" + b64encode(b"secret").decode(), _allowed, post, clock, Counts())
    background = Background(lambda: Desk(shelf, room.queue, clock, webhooks.check), identify)
    making = Making(Lines(lambda: rooms, impersonate), clock)
    work = AnswerWork(
        shelf, room.queue, clock, Share(clock), Counts(),
        make=making.make, refuse=making.refuse, webhooks=webhooks, options=room.options,
    )  # fmt: skip
    async with (
        serving(
            rooms, room, uploads, routes=background.routes(), kept=background,
            background=background.take_response, background_chat=background.take_chat,
        ) as url,
        working(moto_aws, places, room, rooms, {"response": work.work}),
        openai.AsyncOpenAI(base_url=url, api_key=fakes.KEY, max_retries=0) as client,
    ):  # fmt: skip
        yield Behind(client, caller, shelf, hooks, caller.gate)


def _script(request: ChatRequest) -> Any:
    if request.messages[-1]["content"] == "refuse me":
        return UpstreamRefused("No.", code="invalid_value")
    return fakes.echo(request)


async def _ended(client: openai.AsyncOpenAI, id: str) -> Any:
    while True:
        found = await client.responses.retrieve(id)
        if found.status not in ("queued", "in_progress"):
            return found
        await asyncio.sleep(0.05)


async def test_a_background_response_is_queued_and_polled(behind: Behind) -> None:
    made = await behind.client.responses.create(model="m", input="hello there", background=True)
    assert (made.status, made.background, made.output) == ("queued", True, [])
    done = await _ended(behind.client, made.id)
    assert (done.id, done.status, done.output_text) == (made.id, "completed", "hello there")
    assert done.created_at == made.created_at
    items = await behind.client.responses.input_items.list(made.id)
    assert [item.content for item in items.data] == ["hello there"]  # type: ignore[union-attr]
    further = await behind.client.responses.create(model="m", input="again", previous_response_id=made.id)
    assert further.output_text == "again"
    told = [text_of(message["content"]) for message in behind.caller.calls[-1].messages]
    assert told == ["hello there", "hello there", "again"]


def said(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def test_its_stream_is_live_and_can_be_left_and_come_back_to(behind: Behind) -> None:
    """Text comes while the model still speaks, and each event keeps its number whoever asks and when."""
    stream: Any = await behind.client.responses.create(model="m", input="slow but sure", background=True, stream=True)
    first: list[Any] = []
    async for event in stream:
        first.append(event)
        if said(first):
            break
    await stream.close()
    assert [event.sequence_number for event in first] == list(range(len(first)))
    assert [event.type for event in first[:2]] == ["response.created", "response.in_progress"]
    assert "slow but sure".startswith(said(first)) and not behind.gate.is_set()
    id, last = first[0].response.id, first[-1].sequence_number  # noqa: A001
    assert (await behind.client.responses.retrieve(id)).status == "in_progress"
    again: Any = await behind.client.responses.retrieve(id, stream=True, starting_after=last)
    behind.gate.set()
    events = first + [event async for event in again]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert said(events) == "slow but sure" == events[-1].response.output_text
    whole = await behind.client.responses.retrieve(id)
    assert (events[-1].type, events[-1].response) == ("response.completed", whole)
    for after in (-1, 0, 3, len(events) - 2, len(events) + 9):
        replayed = [e async for e in await behind.client.responses.retrieve(id, stream=True, starting_after=after)]
        assert replayed == events[after + 1 :]
    for wrong in ("²", "9" * 5000, "--1"):
        with pytest.raises(openai.BadRequestError, match="starting_after"):
            await behind.client.responses.retrieve(id, stream=True, extra_query={"starting_after": wrong})


async def test_an_answer_that_is_begun_anew_is_never_mixed_with_the_first(behind: Behind) -> None:
    """A provider's stream breaks off after text was told, and the next one says something else."""
    stream: Any = await behind.client.responses.create(model="m", input="slow and frail", background=True, stream=True)
    first: list[Any] = []
    async for event in stream:
        first.append(event)
        if said(first):
            behind.gate.set()  # the rest of the first stream is an error
    id = first[0].response.id  # noqa: A001
    assert (first[-1].type, first[-1].code) == ("error", "restarted")
    assert said(first) and "slow and frail".startswith(said(first))
    again: Any = await behind.client.responses.retrieve(id, stream=True, starting_after=first[-1].sequence_number)
    second = [event async for event in again]
    assert said(second) == "said otherwise" == second[-1].response.output_text
    assert [e.sequence_number for e in first + second] == list(range(len(first) + len(second)))
    later: Any = [e async for e in await behind.client.responses.retrieve(id, stream=True)]
    assert (said(later), [e.type for e in later].count("error")) == ("said otherwise", 0)
    assert (await behind.client.responses.retrieve(id)).output_text == "said otherwise"


async def test_cancelling_is_idempotent_and_gives_up_the_call(behind: Behind) -> None:
    made = await behind.client.responses.create(model="m", input="slow", background=True)
    while (await behind.client.responses.retrieve(made.id)).status != "in_progress":  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    watching: Any = await behind.client.responses.retrieve(made.id, stream=True)
    await anext(watching)
    while not behind.caller.open_streams:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert (await behind.client.responses.cancel(made.id)).status == "cancelled"
    assert (await behind.client.responses.cancel(made.id)).status == "cancelled"
    while behind.caller.open_streams:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert not behind.gate.is_set(), "the call was given up, not waited for"
    assert (await behind.client.responses.retrieve(made.id)).status == "cancelled"
    told = [event async for event in watching]
    assert (told[-1].type, told[-1].response.status) == ("response.incomplete", "cancelled")
    assert told == [e async for e in await behind.client.responses.retrieve(made.id, stream=True, starting_after=0)]
    await behind.client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await behind.client.responses.retrieve(made.id)


async def test_a_refused_one_fails_with_the_reason(behind: Behind) -> None:
    made = await behind.client.responses.create(model="m", input="refuse me", background=True)
    done = await _ended(behind.client, made.id)
    assert done.status == "failed"
    assert done.error is not None
    assert (await behind.client.responses.cancel(made.id)).status == "failed"


async def test_what_was_made_with_its_client_waiting_is_kept_too(behind: Behind) -> None:
    made = await behind.client.responses.create(model="m", input="now")
    assert (await behind.client.responses.retrieve(made.id)).output_text == "now"
    with pytest.raises(openai.ConflictError):
        await behind.client.responses.cancel(made.id)
    other = behind.client.with_options(api_key="ew_nobody")
    with pytest.raises(openai.AuthenticationError):
        await other.responses.retrieve(made.id)


async def test_chat_in_the_background_by_a_header(behind: Behind) -> None:
    made = await behind.client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "later please"}],
        extra_headers={"x-edgewise-background": "true"},
    )
    assert made.choices == []
    done = made
    while not done.choices:
        await asyncio.sleep(0.05)
        done = await behind.client.chat.completions.retrieve(made.id)
    assert (done.id, done.choices[0].message.content) == (made.id, "later please")
    with pytest.raises(openai.BadRequestError, match="Only a background response"):
        await behind.client.get(f"/chat/completions/{made.id}?stream=true", cast_to=object)


async def test_the_end_is_told_to_a_signed_allowed_url(behind: Behind) -> None:
    made = await behind.client.responses.create(
        model="m", input="tell me", background=True, extra_headers={"x-edgewise-webhook": HOOK}
    )
    await _ended(behind.client, made.id)
    while len(behind.hooks) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    url, body, headers = behind.hooks[-1]
    told = behind.client.webhooks.unwrap(body.decode(), dict(headers), secret="whsec_" + b64encode(b"secret").decode())
    assert url == HOOK
    assert told.type == "response.completed" and told.data.id == made.id
    with pytest.raises(openai.BadRequestError):
        await behind.client.responses.create(
            model="m", input="x", background=True, extra_headers={"x-edgewise-webhook": "http://169.254.169.254/"}
        )


def test_a_signature_is_what_standard_webhooks_say() -> None:
    expected = b64encode(hmac.new(b"k", b"evt.5.{}", sha256).digest()).decode()
    assert signature("k", "evt", 5, b"{}") == f"v1,{expected}"
    assert signature("whsec_" + b64encode(b"k").decode(), "evt", 5, b"{}") == f"v1,{expected}"
