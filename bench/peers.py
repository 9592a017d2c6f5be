"""What a request costs here and elsewhere: this gateway beside other servers, before one upstream, in one run.

    edgewise bench peers [--rounds R] [--seconds S] [--only NAME,...] [--install] [--json FILE]

Each server has core 1 to itself while it is measured; upstream and load are on core 0. Every round measures all
servers back to back, so ratios are within a round; what is told is the median over the rounds. CPU is the server's
user and system time by /proc, the number that neighbours disturb least; latencies on a shared machine are not worth
much. Linux, two cores, `taskset`.

    direct        the upstream alone: what the load itself costs
    lean-aiohttp  the least that a Python pass-through can be, in this environment
    lean-fastapi  FastAPI, a pydantic body and httpx
    litellm       LiteLLM's proxy; `litellm-cache` with its cache in memory

The last two have environments under .venv/peers, which `--install` makes; without them they are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import uvloop

from bench.beside.contestant import OTHER, Contestant, free_port, pinned
from bench.beside.edgewise_app import KEY
from bench.beside.load import SLOT, Ask, Tally, load

HOME = Path(".venv/peers")
NEEDED = {
    "lean-fastapi": ["fastapi>=0.120,<1", "httpx>=0.28,<1", "uvicorn>=0.34,<1", "uvloop", "httptools"],
    "litellm": ["litellm[proxy]>=1.80,<2"],
}
BASELINE = "lean-aiohttp"
SLOW, SHORT, LONG = "lat-1000", "itl-10-n-10", "itl-10-n-60"
LONGER_BY = 50
"""Chunks that a long stream has more than a short one."""
LITELLM_KEY = "sk-" + "a1b2c3d4" * 4
LITELLM_QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "DO_NOT_TRACK": "1"}

Figures = dict[str, dict[str, list[float]]]
"""Server to figure to its values, one a round."""


def contestants(upstream: str, folder: Path) -> list[Contestant]:
    """Every server that is installed here."""
    environ = {"BENCH_UPSTREAM": upstream}
    serve = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "PORT", "--log-level", "error", "--no-access-log"]
    key = (f"authorization: Bearer {KEY}",)
    app = "bench.beside.edgewise_app:app"
    found = [
        Contestant("edgewise", [sys.executable, *serve, "--factory", app], key, "up/{}", environ),
        Contestant("lean-aiohttp", [sys.executable, *serve, "bench.beside.lean_aiohttp:app"], environ=environ),
    ]
    lean = HOME / "lean-fastapi" / "bin" / "python"
    if lean.exists():
        found.append(Contestant("lean-fastapi", [str(lean), *serve, "bench.beside.lean_fastapi:app"], environ=environ))
    litellm = HOME / "litellm" / "bin" / "litellm"
    if litellm.exists():
        for name in ("litellm", "litellm-cache"):
            written = folder / f"{name}.json"
            written.write_text(json.dumps(_litellm(upstream, cached=name == "litellm-cache")))
            command = [str(litellm), "--config", str(written), "--host", "127.0.0.1", "--port", "PORT"]
            quiet = {**LITELLM_QUIET, "LITELLM_MASTER_KEY": LITELLM_KEY}
            found.append(Contestant(name, command, (f"authorization: Bearer {LITELLM_KEY}",), environ=quiet))
    return found


def _litellm(upstream: str, *, cached: bool) -> dict[str, Any]:
    """Its configuration (JSON is YAML)."""
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": f"{upstream}/v1", "api_key": "sk-upstream"},
        }
        for name in ("m", SLOW, SHORT, LONG)
    ]
    cache = {"cache": True, "cache_params": {"type": "local"}} if cached else {}
    return {"model_list": models, "litellm_settings": {"telemetry": False, "num_retries": 0, **cache}}


async def costed(server: Contestant, ask: Ask, connections: int, seconds: float) -> tuple[Tally, float]:
    """(what came of the load, the server's CPU in µs a request)."""
    before = server.cpu_s()
    tally = await load(ask, connections, seconds)
    if tally.refused or not tally.answered:
        raise RuntimeError(f"{server.name} refused {tally.refused} of {tally.refused + tally.answered} requests")
    return tally, (server.cpu_s() - before) / tally.answered * 1e6


async def passing(server: Contestant, seconds: float, figures: dict[str, list[float]]) -> None:
    """Every question is new."""
    ask = server.ask("m", f"Say hello to number {SLOT}.")
    for connections in (1, 10, 50):
        tally, cost_us = await costed(server, ask, connections, seconds)
        figures[f"pass-through c={connections}, CPU µs"].append(cost_us)
        figures[f"pass-through c={connections}, p50 ms"].append(tally.p50_ms)


async def streaming(server: Contestant, seconds: float, figures: dict[str, list[float]]) -> None:
    """Chunks ten milliseconds apart, twenty streams at once; what fifty chunks more cost is the cost of a chunk."""
    costs = []
    for model in (SHORT, LONG):
        tally, cost_us = await costed(server, server.ask(model, f"Story {SLOT}.", stream=True), 20, seconds)
        costs.append(cost_us)
    figures["stream of 10 chunks, CPU µs"].append(costs[0])
    figures["each further chunk, CPU µs"].append((costs[1] - costs[0]) / LONGER_BY)
    figures["first byte of a stream, p50 ms"].append(statistics.median(tally.first_ms))


async def hits(server: Contestant, seconds: float, figures: dict[str, list[float]], upstream: int) -> None:
    ask = server.ask("m", "The same question every time.")
    await load(ask, 1, 0)
    await calls(upstream)
    tally, cost_us = await costed(server, ask, 10, seconds)
    if await calls(upstream) > 0.01 * tally.answered:
        raise RuntimeError(f"{server.name} does not cache")
    figures["exact hit c=10, CPU µs"].append(cost_us)
    figures["exact hit c=10, p50 ms"].append(tally.p50_ms)


async def stampede(server: Contestant, figures: dict[str, list[float]], upstream: int) -> None:
    """A hundred identical questions at once, of which the upstream takes a second to answer one."""
    question = f"stampede {len(figures['upstream calls of 100 identical'])}"
    await calls(upstream)
    await load(server.ask(SLOW, question), 100, 0)
    figures["upstream calls of 100 identical"].append(float(await calls(upstream)))


async def calls(upstream: int) -> int:
    """How many chats the upstream was asked since the last look."""
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream)
    writer.write(b"GET /calls HTTP/1.1\r\n\r\n")
    told = (await reader.readuntil(b"\r\n\r\n")) + await reader.read(20)
    writer.close()
    return int(told.rpartition(b"\r\n\r\n")[2])


