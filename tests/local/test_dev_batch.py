"""`edgewise dev --lambda` as its user has it: the stock client sends a file of 2,000 lines through it and back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from jsonschema import Draft202012Validator

KEY = "ew_root_of_dev"
ENDED = ("completed", "failed", "expired", "cancelled")


@asynccontextmanager
async def dev() -> AsyncIterator[str]:
    """The command, in a process group of its own; its base URL once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {**os.environ, "EDGEWISE_ROOT_KEY": KEY, "EDGEWISE_LOCAL_MODEL": "false", "EDGEWISE_REQUEST_LOG": "false"}
    command = (sys.executable, "-m", "edgewise.cli.main", "dev", "--lambda", "--port", str(port))
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), 60)


def jsonl(count: int) -> bytes:
    return b"".join(
        json.dumps(
            {
                "custom_id": f"c{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "scripted/echo", "messages": [{"role": "user", "content": f"question {n}"}]},
            }
        ).encode()
        + b"\n"
        for n in range(count)
    )


async def up(client: openai.AsyncOpenAI) -> None:
    for _ in range(600):
        try:
            await client.models.list()
        except openai.APIError:
            await asyncio.sleep(0.2)
        else:
            return
    raise AssertionError("edgewise dev did not come up")


async def through(client: openai.AsyncOpenAI, count: int) -> tuple[Any, list[dict[str, Any]]]:
    """Upload, create, poll, download."""
    file = await client.files.create(file=("in.jsonl", jsonl(count)), purpose="batch")
    batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    while batch.status not in ENDED:
        await asyncio.sleep(0.5)
        batch = await client.batches.retrieve(batch.id)
    assert batch.output_file_id is not None, batch
    content = (await client.files.content(batch.output_file_id)).content
    return batch, [json.loads(line) for line in content.strip().split(b"\n")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_two_thousand_lines_by_the_stock_client() -> None:
    """Every custom_id once, counts right, every answer the right one."""
    async with dev() as url, openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=3, timeout=120) as client:
        await up(client)
        began = time.monotonic()
        batch, lines = await through(client, 2000)
        print(f"2000 lines in {time.monotonic() - began:.0f} s")
    assert batch.status == "completed" and batch.error_file_id is None
    assert batch.request_counts.model_dump() == {"total": 2000, "completed": 2000, "failed": 0}
    assert Counter(line["custom_id"] for line in lines) == {f"c{n}": 1 for n in range(2000)}
    for line in lines:
        assert set(line) == {"id", "custom_id", "response", "error"} and line["response"]["status_code"] == 200
        said = line["response"]["body"]["choices"][0]["message"]["content"]
        assert said == f"question {line['custom_id'][1:]}"
    if os.environ.get("EDGEWISE_DATA"):
        _as_described(lines)


def _as_described(lines: list[dict[str, Any]]) -> None:
    """Each answer is what OpenAI's description says of it."""
    spec = json.loads((Path(os.environ["EDGEWISE_DATA"]) / "api" / "gateway-subset.json").read_text())
    schema = {"$ref": "#/components/schemas/CreateChatCompletionResponse", "components": spec["components"]}
    check = Draft202012Validator(schema)
    for line in lines[::20]:
        assert [error.message for error in check.iter_errors(line["response"]["body"])] == []
