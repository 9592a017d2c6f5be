"""Lambda's event source mapping for SQS on loopback: poll the queue, invoke the function, delete what went well.

The rules are Lambda's. At most `concurrency` batches are under way (`MaximumConcurrency`). With
`ReportBatchItemFailures` the function names the messages that failed, and only the others are deleted; no names, all
went well; names that make no sense, or a function that failed, and nothing is deleted. What is not deleted comes back
when its visibility runs out, and SQS itself buries it after `maxReceiveCount`.

It knows nothing of what a message means.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgewise.aws import Aws, AwsError
from edgewise.clock import Clock
from edgewise.local.pool import Pool, Throttled
from edgewise.local.runtime_api import FunctionFailed

PAUSE_S = 1.0


def event_of(messages: Sequence[Mapping[str, Any]], queue_arn: str) -> dict[str, Any]:
    """The event that Lambda makes of received messages."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": message.get("MessageAttributes", {}),
                "md5OfBody": message.get("MD5OfBody", ""),
                "eventSource": "aws:sqs",
                "eventSourceARN": queue_arn,
                "awsRegion": queue_arn.split(":")[3],
            }
            for message in messages
        ]
    }


def failed_of(answer: bytes, sent: set[str]) -> set[str]:
    """The ids of `sent` that stay in the queue, by the function's answer; all of them when it makes no sense."""
    try:
        told = json.loads(answer or b"null")
        failures = (told or {}).get("batchItemFailures") or []
        names = {failure["itemIdentifier"] for failure in failures}
    except (ValueError, KeyError, TypeError, AttributeError):
        return sent
    return names if names <= sent else sent


class QueueSource:
    """One queue that drives one function."""

    def __init__(self, aws: Aws, queue_url: str, pool: Pool, clock: Clock, *, batch_size: int = 10) -> None:
        self._aws, self._url, self._pool, self._clock = aws, queue_url, pool, clock
        self._batch_size = batch_size
        self._arn = ""

    async def run(self) -> None:
        """Poll until cancelled, with as many pollers as the function may have environments."""
        await asyncio.gather(*(self._forever() for _ in range(self._pool.function.concurrency)))

    async def _forever(self) -> None:
        while True:
            try:
                found = await self.turn()
            except AwsError:
                found = 0
            if not found:
                await self._clock.sleep(PAUSE_S)

    async def turn(self) -> int:
        """Take one batch through the function; how many messages it had. Raises AwsError."""
        got = await self._aws.call(
            "sqs",
            "receive_message",
            QueueUrl=self._url,
            MaxNumberOfMessages=self._batch_size,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = got.get("Messages", [])
        if not messages:
            return 0
        receipts = {message["MessageId"]: message["ReceiptHandle"] for message in messages}
        event = json.dumps(event_of(messages, await self._queue_arn())).encode()
        try:
            call = await self._pool.invoke(event)
            failed = failed_of(await call.whole(), set(receipts))
        except (Throttled, FunctionFailed):
            failed = set(receipts)
        for name, receipt in receipts.items():
            if name not in failed:
                await self._aws.call("sqs", "delete_message", QueueUrl=self._url, ReceiptHandle=receipt)
        return len(messages)

    async def _queue_arn(self) -> str:
        if not self._arn:
            found = await self._aws.call("sqs", "get_queue_attributes", QueueUrl=self._url, AttributeNames=["QueueArn"])
            self._arn = str(found["Attributes"]["QueueArn"])
        return self._arn