async def measure(servers: list[Contestant], upstream: int, rounds: int, seconds: float) -> Figures:
    figures: Figures = defaultdict(lambda: defaultdict(list))
    running = []
    try:
        for server in servers:
            try:
                figures[server.name]["start to first 200, s"].append(await server.start())
            except RuntimeError as error:
                print(f"{error}: left out", file=sys.stderr)
                server.stop()
                continue
            figures[server.name]["RSS at rest, MB"].append(server.rss_mb())
            running.append(server)
            await load(server.ask("m", f"Warm up {SLOT}."), 10, seconds)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for server in running:
                await _round(server, upstream, seconds, figures[server.name])
        for server in running:
            figures[server.name]["RSS after, MB"].append(server.rss_mb())
    finally:
        for server in servers:
            server.stop()
    return figures


async def _round(server: Contestant, upstream: int, seconds: float, figures: dict[str, list[float]]) -> None:
    caches = server.name in ("edgewise", "litellm-cache")
    if server.name != "litellm-cache":
        await passing(server, seconds, figures)
        await streaming(server, seconds, figures)
    if caches:
        await hits(server, seconds, figures, upstream)
    await stampede(server, figures, upstream)


def table(figures: Figures) -> str:
    """Markdown: a row a figure, a column a server: median, and its ratio to the baseline's."""
    names = list(figures)
    rows = list(dict.fromkeys(row for server in figures.values() for row in server))
    lines = ["| |" + "".join(f" {name} |" for name in names), "|---|" + "---|" * len(names)]
    for row in rows:
        base = figures.get(BASELINE, {}).get(row)
        cells = [_cell(figures[name].get(row), base if name != BASELINE else None) for name in names]
        lines.append(f"| {row} |" + "".join(f" {cell} |" for cell in cells))
    return "\n".join(lines)


def _cell(values: list[float] | None, base: list[float] | None) -> str:
    if not values:
        return "–"
    middle = statistics.median(values)
    told = _short(middle)
    if min(values) != max(values):
        told += f" [{_short(min(values))}–{_short(max(values))}]"
    return f"{told} ({_ratio(middle / statistics.median(base))}×)" if base else told


def _ratio(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def install() -> None:
    """Make the environments of the peers that have one. Asks the package registry."""
    for name, packages in NEEDED.items():
        folder = HOME / name
        if not folder.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)


def main() -> None:
    parser = argparse.ArgumentParser("edgewise bench peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--only", default="", help="servers, with commas")
    parser.add_argument("--install", action="store_true", help="make the environments of the peers")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.install:
        install()
    os.sched_setaffinity(0, {OTHER})
    port = free_port()
    upstream = pinned([sys.executable, "-m", "bench.beside.upstream", str(port)], OTHER)
    only = set(filter(None, options.only.split(",")))
    try:
        with tempfile.TemporaryDirectory() as folder:
            servers = contestants(f"http://127.0.0.1:{port}", Path(folder))
            servers = [server for server in servers if not only or server.name in only]
            figures = uvloop.run(measure(servers, port, options.rounds, options.seconds))
    finally:
        upstream.terminate()
        upstream.wait()
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
