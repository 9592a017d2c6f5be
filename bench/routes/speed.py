"""How long a decision takes and what it holds in memory; whether dressing a question up changes its route."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewise.chat import ChatRequest
from edgewise.clock import SystemClock
from edgewise.routing.catalog import Catalog
from edgewise.routing.room import Room
from edgewise.words import Plan, Principal

TEXTS = tuple(
    f"A shop sells {n} apples at ${n % 7 + 1} each and every third customer gets {n % 50} percent off, but only if they"
    f" buy more than {n % 11 + 2}. How much does the shop earn after {n * 3} customers, and why does it matter?"
    for n in range(400)
)
DRESSES = (
    str.upper,
    lambda text: "  " + text.replace(" ", "  ") + "\n\n",
    lambda text: f"Please answer the following question: {text}",
    lambda text: f"Hi! Could you help me with this? {text} Thank you very much!",
    lambda text: f"Question: {text}\nAnswer:",
    lambda text: f"你好，请回答以下问题：\n{text}\n谢谢。",
)


def measure() -> dict[str, Any]:
    """The figures of a fresh process, whose memory holds nothing but routing."""
    done = subprocess.run(  # a benchmark's own module
        [sys.executable, "-m", "bench.routes.speed"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_here() -> dict[str, Any]:
    """Milliseconds of CPU a decision (resolve and choose), megabytes added, share of routes that a dress leaves."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    room = hosted()
    asyncio.run(_decide(room, TEXTS[0]))
    gc.collect()
    times = asyncio.run(_timed(room))
    times.sort()
    same = asyncio.run(dressed(room, TEXTS))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "p50_ms": round(times[len(times) // 2] * 1000, 3),
        "p99_ms": round(times[len(times) * 99 // 100] * 1000, 3),
        "added_mb": round((after - before) / 1024, 1),
        "same_route_share": round(same, 4),
    }


def hosted() -> Room:
    """A room with the whole catalogue of the hosted providers."""
    return Room(Catalog.load(["openai", "anthropic", "bedrock"], region="us-east-1"), SystemClock())


async def _timed(room: Room) -> list[float]:
    times = []
    for text in TEXTS * 3:
        began = time.process_time()
        await _decide(room, text)
        times.append(time.process_time() - began)
    return times


async def dressed(room: Room, texts: Sequence[str]) -> float:
    """Share of questions whose route no dress changes."""
    kept = asked = 0
    for text in texts:
        plain = await _decide(room, text)
        for dress in DRESSES:
            asked += 1
            kept += await _decide(room, dress(text)) == plain
    return kept / asked


async def _decide(room: Room, text: str) -> tuple[str, ...]:
    request = ChatRequest({"model": "auto", "messages": [{"role": "user", "content": text}]})
    plan = Plan(Principal("tenant", "key"), request)
    choice = await room.choose(request, plan, room.resolve(request, plan))
    return tuple(model.name for step in choice.steps for model in step.models)


if __name__ == "__main__":
    print(json.dumps(measure_here()))
