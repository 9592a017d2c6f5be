"""Workers that may be killed: a process that forks one whenever it is told to.

Each forked worker takes messages from the queue, each of them twice, over a DynamoDB that is throttled at random and
sometimes loses the answer to a write that it made. Forking keeps a life cheap: the imports are done once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

import aiohttp

from edgewise.aws import Aws, AwsError
from edgewise.chat import Answer, ChatRequest, Chunks
from edgewise.clock import Deadline, SystemClock
from edgewise.errors import UpstreamUnavailable
from edgewise.jobs.room import Options
from edgewise.patience import PatientAws
from edgewise.policy.opening import open_policy
from edgewise.policy.room import PolicyRoom
from edgewise.settings import Settings
from edgewise.words import Attempt, Choice, Model, Plan, Target
from tests import fakes
from tests.conftest import aws_at
from tests.jobs.stack import Places, pump, room_at

PRICE_USD = "0.0012"
HOLD_S = 30.0
OPTIONS = Options(lease_s=1.5, stale_s=4.0, chunk_lines=25, window_chunks=8)


class Moody(Aws):
    """Throttles a share of DynamoDB's calls, and loses the answer to a smaller share."""

    def __init__(self, inner: Aws, share: float) -> None:
        super().__init__(inner.options)
        self._inner, self._share = inner, share

    def client(self, service: str) -> Any:
        return self._inner.client(service)

    async def run(self, work: Any) -> Any:
        return await self._inner.run(work)

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        chance = random.random() if service == "dynamodb" else 1.0
        if chance < self._share:
            raise AwsError("ProvisionedThroughputExceededException", "slow down", 400)
        answer = await self._inner.call(service, operation, **arguments)
        if chance > 1 - self._share / 5 and service == "dynamodb":
            raise AwsError("ConnectionError", "the answer was lost")
        return answer


class HttpCaller:
    """Asks the test's upstream."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        async with self._session.post(self._url, json={"text": request.messages[-1]["content"]}) as got:
            if got.status != 200:
                refused = Attempt(model, status=got.status, error="upstream_unavailable", cost_usd=Decimal(0))
                trail.append(refused)
                raise UpstreamUnavailable("The upstream is down.")
            answer = fakes.saying((await got.json())["text"])
        trail.append(Attempt(model, usage=answer.usage, cost_usd=Decimal(PRICE_USD)))
        return answer

    async def stream(self, *_: Any) -> Chunks:
        raise NotImplementedError


class PricedRouter(fakes.FakeRouter):
    """The one model, with a worst case to hold."""

    async def choose(self, request: ChatRequest, plan: Plan, target: Target) -> Choice:
        return replace(await super().choose(request, plan, target), worst_usd=Decimal(PRICE_USD) * 3)


def policy_at(aws: Aws, table: str, clock: SystemClock) -> PolicyRoom:
    """The real one, in whose table `Chaos` has put a key with a budget."""
    settings = Settings(root_key="ew_root_of_chaos", state_table=table, hold_lease_s=HOLD_S)
    return open_policy(settings, clock=clock, aws=PatientAws(aws, clock))


async def life(aws_url: str, upstream: str, places: Places, lines_at_once: int) -> None:
    """One worker's life; it does not end by itself."""
    from edgewise.api.lines import Lines
    from edgewise.jobs.share import Share
    from edgewise.jobs.work import ChunkWork
    from edgewise.jobs.worker import Worker

    clock, aws = SystemClock(), aws_at(aws_url)
    moody = Moody(aws, 0.05)
    room, _ = room_at(moody, places, clock, OPTIONS)
    policy = policy_at(moody, places.table, clock)
    rooms = fakes.rooms(clock=clock, caller=HttpCaller(upstream), policy=policy, router=PricedRouter())
    lines = Lines(lambda: rooms, policy.impersonate, None, policy)
    worker = Worker(room, ChunkWork(room, lines, Share(clock, lines_at_once)))

    async def twice(event: dict[str, Any], left_s: float) -> dict[str, Any]:
        copies = [{**record, "messageId": record["messageId"] + "-again"} for record in event["Records"]]
        told = await worker.handle({"Records": event["Records"] + copies}, left_s)
        names = {failure["itemIdentifier"].removesuffix("-again") for failure in told["batchItemFailures"]}
        return {"batchItemFailures": [{"itemIdentifier": name} for name in names]}

    await pump(aws, places.queue, twice, most=4)


def main() -> None:
    """Fork a worker for each line on standard input, and say its process id."""
    aws_url, upstream, table, bucket, queue, dead, at_once = sys.argv[1:]
    places = Places(table, bucket, queue, dead)

    aws_at(aws_url).client("dynamodb")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    children: list[int] = []
    for _ in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            random.seed(os.getpid())
            asyncio.run(life(aws_url, upstream, places, int(at_once)))
            os._exit(0)
        children.append(child)
        print(child, flush=True)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
