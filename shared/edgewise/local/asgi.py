"""The gateway for uvicorn on a laptop, with the worker and the upkeep beside it in the same process.

Deployed, they are functions of their own; here one process does it all, so that a change to any of them is there
after a reload. `edgewise dev --lambda` runs them apart, as Lambda does.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from edgewise.aws import AwsError
from edgewise.local.esm import PAUSE_S, event_of, failed_of
from edgewise.settings import Settings

WORKER_S = 120.0
UPKEEP_EVERY_S = 60.0


def application() -> Any:
    """The ASGI app; uvicorn calls this once in each of its processes."""
    from edgewise.assemble.edge import around
    from edgewise.assemble.house import build

    house = build(Settings.from_env(os.environ))
    return Beside(around(house), house) if house.can_work else around(house)


class Beside:
    """An ASGI app with background tasks that live as long as its lifespan."""

    def __init__(self, app: Any, house: Any) -> None:
        self._app = app
        self._house = house

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._keep_up())]
        try:
            await self._app(scope, receive, send)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        """Lambda's event source mapping, with one environment."""
        from edgewise.assemble.jobs import worker_of

        aws, url = self._house.aws, self._house.settings.jobs_queue_url
        worker = worker_of(self._house)
        while True:
            try:
                found = await aws.call(
                    "sqs", "receive_message", QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
                )
                messages = found.get("Messages", [])
                if messages:
                    await self._batch(worker, url, messages)
                    continue
            except AwsError:
                pass  # The queue is asked again after a pause, and what was not deleted comes again.
            except Exception as error:  # noqa: BLE001 - as Lambda does: what failed comes again, the rest goes on
                self._house.record.failed(error)
            await self._house.clock.sleep(PAUSE_S)

    async def _batch(self, worker: Any, url: str, messages: list[dict[str, Any]]) -> None:
        told = await worker.handle(event_of(messages, "arn:aws:sqs:us-east-1:1:edgewise-jobs"), WORKER_S)
        failed = failed_of(json.dumps(told).encode(), {message["MessageId"] for message in messages})
        for message in messages:
            if message["MessageId"] not in failed:
                await self._house.aws.call(
                    "sqs", "delete_message", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"]
                )

    async def _keep_up(self) -> None:
        from edgewise.assemble.upkeep import chores_of
        from edgewise.upkeep import ChoresFailed, keep_up

        while True:
            await self._house.clock.sleep(UPKEEP_EVERY_S)
            try:
                await keep_up(chores_of(self._house))
            except ChoresFailed as failed:
                self._house.record.failed(failed.__cause__ or failed)
