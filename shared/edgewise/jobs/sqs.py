"""The jobs queue: JSON messages, one group a tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from edgewise.aws import Aws, AwsError

MAX_DELAY_S = 900
MAX_HIDE_S = 43_200


class SqsQueue:
    """A standard queue; `MessageGroupId` on it turns on fair delivery between groups."""

    def __init__(self, aws: Aws, url: str, dead_url: str | None = None) -> None:
        self._aws = aws
        self._url = url
        self._dead_url = dead_url

    async def send(self, message: Mapping[str, Any], *, group: str, delay_s: int = 0) -> None:
        delay = {"DelaySeconds": min(delay_s, MAX_DELAY_S)} if delay_s > 0 else {}
        await self._aws.call(
            "sqs",
            "send_message",
            QueueUrl=self._url,
            MessageBody=orjson.dumps(message).decode(),
            MessageGroupId=group,
            **delay,
        )

    async def bury(self, message: Mapping[str, Any], *, group: str) -> None:
        if self._dead_url is not None:
            body = orjson.dumps(message).decode()
            await self._aws.call("sqs", "send_message", QueueUrl=self._dead_url, MessageBody=body, MessageGroupId=group)

    async def hide(self, receipt: str, for_s: int) -> None:
        """A receipt that has expired is of no use any more, and that is no error here."""
        try:
            await self._aws.call(
                "sqs",
                "change_message_visibility",
                QueueUrl=self._url,
                ReceiptHandle=receipt,
                VisibilityTimeout=min(for_s, MAX_HIDE_S),
            )
        except AwsError as error:
            if error.status >= 500 or error.code in ("ConnectionError", "RequestThrottled"):
                raise

    async def redrive(self, limit: int) -> int:
        """One by one rather than by StartMessageMoveTask, which moves all and tells nothing back."""
        moved = 0
        while self._dead_url is not None and moved < limit:
            found = await self._aws.call(
                "sqs",
                "receive_message",
                QueueUrl=self._dead_url,
                MaxNumberOfMessages=min(10, limit - moved),
                MessageSystemAttributeNames=["MessageGroupId"],
            )
            if not found.get("Messages"):
                break
            for message in found["Messages"]:
                await self._aws.call(
                    "sqs",
                    "send_message",
                    QueueUrl=self._url,
                    MessageBody=message["Body"],
                    MessageGroupId=message.get("Attributes", {}).get("MessageGroupId", "redriven"),
                )
                await self._aws.call(
                    "sqs", "delete_message", QueueUrl=self._dead_url, ReceiptHandle=message["ReceiptHandle"]
                )
                moved += 1
        return moved
