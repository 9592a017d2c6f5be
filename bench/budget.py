"""Budgets under contention and death: is the cap kept to the cent, and does everything held come back?

Four processes share one DynamoDB table and one budget; together they keep 200 requests in flight. Each request holds
its worst case, works for a random moment, and settles at a random cost below it. In the second part half of the
processes are killed (SIGKILL) while they hold; when the leases have ended, nothing may be missing. In the last part
each request is a text that estimates of tokens go wrong on (emoji, base64, rare characters, random Unicode), held at
what routing says it may cost and charged by OpenAI's own vocabulary.

Said of the run:
  spent <= cap            exact, to the picodollar, from the settlements that every process wrote to its own log
  false refusals          refusals while the budget's own record had room for the worst case at that moment
  left over at the end    what could still be spent when asking stopped: less than one worst case
  leaked after leases     what is in use in the table less what was settled

The stand-in for DynamoDB is moto behind one lock: requests are judged one at a time, as DynamoDB's conditional writes
are per item. (Without the lock, moto's transactions undo each other's writes.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.garbage import ENCODINGS, KINDS, exact, garbage, of
from edgewise.aws import Aws, AwsOptions, Table
from edgewise.chat import ChatRequest, Usage
from edgewise.clock import SystemClock
from edgewise.errors import QuotaExceeded
from edgewise.local import template
from edgewise.policy.budgets import Ledger, Line, picodollars, window_of
from edgewise.policy.dynamodb_tills import DynamoTills
from edgewise.policy.terms import Budget
from edgewise.policy.tills import Full, Taken, Till
from edgewise.price import Price
from edgewise.routing.ask import demand_of, price
from edgewise.routing.tokens import Corrections
from edgewise.words import Attempt, Choice, Model, Step

TABLE = "state"
MODEL = Model("bench", "m", price=Price(Decimal(1), Decimal(1)))


def serve_moto() -> str:
    """A moto server that judges one request at a time; its URL."""
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    inner = DomainDispatcherApplication(create_backend_app)
    lock = threading.Lock()

    def one_at_a_time(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        with lock:
            return list(inner(environ, start))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.port}"


def aws_at(url: str, threads: int = 50) -> Aws:
    return Aws(
        AwsOptions(
            region="us-east-1",
            endpoint_url=url,
            access_key_id="test",
            secret_access_key="test",
            threads=threads,
            read_timeout_s=60,
        )
    )


FULL: ContextVar[Full] = ContextVar("FULL")


class Watched(DynamoTills):
    """Tells of every refusal, to the task that was refused, how much was in use at that moment."""

    async def take(self, tills: Any, amounts: Any, hold: str, until: float) -> Taken | Full:
        outcome = await super().take(tills, amounts, hold, until)
        if isinstance(outcome, Full):
            FULL.set(outcome)
        return outcome


def lines_for(run: str, cap: Decimal, scopes: int) -> tuple[Line, ...]:
    """One budget, or several that all count every request."""
    window = window_of("forever", 0)
    return tuple(
        Line(
            Till(f"budget#{run}", f"scope{number}#forever#ever", picodollars(cap)),
            Budget(per="forever", usd=cap),
            "This key's budget",
            window,
        )
        for number in range(scopes)
    )


def fixed(options: argparse.Namespace, rng: random.Random) -> Iterator[tuple[Decimal, Decimal]]:
    """The worst case of each request and what it costs: one worst case for all, and any cost below it."""
    while True:
        yield options.worst, (options.worst * rng.randint(1, 1000) / 1000).quantize(Decimal("1e-9"))


def texts(options: argparse.Namespace, rng: random.Random) -> Iterator[tuple[Decimal, Decimal]]:
    """Worst cases as routing says them, of texts that estimates of tokens go wrong on; each costs its exact tokens by
    OpenAI's vocabulary, and an answer as long as it may be. `estimate` holds what is likely and a tenth, to compare."""
    assert MODEL.price is not None
    corrections = Corrections()
    while True:
        text = garbage(rng.choice(KINDS), rng.choice((20, 200, 600)), rng.randrange(10**6))
        limit = rng.choice((1, 16, 64))
        request = ChatRequest({**of(text).body, "max_completion_tokens": limit})
        demand = demand_of(request)
        if options.texts == "estimate":
            demand = replace(demand, most_tokens=None)
        worst = price(MODEL, demand, corrections)[1]
        assert worst is not None
        yield worst, MODEL.price.cost(Usage(exact(request, rng.choice(ENCODINGS)), limit))


async def work(url: str, log: Path, options: argparse.Namespace) -> None:
    """One process: `options.width` requests at once until the budget refuses them all, or for ever."""
    clock, rng = SystemClock(), random.Random(os.getpid())
    tills = Watched(Table(aws_at(url), TABLE), clock)
    ledger = Ledger(tills, clock, lease_s=options.lease_s)
    lines = lines_for(options.run, options.cap, options.scopes)
    asked = texts(options, rng) if options.texts else fixed(options, rng)
    refused_in_a_row = 0
    with log.open("a", buffering=1) as out:

        async def ask() -> None:
            nonlocal refused_in_a_row
            while refused_in_a_row < options.width:
                worst, cost = next(asked)
                choice = Choice((Step((MODEL,)),), "fixed", "", worst_usd=worst)
                try:
                    hold = await ledger.reserve(lines, choice)
                except QuotaExceeded:
                    refused_in_a_row += 1
                    out.write(json.dumps({"refused": FULL.get().used, "asked": picodollars(worst)}) + "\n")
                    await asyncio.sleep(0.05)
                    continue
                refused_in_a_row = 0
                assert hold is not None
                await asyncio.sleep(rng.random() * options.busy_s)
                out.write(json.dumps({"settling": hold.id, "cost": str(cost)}) + "\n")
                await ledger.settle(hold, [Attempt(MODEL, cost_usd=cost)])
                out.write(json.dumps({"settled": hold.id, "cost": str(cost)}) + "\n")

        await asyncio.gather(*(ask() for _ in range(options.width)))


