"""Kills workers at random moments while they work, and says what came of the lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from edgewise.aws import Aws, Table
from edgewise.clock import SystemClock
from edgewise.jobs import start, upkeep
from edgewise.jobs.batch import Batch
from edgewise.jobs.room import Room
from edgewise.policy.budgets import PICO, lines_of
from edgewise.policy.dynamodb import DynamoKeys
from edgewise.policy.keys import KeyRow
from edgewise.policy.terms import Terms
from tests.jobs.mortal import HOLD_S, OPTIONS, PRICE_USD, policy_at
from tests.jobs.rig import CHAT, chat_line, jsonl
from tests.jobs.stack import Places, room_at

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Upstream:
    """Answers after a while, fails at times, and counts the answers that it sent, by text."""

    error_share: float
    latency_s: tuple[float, float]
    chance: random.Random
    answered: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _runner: Any = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_post("/", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        text = (await request.json())["text"]
        await asyncio.sleep(self.chance.uniform(*self.latency_s))
        if self.chance.random() < self.error_share:
            return web.Response(status=503)
        self.answered[text] += 1
        return web.json_response({"text": f"echo: {text}"})


@dataclass(slots=True)
class Outcome:
    """What chaos left behind."""

    lines: int = 0
    kills: int = 0
    answered: int = 0
    asked_again: int = 0
    """Answers that the upstream sent to a worker which died before it could write them down."""
    seconds: float = 0.0
    pushed: int = 0


@dataclass(slots=True)
class Chaos:
    aws: Aws
    aws_url: str
    places: Places
    lines: int
    kills: int
    workers: int = 2
    seed: int = 1
    latency_s: tuple[float, float] = (0.02, 0.3)
    life_s: tuple[float, float] = (0.4, 2.0)
    at_once: int = 12
    room: Room = field(init=False)
    answered: Callable[[], int] = field(init=False)

    async def run(self) -> Outcome:
        """Submit batches until enough workers have died, and check every one of them."""
        self.room, _ = room_at(self.aws, self.places, SystemClock(), OPTIONS)
        await self._key()
        chance = random.Random(self.seed)
        upstream = Upstream(0.05, self.latency_s, random.Random(self.seed + 1))
        await upstream.start()
        outcome, began = Outcome(), asyncio.get_running_loop().time()
        self.answered = upstream.answered.total
        nursery = await self._nursery(upstream.url)
        try:
            while outcome.kills < self.kills:
                batch = await self._submit(outcome.lines)
                lives = [asyncio.create_task(self._reap(nursery, chance, outcome)) for _ in range(self.workers)]
                await self._ended(batch, outcome)
                for task in lives:
                    task.cancel()
                await asyncio.gather(*lives, return_exceptions=True)
                await self._check(batch, outcome)
                outcome.lines += self.lines
        finally:
            assert nursery.stdin is not None
            nursery.stdin.close()
            await nursery.wait()
            await upstream.stop()
        outcome.answered = sum(upstream.answered.values())
        outcome.asked_again = sum(count - 1 for count in upstream.answered.values())
        outcome.seconds = asyncio.get_running_loop().time() - began
        return outcome

    async def _key(self) -> None:
        """The key that all lines are charged to."""
        terms = Terms.model_validate({"budgets": [{"per": "forever", "usd": "1000"}]})
        row = KeyRow(
            id="key", tenant="acme", name="chaos", hint="aos.", digests={"d" * 64: None}, terms=terms, created_at=0.0
        )
        await DynamoKeys(Table(self.aws, self.places.table), SystemClock()).save(row, new=True)

    async def _charged(self) -> Decimal:
        """What the key's budget has been charged, when every hold of a dead worker has come back."""
        policy = policy_at(self.aws, self.places.table, SystemClock())
        lines = lines_of(await policy.impersonate("acme", "key", CHAT), SystemClock().now())
        (used,) = await policy.desk.ledger.tills.used([line.till for line in lines], SystemClock().now() + 2 * HOLD_S)
        return Decimal(used) / PICO

    async def _nursery(self, upstream: str) -> asyncio.subprocess.Process:
        places = self.places
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.jobs.mortal", self.aws_url, upstream,
            places.table, places.bucket, places.queue, places.dead, str(self.at_once),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip

    async def _submit(self, first: int) -> Batch:
        from collections.abc import AsyncIterator

        from edgewise.jobs.files import Wanted

        content = jsonl([chat_line(f"c{n}", f"question {first + n}") for n in range(self.lines)])

        async def once() -> AsyncIterator[bytes]:
            yield content

        file = await self.room.files.store("acme", Wanted("in.jsonl", "batch"), once())
        wanted = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file.id}
        return await start.create(self.room, "acme", "key", wanted)

    async def _reap(self, nursery: asyncio.subprocess.Process, chance: random.Random, outcome: Outcome) -> None:
        """One worker after the other, each killed after a while; past the number wanted they live on."""
        assert nursery.stdin is not None and nursery.stdout is not None
        while True:
            nursery.stdin.write(b"\n")
            child = int(await nursery.stdout.readline())
            try:
                enough = outcome.kills >= self.kills
                await asyncio.sleep(3600 if enough else chance.uniform(*self.life_s))
                outcome.kills += 1
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    async def _ended(self, batch: Batch, outcome: Outcome) -> None:
        while True:
            await asyncio.sleep(0.5)
            outcome.pushed += await upkeep.sweep(self.room)
            found = await self.room.batches.get(batch.id)
            if found is not None and found.ended:
                return

    async def _check(self, batch: Batch, outcome: Outcome) -> None:
        done = await self.room.batches.get(batch.id)
        assert done is not None
        found: list[dict[str, Any]] = []
        for name in (done.output_file_id, done.error_file_id):
            if name is not None:
                _, pieces = await self.room.files.content("acme", name)
                whole = b"".join([piece async for piece in pieces])
                found += [orjson.loads(raw) for raw in whole.strip().split(b"\n")]
        ids = Counter(line["custom_id"] for line in found)
        assert ids == {f"c{n}": 1 for n in range(self.lines)}
        bad = [line for line in found if line["error"] or line["response"]["status_code"] != 200]
        assert bad == [], bad[:3]
        for line in found:
            said = line["response"]["body"]["choices"][0]["message"]["content"]
            assert said == f"echo: question {outcome.lines + int(line['custom_id'][1:])}"
        assert done.status == "completed"
        assert done.wire()["request_counts"] == {"total": self.lines, "completed": self.lines, "failed": 0}
        assert done.tally.cost_usd == Decimal(PRICE_USD) * self.lines
        # No line is missing. A worker that lost its lease to a slow stand-in may have been answered beside the one that
        # took over: then the provider was asked twice, and both calls are charged.
        charged, price = await self._charged(), Decimal(PRICE_USD)
        assert price * (outcome.lines + self.lines) <= charged <= price * self.answered(), charged
