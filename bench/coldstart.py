"""What a cold start costs: the gateway beside a bare handler and the usual FastAPI, Mangum and boto3.

Two quantities, each function in turn, round after round, so that a busy machine hurts all alike:

- CPU to be ready: user and system time of a fresh interpreter that has imported the function's module.
- time to first answer: the loopback Lambda starts an environment and sends it one chat request; wall time at the
  function URL, and the environment's CPU time until then. Once without AWS, and once as deployed, with a stand-in for
  AWS on loopback: the gateway reads its root key from Secrets Manager and its cache from DynamoDB, and writes the
  answer; the usual stack reads one item.

Everything runs from compiled files: one round that is not counted comes first.

    edgewise bench coldstart [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from edgewise.aws import Aws
from edgewise.clock import SystemClock
from edgewise.local.front import Front, listen
from edgewise.local.pool import Function, Pool, pooled
from edgewise.local.serve import declared
from edgewise.local.stack import Stack, local_options

ROOT = Path(__file__).resolve().parents[1]
BASELINE = "usual"
CHAT = {"model": "scripted/echo", "messages": [{"role": "user", "content": "hello"}]}
KEY = "ew_bench"
ENVIRONMENT = {
    "EDGEWISE_ROOT_KEY": KEY,
    "EDGEWISE_SCRIPTED_MODEL": "true",
    "EDGEWISE_REQUEST_LOG": "false",
    "EDGEWISE_BEDROCK": "false",
    # The stand-in for DynamoDB is slower than the real one.
    "EDGEWISE_CACHE_TIMEOUT_S": "10",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "OPENBLAS_NUM_THREADS": "1",
}

# What the template sets for the gateway beside settings.
LITERALS = {
    name: value
    for name, value in declared("GatewayFunction", {}, concurrency=1).environ.items()
    if not name.startswith("EDGEWISE_") and not name.startswith("AWS_")
}


@dataclass(frozen=True)
class Start:
    """One function to start. `prologue` is what its runtime does before the module is imported."""

    name: str
    title: str
    folder: Path
    handler: str
    streams: bool = False
    prologue: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)

    def command(self) -> tuple[str, ...]:
        managed = (sys.executable, "-m", "awslambdaric", self.handler)
        return (str(ROOT / "functions/gateway/run"), *managed) if self.streams else managed


STARTS = (
    Start("bare", "a bare handler", ROOT / "bench/starts", "bare.handler"),
    Start(BASELINE, "FastAPI + Mangum + boto3 DynamoDB", ROOT / "bench/starts", "usual.handler"),
    Start(
        "gateway",
        "Edgewise, streaming (app.py)",
        ROOT / "functions/gateway",
        "app.app",
        streams=True,
        prologue="import edgewise.runtime, gc; gc.disable();",
        environ=LITERALS,
    ),
    Start(
        "buffered",
        "Edgewise, buffered (buffered.py)",
        ROOT / "functions/gateway",
        "buffered.handler",
        environ=LITERALS,
    ),
)


def import_ms(start: Start, environ: Mapping[str, str]) -> float:
    """CPU of a fresh interpreter that imports the module, milliseconds, the interpreter's own start included."""
    module = start.handler.partition(".")[0]
    code = f"{start.prologue}import time, {module}; print(time.process_time())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=start.folder,
        env={**environ, **start.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1]) * 1000


async def first_answer(start: Start, environ: Mapping[str, str], clock: SystemClock) -> tuple[float, float]:
    """Wall and CPU milliseconds from a request that meets no environment until its answer is whole."""
    function = Function(
        start.name, start.folder, start.handler, start.command(), environ={**environ, **start.environ}, concurrency=1
    )
    async with pooled(function, clock) as pool:
        runner, port = await listen(Front(pool, clock))
        try:
            async with aiohttp.ClientSession() as session:
                began = clock.tick()
                async with session.post(
                    f"http://127.0.0.1:{port}/v1/chat/completions",
                    json=CHAT,
                    headers={"authorization": f"Bearer {KEY}"},
                ) as response:
                    body = await response.read()
                    wall = (clock.tick() - began) * 1000
                    if response.status != 200:
                        raise SystemExit(f"{start.name} answered {response.status}: {body[:300]!r}")
                await pool.settle()
                return wall, _cpu_ms(pool)
        finally:
            await runner.cleanup()


def _cpu_ms(pool: Pool) -> float:
    (environment,) = pool.environments
    assert environment.process is not None
    fields = Path(f"/proc/{environment.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1000


async def measure(rounds: int, tables: Mapping[str, str]) -> dict[str, dict[str, list[float]]]:
    """Every quantity of every function, one value per round."""
    plain = {**os.environ, **ENVIRONMENT}
    stored = {**plain, **tables, "AWS_ENDPOINT_URL": tables["EDGEWISE_LOCAL_AWS_URL"]}
    del stored["EDGEWISE_ROOT_KEY"]
    stored["EDGEWISE_ROOT_KEY_SECRET"] = await _secret(tables["EDGEWISE_LOCAL_AWS_URL"])
    clock = SystemClock()
    found: dict[str, dict[str, list[float]]] = {start.name: {} for start in STARTS}
    for number in range(rounds + 1):
        for start in STARTS:
            values = {"import_cpu_ms": import_ms(start, plain)}
            values["first_ms"], values["first_cpu_ms"] = await first_answer(start, plain, clock)
            values["first_stored_ms"], values["first_stored_cpu_ms"] = await first_answer(start, stored, clock)
            if number:
                for name, value in values.items():
                    found[start.name].setdefault(name, []).append(value)
    return found


async def _secret(url: str) -> str:
    aws = Aws(local_options(url))
    made = await aws.call("secretsmanager", "create_secret", Name="bench", SecretString=json.dumps({"root_key": KEY}))
    aws.close()
    return str(made["ARN"])


def summary(found: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Any]:
    """Median, least and most of each quantity, and its ratio to the usual stack's median."""
    rows: dict[str, Any] = {}
    for name, quantities in found.items():
        rows[name] = {
            quantity: {
                "median": round(statistics.median(values), 1),
                "least": round(min(values), 1),
                "most": round(max(values), 1),
                "ratio": round(statistics.median(values) / statistics.median(found[BASELINE][quantity]), 2),
            }
            for quantity, values in quantities.items()
        }
    return rows


def table(rows: Mapping[str, Any]) -> str:
    heads = {
        "import_cpu_ms": "import, CPU ms",
        "first_ms": "first answer, ms",
        "first_cpu_ms": "first answer, CPU ms",
        "first_stored_ms": "as deployed, ms",
        "first_stored_cpu_ms": "as deployed, CPU ms",
    }
    lines = [
        "| function | " + " | ".join(heads.values()) + " |",
        "|---|" + "---|" * len(heads),
    ]
    for start in STARTS:
        cells = [
            "{median:.0f} [{least:.0f}-{most:.0f}] x{ratio:.2f}".format(**rows[start.name][quantity])
            for quantity in heads
        ]
        lines.append(f"| {start.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("edgewise bench coldstart", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write every value to this file")
    options = parser.parse_args(argv)
    stack = Stack.start()
    try:
        found = asyncio.run(measure(options.rounds, stack.environment))
    finally:
        stack.stop()
    rows = summary(found)
    print(
        f"Python {platform.python_version()}, {options.rounds} rounds; median [least-most], x: over the usual stack\n"
    )
    print(table(rows))
    if options.json:
        told = {"python": platform.python_version(), "at": int(time.time()), "summary": rows, "values": found}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