def spawn(url: str, log: Path, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    words = ["--child", url, str(log), "--run", options.run, "--cap", str(options.cap), "--worst", str(options.worst)]
    words += ["--texts", options.texts] if options.texts else []
    words += ["--width", str(options.width), "--scopes", str(options.scopes)]
    words += ["--lease-s", str(options.lease_s), "--busy-s", str(options.busy_s)]
    return subprocess.Popen([sys.executable, "-m", "bench.budget", *words])


def read(logs: list[Path]) -> tuple[dict[str, Decimal], dict[str, Decimal], list[tuple[int, int]]]:
    """What was settled for sure, what was being settled, and of each refusal what was in use and what was asked."""
    sure: dict[str, Decimal] = {}
    begun: dict[str, Decimal] = {}
    refused: list[tuple[int, int]] = []
    for log in logs:
        for text in log.read_text().splitlines():
            try:
                row = json.loads(text)
            except ValueError:
                continue  # the last line of a process that was killed
            if "settled" in row:
                sure[row["settled"]] = Decimal(row["cost"])
            elif "settling" in row:
                begun[row["settling"]] = Decimal(row["cost"])
            else:
                refused.append((int(row["refused"]), int(row["asked"])))
    return sure, begun, refused


async def in_use(url: str, options: argparse.Namespace, at: float) -> list[Decimal]:
    aws = aws_at(url, 2)
    tills = DynamoTills(Table(aws, TABLE), SystemClock())
    used = await tills.used([line.till for line in lines_for(options.run, options.cap, options.scopes)], at)
    aws.close()
    return [Decimal(amount) / 10**12 for amount in used]


def run(url: str, options: argparse.Namespace, name: str, *, kill: bool = False, **changes: Any) -> dict[str, Any]:
    """One part of the benchmark, with budgets of its own."""
    options = argparse.Namespace(**{**vars(options), "run": name, **changes})
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"{number}.log" for number in range(options.processes)]
        began = time.perf_counter()
        children = [spawn(url, log, options) for log in logs]
        if kill:
            while sum(log.exists() and log.stat().st_size > 2_000 for log in logs) < len(logs):
                time.sleep(0.05)
            for child in children[: len(children) // 2]:
                child.send_signal(signal.SIGKILL)
        for child in children:
            child.wait()
        took_s = time.perf_counter() - began
        sure, begun, refused = read(logs)
        now = time.time()
        held = asyncio.run(in_use(url, options, now))
        settled_in_table = asyncio.run(in_use(url, options, now + options.lease_s + 1))
    spent = sum(sure.values(), Decimal(0))
    wrongly = sum(used + asked <= picodollars(options.cap) for used, asked in refused)
    most = max((Decimal(asked) / 10**12 for _, asked in refused), default=options.worst)
    unsure = sum((cost for hold, cost in begun.items() if hold not in sure), Decimal(0))
    return {
        "cap": options.cap,
        "requests settled": len(sure),
        "refused": len(refused),
        "refused with room": wrongly,
        "spent": spent,
        "spent but not confirmed before the kill": unsure,
        "in use now": max(held),
        "in use after leases": max(settled_in_table),
        "room left": options.cap - max(settled_in_table),
        "leaked after leases, at least": min(settled_in_table) - spent - unsure,
        "leaked after leases, at most": max(settled_in_table) - spent,
        "seconds": round(took_s, 1),
        "ok": wrongly == 0
        and spent <= options.cap
        and max(settled_in_table) <= options.cap
        and spent <= min(settled_in_table)
        and max(settled_in_table) <= spent + unsure
        and (kill or options.cap - max(settled_in_table) < most),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, metavar=("URL", "LOG"))
    parser.add_argument("--run", default="")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--width", type=int, default=50, help="requests in flight in each process")
    parser.add_argument("--scopes", type=int, default=1, help="budgets that every request counts against")
    parser.add_argument("--cap", type=Decimal, default=Decimal("5.00"))
    parser.add_argument("--worst", type=Decimal, default=Decimal("0.0137"))
    parser.add_argument("--texts", choices=("bound", "estimate"), help="hold what routing says of adversarial texts")
    parser.add_argument("--lease-s", type=float, default=120.0)
    parser.add_argument("--busy-s", type=float, default=0.2)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(argv)
    if options.child:
        asyncio.run(work(options.child[0], Path(options.child[1]), options))
        return 0
    url = serve_moto()
    asyncio.run(template.create_table(aws_at(url, 2), "StateTable", TABLE))
    told = {
        "contention": run(url, options, "contention"),
        "half killed": run(url, options, "killed", kill=True),
        "two budgets at once": run(url, options, "two", scopes=2, cap=options.cap / 5),
        "adversarial texts": run(url, options, "texts", texts="bound", cap=options.cap / 10),
    }
    # What holding a tenth above an estimate would do to the same texts: for comparison, so its verdict does not count.
    beside = {
        "adversarial texts, held at an estimate": run(url, options, "likely", texts="estimate", cap=options.cap / 10)
    }
    for part, rows in {**told, **beside}.items():
        print(part)
        for name, value in rows.items():
            print(f"  {name:<42} {value}")
    if options.json:
        Path(options.json).write_text(json.dumps({**told, **beside}, default=str, indent=2), encoding="utf-8")
    return 0 if all(rows["ok"] for rows in told.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
