"""Budgets under contention and death: is the cap kept to the cent, and does everything held come back?

Four processes share one DynamoDB table and one budget; together they keep 200 requests in flight. Each request holds
its worst case, works for a random moment, and settles at a random cost below it. In the second part half of the
processes are killed (SIGKILL) while they hold; when the leases have ended, nothing may be missing.

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
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from edgewise.aws import Aws, AwsOptions, Table
from edgewise.clock import SystemClock
from edgewise.errors import QuotaExceeded
from edgewise.local import template
from edgewise.policy.budgets import Ledger, Line, picodollars, window_of
from edgewise.policy.dynamodb_tills import DynamoTills
from edgewise.policy.terms import Budget
from edgewise.policy.tills import Full, Taken, Till
from edgewise.words import Attempt, Choice, Model, Price, Step

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


class Watched(DynamoTills):
    """Tells of every refusal how much was in use at that moment."""

    full: Any = None

    async def take(self, tills: Any, amounts: Any, hold: str, until: float) -> Taken | Full:
        outcome = await super().take(tills, amounts, hold, until)
        if isinstance(outcome, Full):
            self.full = outcome
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


async def work(url: str, log: Path, options: argparse.Namespace) -> None:
    """One process: `options.width` requests at once until the budget refuses them all, or for ever."""
    clock, rng = SystemClock(), random.Random(os.getpid())
    tills = Watched(Table(aws_at(url), TABLE), clock)
    ledger = Ledger(tills, clock, lease_s=options.lease_s)
    lines = lines_for(options.run, options.cap, options.scopes)
    choice = Choice((Step((MODEL,)),), "fixed", "", worst_usd=options.worst)
    refused_in_a_row = 0
    with log.open("a", buffering=1) as out:

        async def ask() -> None:
            nonlocal refused_in_a_row
            while refused_in_a_row < options.width:
                try:
                    hold = await ledger.reserve(lines, choice)
                except QuotaExceeded:
                    refused_in_a_row += 1
                    out.write(json.dumps({"refused": tills.full.used}) + "\n")
                    await asyncio.sleep(0.05)
                    continue
                refused_in_a_row = 0
                assert hold is not None
                await asyncio.sleep(rng.random() * options.busy_s)
                cost = (options.worst * rng.randint(1, 1000) / 1000).quantize(Decimal("1e-9"))
                out.write(json.dumps({"settling": hold.id, "cost": str(cost)}) + "\n")
                await ledger.settle(hold, [Attempt(MODEL, cost_usd=cost)])
                out.write(json.dumps({"settled": hold.id, "cost": str(cost)}) + "\n")

        await asyncio.gather(*(ask() for _ in range(options.width)))


def spawn(url: str, log: Path, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    words = ["--child", url, str(log), "--run", options.run, "--cap", str(options.cap), "--worst", str(options.worst)]
    words += ["--width", str(options.width), "--scopes", str(options.scopes)]
    words += ["--lease-s", str(options.lease_s), "--busy-s", str(options.busy_s)]
    return subprocess.Popen([sys.executable, "-m", "bench.budget", *words])


def read(logs: list[Path]) -> tuple[dict[str, Decimal], dict[str, Decimal], list[int]]:
    """What was settled for sure, what was being settled, and what was in use at each refusal."""
    sure: dict[str, Decimal] = {}
    begun: dict[str, Decimal] = {}
    refused: list[int] = []
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
                refused.append(int(row["refused"]))
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
    unsure = sum((cost for hold, cost in begun.items() if hold not in sure), Decimal(0))
    return {
        "cap": options.cap,
        "requests settled": len(sure),
        "refused": len(refused),
        "refused with room": sum(used + picodollars(options.worst) <= picodollars(options.cap) for used in refused),
        "spent": spent,
        "spent but not confirmed before the kill": unsure,
        "in use now": max(held),
        "in use after leases": max(settled_in_table),
        "room left": options.cap - max(settled_in_table),
        "leaked after leases, at least": min(settled_in_table) - spent - unsure,
        "leaked after leases, at most": max(settled_in_table) - spent,
        "seconds": round(took_s, 1),
        "ok": sum(used + picodollars(options.worst) <= picodollars(options.cap) for used in refused) == 0
        and spent <= options.cap
        and max(settled_in_table) <= options.cap
        and spent <= min(settled_in_table)
        and max(settled_in_table) <= spent + unsure
        and (kill or options.cap - max(settled_in_table) < options.worst),
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
    }
    for part, rows in told.items():
        print(part)
        for name, value in rows.items():
            print(f"  {name:<42} {value}")
    if options.json:
        Path(options.json).write_text(json.dumps(told, default=str, indent=2), encoding="utf-8")
    return 0 if all(rows["ok"] for rows in told.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
