"""Workers die by SIGKILL while they make answers; the assembled house, over the queue, for OpenAI's own client."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn

from edgewise.assemble.edge import around
from edgewise.assemble.house import build
from edgewise.aws import Aws, Table
from edgewise.local import template
from edgewise.settings import Settings
from tests.jobs.test_background import said
from tests.upstream import Manner, Upstream

KEY = "ew_root_of_the_killed"
ROOT = Path(__file__).resolve().parents[2]


class Workers:
    """Processes that work until they die."""

    def __init__(self, settings: Settings, graves: Path) -> None:
        self._arguments = (settings.model_dump_json(), str(graves))

    async def __aenter__(self) -> Workers:
        self._parent = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.jobs.assembled", *self._arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        return self

    async def add(self, number: int) -> None:
        assert self._parent.stdin is not None and self._parent.stdout is not None
        for _ in range(number):
            self._parent.stdin.write(b"\n")
            await self._parent.stdout.readline()

    async def __aexit__(self, *_: object) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        await self._parent.wait()


@asynccontextmanager
async def listening(settings: Settings) -> AsyncIterator[str]:
    """The assembled gateway on a loopback port; its base URL."""
    server = uvicorn.Server(uvicorn.Config(around(build(settings)), port=0, log_level="error", lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
def settings(moto_aws: Aws, moto_url: str, state_table: Table, cache_table: Table, bucket: str) -> Settings:
    queue, dead = asyncio.run(template.create_queues(moto_aws, f"killed-{state_table.name}", visibility_s=3))
    return Settings(
        root_key=KEY, request_log=False, local_aws_url=moto_url, bucket=bucket, cache_timeout_s=5, cache_lease_s=1,
        hold_lease_s=4, state_table=state_table.name, cache_table=cache_table.name, jobs_queue_url=queue,
        dead_letter_queue_url=dead,
    )  # fmt: skip


def served_by(upstream: Upstream, settings: Settings) -> Settings:
    rows = {"up/m": {"price": {"i": "1", "o": "1000"}, "tier": "small"}}
    return settings.model_validate(
        {
            **settings.model_dump(),
            "upstreams": [{"name": "up", "base_url": upstream.base_url, "models": ["m"]}],
            "model_overrides": rows,
        }
    )


async def watched(client: openai.AsyncOpenAI, text: str, die: str) -> tuple[list[Any], int]:
    """The events that a client hears which comes back as it is told to, and how often it was told so."""
    metadata = {"die": die} if die else {}
    stream: Any = await client.responses.create(
        model="up/m", input=text, background=True, stream=True, metadata=metadata
    )
    heard: list[Any] = []
    restarts = 0
    while True:
        async for event in stream:
            heard.append(event)
        if heard[-1].type != "error":
            break
        assert heard[-1].code == "restarted"
        restarts += 1
        stream = await client.responses.retrieve(
            heard[0].response.id, stream=True, starting_after=heard[-1].sequence_number
        )
    numbers = [event.sequence_number for event in heard]
    assert numbers == sorted(set(numbers)), "no number twice, none out of order"
    return heard, restarts


async def spent(client: openai.AsyncOpenAI) -> Decimal:
    usage: Any = await client.get("/usage", cast_to=object)
    return Decimal(usage["budgets"][0]["used_usd"])


STEPS = {"text": "one two three four five", "paid": "a b c d e f", "told": "g h i j", "kept": "k l m n", "": "o p"}


async def test_answers_whose_workers_die(upstream: Upstream, settings: Settings, tmp_path: Path) -> None:
    """At whatever step: what was told stays true, and no answer that was paid for is paid for again."""
    upstream.default = Manner(between_s=0.2)
    async with (
        Workers(served_by(upstream, settings), tmp_path) as workers,
        listening(served_by(upstream, settings)) as url,
        openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as root,
    ):
        terms = {"budgets": [{"per": "month", "usd": 1000}]}
        made: Any = await root.post(
            "/admin/keys", cast_to=object, body={"name": "app", "tenant": "acme", "terms": terms}
        )
        await workers.add(len(STEPS) + 2)
        client = root.with_options(api_key=made["key"])
        await _told_and_made_once(client, upstream)
        graves = sorted(grave.name.rsplit("-")[-1] for grave in tmp_path.iterdir())  # noqa: ASYNC240
        assert graves == ["kept", "paid", "text", "told"]
        await _given_up_when_cancelled(root, upstream)
        cost = sum(Decimal(len(text.split())) * 1001 / 1_000_000 for text in STEPS.values())
        while (used := await spent(client)) > cost:  # noqa: ASYNC110
            await asyncio.sleep(0.2)  # what a dead worker held comes back when its lease is over
        assert used == cost, "charged once"


async def _told_and_made_once(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """The same answer goes on where it was cut."""
    heard = await asyncio.gather(*(watched(client, text, die) for die, text in STEPS.items()))
    asked = Counter(seen.body["messages"][-1]["content"] for seen in upstream.requests)
    assert asked == {text: 2 if die == "text" else 1 for die, text in STEPS.items()}, "only what was cut is asked again"
    for text, (events, restarts) in zip(STEPS.values(), heard, strict=True):
        assert restarts == 0 and said(events) == text
        whole = await client.responses.retrieve(events[-1].response.id)
        assert (whole.status, whole.output_text) == ("completed", text)


async def _given_up_when_cancelled(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """The provider sees its client hang up."""
    upstream.behave(Manner(gate=asyncio.Event()))
    before, upstream.hangups = upstream.calls, 0
    made = await client.responses.create(model="up/m", input="endless", background=True)
    while upstream.calls == before:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    for _ in range(2):
        assert (await client.responses.cancel(made.id)).status == "cancelled"
    while not upstream.hangups:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert (await client.responses.retrieve(made.id)).status == "cancelled"


@pytest.mark.slow
async def test_another_answer_in_its_place_is_never_mixed_with_the_first(
    upstream: Upstream, settings: Settings, tmp_path: Path
) -> None:
    upstream.behave(Manner(text="one two three four five", between_s=0.2), Manner(text="uno dos"))
    async with (
        Workers(served_by(upstream, settings), tmp_path) as workers,
        listening(served_by(upstream, settings)) as url,
        openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client,
    ):
        await workers.add(2)
        events, restarts = await watched(client, "count", "text")
        cut = next(n for n, event in enumerate(events) if event.type == "error")
        assert restarts == 1
        assert said(events[:cut]) and "one two three four five".startswith(said(events[:cut]))
        assert said(events[cut:]) == "uno dos" == events[-1].response.output_text
