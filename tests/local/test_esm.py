"""SQS drives a function as Lambda's event source mapping would."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edgewise.aws import Aws
from edgewise.clock import FakeClock
from edgewise.local.esm import QueueSource, failed_of
from edgewise.local.pool import Function, Pool, pooled

HERE = Path(__file__).parent
WORKER = Function(
    name="worker",
    folder=HERE / "standin",
    handler="worker.handler",
    command=(sys.executable, "-m", "awslambdaric", "worker.handler"),
    concurrency=2,
)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with pooled(WORKER, FakeClock()) as made:
        yield made


async def send(aws: Aws, url: str, *orders: dict[str, Any]) -> None:
    for order in orders:
        await aws.call("sqs", "send_message", QueueUrl=url, MessageBody=json.dumps(order), MessageGroupId="tenant")


async def waiting(aws: Aws, url: str) -> list[str]:
    """How many messages are in the queue, and how many more are hidden."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = await aws.call("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=names)
    return [found["Attributes"][name] for name in names]


async def test_only_what_went_well_is_deleted(moto_aws: Aws, queues: tuple[str, str], pool: Pool) -> None:
    await send(moto_aws, queues[0], {"n": 1}, {"n": 2, "fail": True}, {"n": 3})
    source = QueueSource(moto_aws, queues[0], pool, FakeClock())
    taken = 0
    while taken < 3:
        taken += await source.turn()
    assert await waiting(moto_aws, queues[0]) == ["0", "1"]


async def test_a_function_that_fails_loses_nothing(moto_aws: Aws, queues: tuple[str, str], pool: Pool) -> None:
    await send(moto_aws, queues[0], {"n": 1, "crash": True})
    source = QueueSource(moto_aws, queues[0], pool, FakeClock())
    assert await source.turn() == 1
    assert await waiting(moto_aws, queues[0]) == ["0", "1"]
    assert await source.turn() == 0


async def test_no_more_than_the_functions_concurrency_is_under_way(
    moto_aws: Aws, queues: tuple[str, str], pool: Pool
) -> None:
    await send(moto_aws, queues[0], *({"n": n} for n in range(6)))
    source = QueueSource(moto_aws, queues[0], pool, FakeClock(), batch_size=1)
    for _ in range(6):
        await source.turn()
    await pool.settle()
    assert pool.counts.invocations == 6 and len(pool.environments) <= 2
    assert await waiting(moto_aws, queues[0]) == ["0", "0"]


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (b"", set()),
        (b"null", set()),
        (b"{}", set()),
        (b'{"batchItemFailures": []}', set()),
        (b'{"batchItemFailures": [{"itemIdentifier": "a"}]}', {"a"}),
        (b'{"batchItemFailures": [{"itemIdentifier": "c"}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"id": "a"}]}', {"a", "b"}),
        (b"true", {"a", "b"}),
        (b"not json", {"a", "b"}),
    ],
)
def test_an_answer_that_makes_no_sense_fails_the_whole_batch(answer: bytes, failed: set[str]) -> None:
    assert failed_of(answer, {"a", "b"}) == failed
