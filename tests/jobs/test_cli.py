"""`edgewise batch` against a gateway on loopback with a worker behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from edgewise.aws import Aws, Table
from edgewise.chat import ChatRequest
from edgewise.cli import batch as verb
from edgewise.clock import SystemClock
from edgewise.errors import UpstreamRefused
from tests import fakes
from tests.jobs.rig import chat_line, jsonl
from tests.jobs.stack import Places, room_at, serving, working

Run = Callable[..., Any]


def _script(request: ChatRequest) -> Any:
    if request.messages[-1]["content"] == "refuse me":
        return UpstreamRefused("No.", code="invalid_value")
    return fakes.echo(request)


@pytest.fixture
async def run(
    moto_aws: Aws, state_table: Table, bucket: str, queues: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Run]:
    """Runs the command in a thread, while the gateway answers in this one."""
    clock = SystemClock()
    places = Places(state_table.name, bucket, *queues)
    room, uploads = room_at(moto_aws, places, clock)
    rooms = fakes.rooms(clock=clock, script=_script)
    monkeypatch.setattr(verb, "_WATCH_S", 0.05)
    async with serving(rooms, room, uploads) as url, working(moto_aws, places, room, rooms):

        async def command(*words: str) -> Result:
            environment = {"EDGEWISE_URL": url, "EDGEWISE_KEY": fakes.KEY, "COLUMNS": "200"}
            return await asyncio.to_thread(CliRunner().invoke, verb.app, list(words), env=environment)

        yield command


async def test_submit_watch_list_results_and_redrive(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(jsonl([chat_line("a", "one"), chat_line("b", "two"), chat_line("c", "refuse me")]))
    done = await run("submit", str(file), "--watch")
    assert done.exit_code == 0, done.output
    assert "completed  2 of 3 done, 1 failed, 0 cached, $0.0024" in done.output
    (batch,) = json.loads((await run("list", "--json")).stdout)["data"]
    assert batch["id"] in (await run("list")).stdout
    assert json.loads((await run("get", batch["id"], "--json")).stdout)["request_counts"]["failed"] == 1
    answers = [orjson.loads(line) for line in (await run("results", batch["id"])).stdout.splitlines()]
    assert {line["custom_id"] for line in answers} == {"a", "b"}
    await run("results", batch["id"], "--errors", "--to", str(tmp_path / "errors"))
    assert orjson.loads((tmp_path / "errors").read_bytes())["custom_id"] == "c"
    again = json.loads((await run("redrive", batch["id"], "--json")).stdout)
    assert again["metadata"] == {"redrive_of": batch["id"]}
    assert json.loads((await run("watch", again["id"], "--json")).stdout)["request_counts"]["total"] == 1
    assert "completed" in (await run("cancel", batch["id"])).stdout


async def test_a_bad_file_ends_the_command_with_its_faults(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(jsonl([chat_line("a"), chat_line("a")]))
    told = await run("submit", str(file), "--watch")
    assert told.exit_code == 1
    assert "line 2: duplicate_custom_id" in told.output
    file.write_bytes(b"nothing\n")
    assert (await run("submit", str(file))).exit_code == 2
    assert (await run("get", "batch_none")).exit_code == 1
    assert (await run("redrive")).exit_code == 2
    assert (await run("redrive", "--dead-letters")).exit_code == 1, "only the root key may"


async def test_a_large_file_goes_up_in_parts(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "PART_BYTES", 1000)
    file = tmp_path / "in.jsonl"
    file.write_bytes(jsonl([chat_line(f"c{n}", "word " * 20) for n in range(30)]))
    done = json.loads((await run("submit", str(file), "--watch", "--json")).stdout)
    assert done["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
    assert done["edgewise"]["cached"] == 29
