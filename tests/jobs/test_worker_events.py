"""The worker replays the events that SQS really sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.jobs.rig import chat_line, make_rig

EVENTS = Path(__file__).resolve().parents[2] / "events"


def event(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return found


async def test_sqs_chunk_works_the_chunk_and_buries_what_nobody_can_read() -> None:
    rig = make_rig()
    batch = await rig.submit([chat_line("a", "x")])
    await rig.deliver(rig.worker(), rig.queue.receive(1))
    found = event("sqs_chunk")
    found["Records"][0]["body"] = json.dumps({"kind": "chunk", "batch": batch.id, "chunk": 0})
    assert await rig.worker().handle(found, 900) == {"batchItemFailures": []}
    assert rig.run.texts() == ["x"]
    assert [letter["kind"] for letter in rig.queue.dead] == ["unreadable"]


async def test_a_chunk_of_an_unknown_batch_is_let_go() -> None:
    rig = make_rig()
    assert await rig.worker().handle(event("sqs_chunk"), 900) == {"batchItemFailures": []}
    assert rig.run.asked == []


async def test_sqs_requests_become_a_batch() -> None:
    rig = make_rig()
    for _ in range(2):
        await rig.worker().handle(event("sqs_requests"), 900)
    await rig.pump()
    (batch,) = await rig.room.batches.page("acme", None, 10)
    assert sorted(await rig.output(batch)) == ["a", "b"]
    assert batch.metadata == {"source": "sqs", "message": "nightly-2026-11-22"}


async def test_sqs_one_request_needs_no_list() -> None:
    rig = make_rig()
    await rig.worker().handle(event("sqs_one_request"), 900)
    await rig.pump()
    (batch,) = await rig.room.batches.page("acme", None, 10)
    assert sorted(await rig.output(batch)) == ["only"]


async def test_a_message_whose_work_breaks_is_reported_alone() -> None:
    rig = make_rig()

    async def broken(*_: Any) -> None:
        raise RuntimeError("storage is on fire")

    rig.room.batches.get = broken  # type: ignore[method-assign,assignment]
    told = await rig.worker().handle(event("sqs_chunk"), 900)
    assert told == {"batchItemFailures": [{"itemIdentifier": "059f36b4-87a3-44ab-83d2-661975830a7d"}]}
