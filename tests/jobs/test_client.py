"""OpenAI's own client, unchanged, against the async room on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from jsonschema import Draft202012Validator
from openai.types import Batch

from edgewise.aws import Aws, Table
from edgewise.chat import ChatRequest
from edgewise.clock import SystemClock
from edgewise.errors import UpstreamRefused
from tests import fakes
from tests.jobs.rig import chat_line, jsonl
from tests.jobs.stack import Places, room_at, serving, working

SystemRooms = tuple[openai.AsyncOpenAI, fakes.FakeCaller]


@pytest.fixture
async def stack(
    moto_aws: Aws, state_table: Table, bucket: str, queues: tuple[str, str]
) -> AsyncIterator[tuple[openai.AsyncOpenAI, fakes.FakeCaller]]:
    clock = SystemClock()
    places = Places(state_table.name, bucket, *queues)
    room, uploads = room_at(moto_aws, places, clock)
    caller = fakes.FakeCaller(clock, _script)
    rooms = fakes.rooms(clock=clock, caller=caller)
    async with (
        serving(rooms, room, uploads) as url,
        working(moto_aws, places, room, rooms),
        openai.AsyncOpenAI(base_url=url, api_key=fakes.KEY, max_retries=0) as client,
    ):
        yield client, caller


async def ended(client: openai.AsyncOpenAI, id: str) -> Batch:
    """The batch when it has ended."""
    while True:
        batch = await client.batches.retrieve(id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        await asyncio.sleep(0.1)


def _script(request: ChatRequest) -> Any:
    if request.messages[-1]["content"] == "refuse me":
        return UpstreamRefused("No.", code="invalid_value")
    return fakes.echo(request)


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
async def test_upload_create_poll_download(stack: SystemRooms, count: int) -> None:
    """Every custom id exactly once, right counts, right answers."""
    client, caller = stack
    lines = [chat_line(f"c{n}", f"question {n}") for n in range(count - 1)] + [chat_line("bad", "refuse me")]
    file = await client.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch")
    assert (file.status, file.bytes, file.purpose) == ("processed", len(jsonl(lines)), "batch")
    batch = await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"who": "test"}
    )
    assert batch.status == "validating"
    batch = await ended(client, batch.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None and batch.usage is not None
    assert batch.request_counts.model_dump() == {"total": count, "completed": count - 1, "failed": 1}
    assert batch.usage.input_tokens == (count - 1) * 5
    assert batch.output_file_id is not None and batch.error_file_id is not None
    good = await _lines(client, batch.output_file_id)
    bad = await _lines(client, batch.error_file_id)
    assert Counter(line["custom_id"] for line in good) == {f"c{n}": 1 for n in range(count - 1)}
    assert [(line["custom_id"], line["response"]["status_code"]) for line in bad] == [("bad", 400)]
    for line in good:
        said = line["response"]["body"]["choices"][0]["message"]["content"]
        assert said == f"question {line['custom_id'][1:]}"
    assert len(caller.calls) == count
    page = await client.batches.list(limit=1)
    assert page.data[0].id == batch.id and not page.has_more
    listed = await client.files.list(purpose="batch")
    assert [f.id for f in listed.data] == [file.id]


async def _lines(client: openai.AsyncOpenAI, file_id: str) -> list[dict[str, Any]]:
    content = (await client.files.content(file_id)).content
    return [orjson.loads(raw) for raw in content.strip().split(b"\n")]


async def test_cancelling_and_a_file_that_is_no_good(stack: SystemRooms) -> None:
    client, caller = stack
    file = await client.files.create(file=("in.jsonl", b"nonsense\n"), purpose="batch")
    batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = await ended(client, batch.id)
    assert batch.status == "failed"
    assert batch.errors is not None and batch.errors.data is not None
    assert batch.errors.data[0].line == 1
    assert (await client.batches.cancel(batch.id)).status == "failed"
    assert caller.calls == []
    with pytest.raises(openai.NotFoundError):
        await client.batches.retrieve("batch_none")
    with pytest.raises(openai.BadRequestError):
        await client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")


async def test_files_are_the_tenants_own_and_go_when_deleted(stack: SystemRooms) -> None:
    client, _ = stack
    names = []
    for n in range(5):
        body = b"x" * n + b"\n"
        names.append((await client.files.create(file=(f"{n}.jsonl", body), purpose="evals")).id)
    found = [file.id async for file in client.files.list(limit=2, order="asc")]
    assert sorted(found) == sorted(names)
    assert (await client.files.content(names[3])).content == b"xxx\n"
    assert (await client.files.delete(names[0])).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(names[0])
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="ew_other").files.retrieve(names[1])
    expiring = await client.files.create(
        file=("e.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert expiring.expires_at == expiring.created_at + 3600


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "nonsense"}, "purpose"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "5"}, "expires_after"),
    ],
)
async def test_a_file_with_a_wrong_wish_is_refused(stack: SystemRooms, fields: dict[str, str], param: str) -> None:
    client, _ = stack
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/files", body=fields, files={"file": ("f.jsonl", b"{}")}, cast_to=object,
                          options={"headers": {"content-type": "multipart/form-data"}})  # fmt: skip
    assert str(caught.value.param).startswith(param)


async def test_a_body_too_large_is_told_how_to_come_in(stack: SystemRooms) -> None:
    client, _ = stack
    with pytest.raises(openai.APIStatusError) as caught:
        await client.files.create(file=("big.jsonl", b"x" * 6_100_000), purpose="batch")
    assert caught.value.status_code == 413
    assert "presign=1" in caught.value.message and "/v1/uploads" in caught.value.message


async def test_a_large_file_comes_in_parts(stack: SystemRooms) -> None:
    client, _ = stack
    whole = bytes(range(256)) * 40_000
    upload = await client.uploads.create(
        bytes=len(whole), filename="big.jsonl", mime_type="application/jsonl", purpose="batch"
    )
    parts = [
        (await client.uploads.parts.create(upload.id, data=whole[start : start + 4_000_000])).id
        for start in range(0, len(whole), 4_000_000)
    ]
    with pytest.raises(openai.BadRequestError):
        await client.uploads.complete(upload.id, part_ids=parts[:1])
    digest = hashlib.md5(whole, usedforsecurity=False).hexdigest()
    done = await client.uploads.complete(upload.id, part_ids=parts, md5=digest)
    assert done.status == "completed" and done.file is not None and done.file.bytes == len(whole)
    assert (await client.files.content(done.file.id)).content == whole
    again = await client.uploads.complete(upload.id, part_ids=parts, md5=digest)
    assert again.file == done.file
    other = await client.uploads.create(bytes=5, filename="x.jsonl", mime_type="a/b", purpose="batch")
    assert (await client.uploads.cancel(other.id)).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        await client.uploads.parts.create(other.id, data=b"12345")


async def test_a_signed_url_takes_the_bytes_past_the_function(stack: SystemRooms) -> None:
    import aiohttp

    client, _ = stack
    body = jsonl([chat_line("a")])
    made: Any = await client.post(
        "/files?presign=1",
        body={"filename": "in.jsonl", "purpose": "batch", "bytes": len(body)},
        cast_to=object,
    )
    with pytest.raises(openai.ConflictError):
        await client.files.content(made["id"])
    async with aiohttp.ClientSession() as session:
        put = await session.request(made["upload"]["method"], made["upload"]["url"], data=body)
        assert put.status == 200
    assert (await client.files.retrieve(made["id"])).status == "processed"
    assert (await client.files.content(made["id"])).content == body


@pytest.mark.data
async def test_objects_are_as_the_description_has_them(stack: SystemRooms, data: Path) -> None:
    spec = json.loads((data / "api" / "gateway-subset.json").read_text())
    client, _ = stack
    file = await client.files.with_raw_response.create(file=("in.jsonl", jsonl([chat_line("a")])), purpose="batch")
    body = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": file.parse().id}
    batch = await client.batches.with_raw_response.create(**body)  # type: ignore[arg-type]
    await ended(client, batch.parse().id)
    again = await client.batches.with_raw_response.retrieve(batch.parse().id)
    listed = await client.batches.with_raw_response.list()
    files = await client.files.with_raw_response.list()
    answers: list[tuple[str, Any]] = [
        ("OpenAIFile", file), ("Batch", batch), ("Batch", again), ("ListBatchesResponse", listed),
        ("ListFilesResponse", files),
    ]  # fmt: skip
    for name, got in answers:
        schema = {"$ref": f"#/components/schemas/{name}", "components": spec["components"]}
        errors = [e.message for e in Draft202012Validator(schema).iter_errors(json.loads(got.text))]
        assert errors == [], (name, errors)
    output = await _lines(client, again.parse().output_file_id or "")
    schema = {"$ref": "#/components/schemas/CreateChatCompletionResponse", "components": spec["components"]}
    assert list(Draft202012Validator(schema).iter_errors(output[0]["response"]["body"])) == []
    assert set(output[0]) == {"id", "custom_id", "response", "error"}
    assert set(output[0]["response"]) == {"status_code", "request_id", "body"}
