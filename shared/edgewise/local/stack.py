"""The stand-in for AWS on a laptop: moto's server on loopback with the deployment's tables, bucket and queue.

It lives as long as the process that started it and keeps nothing on disk. Real providers are not reached through
it: Bedrock, if the environment has credentials for it, is the real one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.aws import Aws, AwsOptions
from edgewise.local import template
from edgewise.local.atomic import make_atomic


def local_options(url: str) -> AwsOptions:
    """How to reach a stand-in at `url`: credentials that nobody checks, no retries that hide a fault."""
    return AwsOptions(
        region="us-east-1",
        endpoint_url=url,
        access_key_id="local",
        secret_access_key="local",  # noqa: S106
        read_timeout_s=30,
    )


@dataclass(slots=True)
class Stack:
    """A running stand-in. `environment` is what the gateway needs to know of it."""

    url: str
    environment: Mapping[str, str]
    _server: Any

    @classmethod
    def start(cls, port: int = 0) -> Stack:
        """Start the server on a free loopback port and create everything; takes about two seconds."""
        from moto.server import ThreadedMotoServer

        make_atomic()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        server.start()
        host, bound = server.get_host_and_port()
        url = f"http://{host}:{bound}"
        queue, dead = asyncio.run(_furnish(url))
        return cls(
            url,
            {
                "EDGEWISE_LOCAL_AWS_URL": url,
                "EDGEWISE_CACHE_TABLE": "edgewise-cache",
                "EDGEWISE_STATE_TABLE": "edgewise-state",
                "EDGEWISE_BUCKET": "edgewise-local",
                "EDGEWISE_JOBS_QUEUE_URL": queue,
                "EDGEWISE_DEAD_LETTER_QUEUE_URL": dead,
            },
            server,
        )

    def stop(self) -> None:
        self._server.stop()


async def _furnish(url: str) -> tuple[str, str]:
    aws = Aws(local_options(url))
    try:
        await template.create_table(aws, "CacheTable", "edgewise-cache")
        await template.create_table(aws, "StateTable", "edgewise-state")
        await template.create_bucket(aws, "edgewise-local")
        return await template.create_queues(aws, "edgewise-jobs")
    finally:
        aws.close()
