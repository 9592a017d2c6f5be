"""What policy and record cost on a cache hit, as a share of the whole request's CPU.

The same app answers the same question from its memory cache, in one process, without a server. Rounds with the real
rooms alternate with rounds in which policy and record are empty (a constant principal and plan, a note that is
dropped); the share is one minus the ratio of their CPU times, beside what each room's calls take by themselves.

Three keys: the root key; a key with terms (its row is remembered); a key whose prompts are also searched for personal
data. No budgets or limits: those cost writes, and a write's CPU is measured by `bench.dynamo`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from edgewise.api.app import app
from edgewise.assemble.house import House, build
from edgewise.chat import Answer
from edgewise.policy.desk import KeyDesk
from edgewise.policy.room import ROOT
from edgewise.policy.terms import Terms
from edgewise.settings import Settings
from edgewise.words import Attempt, CachePolicy, Choice, Credentials, Note, Plan, Principal

ROOT_KEY = "ew_root_of_the_benchmark"
PROMPT = "Explain in two sentences why the sky is blue and what changes at sunset. " * 12
BODY = {
    "model": "scripted/echo",
    "messages": [
        {"role": "system", "content": "You are a careful teacher. Answer briefly."},
        {"role": "user", "content": PROMPT},
    ],
}


class EmptyPolicy:
    """Lets everybody do everything, without looking."""

    async def identify(self, _: Credentials) -> Principal:
        return ROOT

    async def plan(self, principal: Principal, request: Any, _: Credentials) -> Plan:
        return Plan(principal, request, cache=CachePolicy())

    async def reserve(self, plan: Plan, choice: Choice) -> Any:
        return None

    async def mend(self, plan: Plan, answer: Answer, again: Any) -> Answer:
        return answer

    async def settle(self, hold: Any, attempts: list[Attempt]) -> None:
        return None

    async def close(self, plan: Plan) -> None:
        return None


class EmptyRecord:
    def note(self, note: Note) -> None:
        return None


class Sink:
    """A line's way out, as far as /dev/null."""

    def __init__(self) -> None:
        self._file = os.open(os.devnull, os.O_WRONLY)

    def __call__(self, line: bytes) -> None:
        os.write(self._file, line)


async def keys_of(house: House) -> dict[str, str]:
    desk = KeyDesk(house.policy, house.clock)

    async def made(**terms: Any) -> str:
        form = Terms.model_validate(terms)
        return (await desk.create(ROOT, tenant="acme", name="bench", terms=form, expires_at=None))[1]

    return {
        "root key": ROOT_KEY,
        "key with terms": await made(cache={"ttl_s": 3600}, guards={"max_messages": 100}),
        "key with terms, models named": await made(models=["scripted/*"]),
        "key with terms, PII flagged": await made(guards={"pii": "flag"}),
    }


def asker(application: Any, key: str, body: bytes) -> Callable[[], Awaitable[int]]:
    """One request through the app; its status."""
    headers = [
        (b"host", b"localhost"),
        (b"authorization", f"Bearer {key}".encode()),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"user-agent", b"OpenAI/Python 2.0.0"),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "root_path": "",
        "client": ("203.0.113.9", 5000),
        "server": ("localhost", 80),
    }

    async def ask() -> int:
        status = 0
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.sleep(3600)
            return {}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        await application({**scope, "headers": headers}, receive, send)
        return status

    return ask


async def cpu_us(ask: Callable[[], Awaitable[int]], times: int) -> float:
    """CPU microseconds of one request."""
    gc.collect()
    gc.freeze()  # as the runtime does after its imports
    began = time.process_time()
    for _ in range(times):
        await ask()
    return (time.process_time() - began) / times * 1e6


async def alone_us(house: House, credentials: Credentials, request: Any, times: int) -> float:
    """What policy's three calls and the record's one take by themselves, on a hit."""
    notes: list[Note] = []
    house.record.watch(lambda note, _: notes.append(note))
    await asker(app(house.rooms, house.settings), credentials.token or "", json.dumps(BODY).encode())()
    note = notes[-1]
    house.record._observers.pop()
    began = time.process_time()
    for _ in range(times):
        principal = await house.policy.identify(credentials)
        plan = await house.policy.plan(principal, request, credentials)
        await house.policy.close(plan)
        house.record.note(note)
    return (time.process_time() - began) / times * 1e6


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    from edgewise.chat import ChatRequest

    house = build(Settings(root_key=ROOT_KEY, scripted_model=True, metrics="emf"))
    house.record._out = Sink()
    keys = await keys_of(house)
    body = json.dumps(BODY).encode()
    real = app(house.rooms, house.settings)
    empty_rooms = build(Settings(root_key=ROOT_KEY, scripted_model=True)).rooms
    empty_rooms.policy, empty_rooms.record = EmptyPolicy(), EmptyRecord()
    bare = app(empty_rooms, house.settings)
    told: dict[str, Any] = {}
    for name, key in keys.items():
        full, without = asker(real, key, body), asker(bare, key, body)
        for ask in (full, without):
            assert [await ask() for _ in range(50)][-1] == 200
        ratios, fulls, bares = [], [], []
        for _ in range(options.rounds):
            fulls.append(await cpu_us(full, options.times))
            bares.append(await cpu_us(without, options.times))
            ratios.append(1 - bares[-1] / fulls[-1])
        alone = await alone_us(
            house, Credentials(key, "/v1/chat/completions", "203.0.113.9"), ChatRequest(BODY), options.times
        )
        told[name] = {
            "request_us": round(statistics.median(fulls), 1),
            "without_us": round(statistics.median(bares), 1),
            "share": round(statistics.median(ratios), 3),
            "share_spread": [round(min(ratios), 3), round(max(ratios), 3)],
            "rooms_alone_us": round(alone, 1),
        }
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--times", type=int, default=1500, help="requests a round")
    parser.add_argument("--most", type=float, default=0.30, help="the share above which this fails")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    told = asyncio.run(measure(options))
    for name, row in told.items():
        low, high = row["share_spread"]
        print(
            f"{name:<30} {row['request_us']:7.1f} µs a hit, {row['without_us']:7.1f} without: policy and record "
            f"{100 * row['share']:4.1f} % ({100 * low:.1f} to {100 * high:.1f}); alone {row['rooms_alone_us']:.1f} µs"
        )
    if options.json:
        Path(options.json).write_text(json.dumps(told, indent=2), encoding="utf-8")
    return 0 if all(row["share"] <= options.most for row in told.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
