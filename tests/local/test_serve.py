"""The whole gateway in the loopback Lambda, by the stock client: what a laptop shows is what is deployed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from edgewise.clock import SystemClock
from edgewise.local.serve import Running, lambdas
from tests.upstream import Manner, Upstream

KEY = "ew_root_of_the_loopback"


@asynccontextmanager
async def gateway(*, snap_start: bool = False, **settings: str) -> AsyncIterator[tuple[Running, openai.AsyncOpenAI]]:
    environ = {f"EDGEWISE_{name.upper()}": value for name, value in settings.items()}
    environ |= {"EDGEWISE_ROOT_KEY": KEY, "EDGEWISE_SCRIPTED_MODEL": "true", "EDGEWISE_REQUEST_LOG": "false"}
    async with (
        lambdas(environ, SystemClock(), concurrency=4, snap_start=snap_start) as running,
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key=KEY, max_retries=0) as client,
    ):
        yield running, client


async def test_a_client_reads_each_word_while_the_provider_still_speaks() -> None:
    gate = asyncio.Event()
    async with (
        Upstream(Manner(text="first and last", gate=gate, gate_at="content")) as provider,
        gateway(upstreams=json.dumps([{"name": "slow", "base_url": provider.base_url}])) as (running, client),
    ):
        stream = await client.chat.completions.create(
            model="slow/m", messages=[{"role": "user", "content": "speak"}], stream=True
        )
        words = []
        async for chunk in stream:
            words += [choice.delta.content for choice in chunk.choices if choice.delta.content]
            if words:
                # The provider waits here until its first word has come through every part in between.
                gate.set()
        assert len(words) > 1 and "".join(words) == "first and last"
        assert running.gateway.counts.cold_starts == 1


async def test_an_environment_remembers_and_is_restored_from_its_snapshot() -> None:
    async with gateway(snap_start=True) as (running, client):
        await running.gateway.prepare()
        asked = {"model": "scripted/echo", "messages": [{"role": "user", "content": "remember"}]}
        caches = []
        for _ in range(2):
            raw = await client.chat.completions.with_raw_response.create(**asked)  # type: ignore[call-overload]
            caches.append(raw.headers["x-edgewise-cache"])
            await running.gateway.settle()
        assert caches == ["miss", "hit"]
        counts = running.gateway.counts
        assert (counts.cold_starts, counts.restores, counts.invocations) == (1, 1, 2)


async def test_a_batch_goes_from_the_url_through_the_queue_to_the_worker_and_back(
    places: dict[str, Any],
) -> None:
    async with gateway(cache_timeout_s="10", **places) as (running, client):
        body = {"model": "scripted/echo", "messages": [{"role": "user", "content": "by the queue"}]}
        line = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": body}
        file = await client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        while batch.status in ("validating", "in_progress", "finalizing"):
            batch = await client.batches.retrieve(batch.id)
        assert batch.status == "completed" and batch.output_file_id
        answer = json.loads((await client.files.content(batch.output_file_id)).text)
        assert answer["response"]["body"]["choices"][0]["message"]["content"] == "by the queue"
        assert running.worker is not None and running.worker.counts.invocations >= 1


async def test_a_wrong_key_is_refused_in_openais_words() -> None:
    async with gateway() as (_, client):
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.with_options(api_key="ew_wrong").models.list()
        assert caught.value.code == "invalid_api_key"
