"""`edgewise bench day [--requests N] [--json FILE]`: a day of traffic with failing providers, in virtual time.

Four providers; two fail outright in turns, one storms with 429, all are slow at times, and for half an hour all drop
most calls at random, so that only asking again helps; a budget bounds the day. What is counted: requests lost though a
provider could have served them, attempts that ran past the deadline, spending above the budget, and retries against
their budget, over the day and in its worst half minute. A retry is asking again who has failed this request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from edgewise.chat import Answer, ChatRequest, Chunks, Usage, completion
from edgewise.clock import Deadline
from edgewise.errors import EdgewiseError, UpstreamRateLimited, UpstreamTimeout, UpstreamUnavailable
from edgewise.routing.breaker import Breakers
from edgewise.routing.catalog import Catalog
from edgewise.routing.retry_budget import LEAST, SHARE, RetryBudget
from edgewise.routing.room import Room
from edgewise.settings import Upstream
from edgewise.words import Attempt, Model, Plan, Principal

DAY_S = 86_400.0
DEADLINE_S = 20.0
PROVIDERS = ("alpha", "beta", "gamma", "delta")
BUDGET_USD = 40.0


@dataclass(slots=True)
class DayClock:
    """Virtual time that sleeping moves on: requests are taken one after another, each at its own moment."""

    time: float = 1_800_000_000.0
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    counted: int = 0

    def now(self) -> float:
        return self.time

    def tick(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += max(0.0, seconds)

    def uniform(self) -> float:
        return self.dice.random()

    def token(self, prefix: str) -> str:
        self.counted += 1
        return f"{prefix}{self.counted:024d}"


@dataclass(slots=True)
class Weather:
    """Who is down, who is storming, at a moment of the day."""

    start: float

    def down(self, provider: str, now: float) -> bool:
        """alpha and beta fail in turns: half an hour each, every two hours."""
        phase = (now - self.start) % 7200
        return (provider == "alpha" and phase < 1800) or (provider == "beta" and 3600 <= phase < 5400)

    def storming(self, provider: str, now: float) -> bool:
        """gamma answers 429 for ten minutes in every fifty; alpha and beta for two minutes after they come back."""
        phase = (now - self.start) % 7200
        back = (provider == "alpha" and 1800 <= phase < 1920) or (provider == "beta" and 5400 <= phase < 5520)
        return back or (provider == "gamma" and (now - self.start) % 3000 < 600)

    def browned(self, now: float) -> bool:
        """From one to half past one everybody drops seven of ten calls."""
        return 46_800 <= now - self.start < 48_600

    def able(self, now: float) -> list[str]:
        """Who could serve for sure."""
        if self.browned(now):
            return []
        return [p for p in PROVIDERS if not self.down(p, now) and not self.storming(p, now)]


@dataclass(slots=True)
class World:
    """Implements `Caller` against the weather; moves the clock by each call's latency."""

    clock: DayClock
    weather: Weather
    late: int = 0
    calls: int = 0

    async def complete(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Answer:
        self.calls += 1
        began, dice = self.clock.time, self.clock.dice
        if deadline.left_s() <= 0:
            self.late += 1
        if self.weather.down(model.provider, began):
            slow = dice.random() < 0.2
            wait = min(deadline.left_s(), 8.0 if slow else 0.05)
            await self.clock.sleep(wait)
            error: EdgewiseError = UpstreamTimeout("no answer") if slow else UpstreamUnavailable("503")
            raise self._failed(model, trail, began, error)
        if self.weather.storming(model.provider, began) and dice.random() < 0.9:
            await self.clock.sleep(0.03)
            raise self._failed(
                model, trail, began, UpstreamRateLimited("429", retry_after_s=dice.choice((1.0, 5.0, 20.0)))
            )
        if self.weather.browned(began) and dice.random() < 0.7:
            await self.clock.sleep(0.05)
            raise self._failed(model, trail, began, UpstreamUnavailable("503"))
        latency = (model.latency_ms or 1000.0) / 1000 * dice.lognormvariate(0, 0.4)
        if latency > deadline.left_s():
            await self.clock.sleep(max(0.0, deadline.left_s()))
            raise self._failed(model, trail, began, UpstreamTimeout("too slow"))
        await self.clock.sleep(latency)
        usage = Usage(200, dice.randrange(20, 400))
        cost = model.price.cost(usage) if model.price else None
        trail.append(Attempt(model, latency_ms=latency * 1000, usage=usage, cost_usd=cost))
        choice = {"index": 0, "message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}
        return Answer(completion([choice], id="x", created=0, model=model.id, usage=usage))

    def _failed(self, model: Model, trail: list[Attempt], began: float, error: EdgewiseError) -> EdgewiseError:
        spent_ms = (self.clock.time - began) * 1000
        trail.append(Attempt(model, status=error.status, error=error.code, latency_ms=spent_ms, cost_usd=Decimal(0)))
        return error

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks:
        raise NotImplementedError


@dataclass(slots=True)
class Watched(RetryBudget):
    """The budget, and what it gave out when: `moments` are (second, requests, retries), one thing each."""

    moments: list[tuple[int, int, int]] = field(default_factory=list)

    def request(self) -> None:
        RetryBudget.request(self)
        self.moments.append((int(self.clock.tick()), 1, 0))

    def take(self) -> bool:
        taken = RetryBudget.take(self)
        if taken:
            self.moments.append((int(self.clock.tick()), 0, 1))
        return taken

    def most_over(self) -> int:
        """Retries above what is allowed, in the half minute that had the most of them above; counted here anew."""
        over, first = 0, 0
        for last, (second, _, _) in enumerate(self.moments):
            while self.moments[first][0] <= second - self.window_s:
                first += 1
            window = self.moments[first : last + 1]
            requests, retries = sum(row[1] for row in window), sum(row[2] for row in window)
            over = max(over, math.ceil(retries - max(LEAST, SHARE * requests)))
        return over


def room_of(clock: DayClock, budget: RetryBudget) -> Room:
    prices = {"alpha": "0.5", "beta": "0.6", "gamma": "0.4", "delta": "3"}
    rows = {
        f"{name}/chat": {
            "tier": "medium", "quality": 0.8, "latency_ms": 900, "context": 128000, "output": 800,
            "capabilities": ["streaming"], "price": {"i": price, "o": str(float(price) * 4)},
        }
        for name, price in prices.items()
    }  # fmt: skip
    upstreams = [Upstream(name=name, base_url="http://127.0.0.1:9", models=("chat",)) for name in PROVIDERS]
    catalog = Catalog.load([], upstreams=upstreams, overrides=rows)
    # Several environments share one store in life; here one room stands for all, so nothing is believed for long.
    return Room(catalog, clock, breakers=Breakers(clock, believed_s=0.5), budget=budget)


async def day(requests: int, seed: int = 7) -> dict[str, Any]:
    """Run the day; the counts."""
    clock = DayClock(dice=random.Random(seed))
    start = clock.time
    weather = Weather(start)
    watched = Watched(clock)
    world, room = World(clock, weather), room_of(clock, watched)
    lost = unservable = overrun = refused = 0
    attempts = retries = served = 0
    spent = Decimal(0)
    budget = Decimal(str(BUDGET_USD)) * requests / 100_000
    for number in range(requests):
        # Requests arrive evenly; when one took long, the next is late rather than early.
        clock.time = max(clock.time, start + DAY_S * number / requests)
        request = ChatRequest(
            {
                "model": "auto",
                "messages": [{"role": "user", "content": f"How many is {number} and 7?"}],
                "max_tokens": 400,
            }
        )
        plan = Plan(Principal("tenant", "key"), request)
        choice = await room.choose(request, plan, room.resolve(request, plan))
        if choice.worst_usd is None or spent + choice.worst_usd > budget:
            refused += 1
            continue
        began, trail = clock.time, list[Attempt]()
        deadline = Deadline.after(clock, DEADLINE_S)
        try:
            live = await room.carry_out(choice, request, world, deadline, trail)
            room.observe(plan, choice, trail, live.answer)
            served += 1
        except EdgewiseError:
            if weather.able(began) and weather.able(clock.time):
                lost += 1
            else:
                unservable += 1
        overrun += clock.time > deadline.at + 1e-6
        names = [attempt.model.name for attempt in trail]
        attempts += len(names)
        retries += len(names) - len(set(names))
        spent += sum((attempt.cost_usd or Decimal(0) for attempt in trail), Decimal(0))
    return {
        "requests": requests,
        "served": served,
        "lost": lost,
        "unservable": unservable,
        "refused_by_budget": refused,
        "attempts": attempts,
        "extra_attempts_share": round((attempts - served) / max(1, requests), 4),
        "retries": retries,
        "retries_share": round(retries / max(1, requests), 4),
        "retries_over_budget": watched.most_over(),
        "attempts_past_deadline": world.late,
        "deadline_overruns": overrun,
        "spent_usd": round(float(spent), 4),
        "budget_usd": float(budget),
    }


def main(argv: list[str] | None = None) -> int:
    words = argparse.ArgumentParser(prog="edgewise bench day", description=__doc__)
    words.add_argument("--requests", type=int, default=100_000)
    words.add_argument("--json")
    given = words.parse_args(argv)
    found = asyncio.run(day(given.requests))
    for key, value in found.items():
        print(f"{key:24} {value}")
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n")
    whole = not found["lost"] and not found["attempts_past_deadline"]
    whole = whole and found["retries_share"] <= SHARE and not found["retries_over_budget"]
    return 0 if whole and found["spent_usd"] <= found["budget_usd"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
