"""Hours in minutes: a gateway under mixed, unkind traffic, and whether it keeps what it should have given back.

    edgewise bench soak [--minutes M] [--askers N] [--tables] [--json FILE]

Whole answers and streams, hits and misses, providers that fail and die at every point, clients that leave in the
middle, bad requests and wrong keys, over a gateway process with small caches, so that they are full early. What is
watched: resident memory, open files and threads of that process, after a first fifth in which everything fills.
It ends with status 1 if memory grows by more than a tenth from the second fifth to the last, if files or threads
do, or if an answer has a status that the request does not deserve. `--tables` puts tables, bucket and queue behind it
(slower: they run in moto), with a key that has budgets and limits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.beside.contestant import Contestant

KEY = "ew_soak_root_key"
POINTS = ("before-headers", "after-headers", "mid-chunk", "after-content", "before-finish", "before-usage")
FIFTHS = 5
GROWTH = 1.10
SMALL = {
    "EDGEWISE_ROOT_KEY": KEY,
    "EDGEWISE_SCRIPTED_MODEL": "true",
    "EDGEWISE_CACHE_MEMORY_ENTRIES": "500",
    "EDGEWISE_BAN_STRIKES": "1000000000",
    "EDGEWISE_REQUEST_LOG": "false",
    "MALLOC_ARENA_MAX": "2",
}


def app() -> Any:
    """The gateway that is watched."""
    from edgewise.assemble import gateway
    from edgewise.settings import Settings

    return gateway(Settings.of_process())


@dataclass(slots=True)
class Watch:
    """What the process held, look by look, and how requests ended."""

    rss_mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    def look(self, server: Contestant) -> None:
        assert server.process is not None
        proc = Path(f"/proc/{server.process.pid}")
        self.rss_mb.append(server.rss_mb())
        self.files.append(len(list((proc / "fd").iterdir())))
        self.threads.append(len(list((proc / "task").iterdir())))

    def faults(self) -> list[str]:
        """What grew, and what was answered wrongly; nothing when all is well."""
        found = [f"{what}: {count} times" for what, count in self.wrong.items()]
        held: Mapping[str, list[Any]] = {"rss_mb": self.rss_mb, "files": self.files, "threads": self.threads}
        for name, values in held.items():
            early, late = _fifth(values, 1), _fifth(values, FIFTHS - 1)
            if late > early * GROWTH + (0 if name == "rss_mb" else 5):
                found.append(f"{name} grew from {early:.1f} to {late:.1f}")
        return found


def _fifth(values: list[Any], number: int) -> float:
    size = max(1, len(values) // FIFTHS)
    return float(statistics.median(values[number * size : (number + 1) * size] or values[-1:]))


class Asker:
    """One client that never learns. `dice` decides what it does next."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str, watch: Watch, dice: random.Random) -> None:
        self._session, self._url, self._key, self._watch, self._dice = session, url, key, watch, dice
        self._kinds = [
            (self._known, 30), (self._new, 20), (self._stream, 20), (self._left, 10), (self._died, 8),
            (self._refused, 4), (self._bad, 4), (self._stranger, 2), (self._listed, 2),
        ]  # fmt: skip

    async def run(self, until: float) -> None:
        kinds, weights = zip(*self._kinds, strict=True)
        while time.monotonic() < until:
            kind = self._dice.choices(kinds, weights)[0]
            name = kind.__name__.strip("_")
            try:
                await kind()
                self._watch.ended[name] += 1
            except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
                self._watch.wrong[f"{name}: the connection broke"] += 1

    def _post(self, content: str, *, key: str | None = None, **rest: Any) -> Any:
        body = {"model": "scripted/echo", "messages": [{"role": "user", "content": content}], **rest}
        headers = {"authorization": f"Bearer {key or self._key}"}
        return self._session.post(f"{self._url}/v1/chat/completions", json=body, headers=headers)

    def _expect(self, what: str, status: int, *allowed: int) -> None:
        if status not in allowed:
            self._watch.wrong[f"{what}: {status}"] += 1

    def _fresh(self) -> str:
        return f"{self._dice.getrandbits(64):x} " + "words " * self._dice.randrange(1, 200)

    async def _known(self) -> None:
        async with self._post(f"question {self._dice.randrange(400)}") as answer:
            await answer.read()
            self._expect("known", answer.status, 200)

    async def _new(self) -> None:
        async with self._post(self._fresh()) as answer:
            await answer.read()
            self._expect("new", answer.status, 200)

    async def _stream(self) -> None:
        async with self._post(self._fresh(), stream=True) as answer:
            told = await answer.read()
            self._expect("stream", answer.status, 200)
            if not told.rstrip().endswith(b"[DONE]"):
                self._watch.wrong["stream without its end"] += 1

    async def _left(self) -> None:
        """The client goes away after the first bytes."""
        async with self._post(f"{self._fresh()} [[script tokens=200 token_ms=5]]", stream=True) as answer:
            await answer.content.readany()
            answer.close()

    async def _died(self) -> None:
        point = self._dice.choice(POINTS)
        async with self._post(f"{self._fresh()} [[script die={point}]]", stream=True) as answer:
            told = await answer.read()
            self._expect("died", answer.status, 200, 502, 503, 504)
            if answer.status == 200 and b'"error"' not in told and not told.rstrip().endswith(b"[DONE]"):
                self._watch.wrong["a cut stream that looks whole"] += 1

    async def _refused(self) -> None:
        async with self._post(f"{self._fresh()} [[script status={self._dice.choice((400, 429, 500, 529))}]]") as answer:
            await answer.read()
            self._expect("refused", answer.status, 400, 429, 502, 503)

    async def _bad(self) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        bad = self._dice.choice((b"{", b'{"model": 1}', b'{"model":"scripted/echo","messages":[]}', b"[" * 500))
        async with self._session.post(f"{self._url}/v1/chat/completions", data=bad, headers=headers) as answer:
            await answer.read()
            self._expect("bad", answer.status, 400)

    async def _stranger(self) -> None:
        async with self._post("hello", key=f"ew_live_{self._dice.getrandbits(128):x}") as answer:
            await answer.read()
            self._expect("stranger", answer.status, 401, 403, 429)

    async def _listed(self) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        async with self._session.get(f"{self._url}/v1/models", headers=headers) as answer:
            await answer.read()
            self._expect("listed", answer.status, 200)


async def _key(session: aiohttp.ClientSession, url: str) -> str:
    """A key whose terms make every request reserve money and count against limits."""
    terms = {
        "budgets": [{"per": "day", "usd": "1000"}],
        "limits": {"requests_per_minute": 10_000_000, "tokens_per_minute": 10_000_000_000, "in_flight": 10_000},
    }
    asked = {"name": "soak", "tenant": "soak", "terms": terms}
    async with session.post(f"{url}/admin/keys", json=asked, headers={"authorization": f"Bearer {KEY}"}) as answer:
        told = await answer.json()
        if answer.status not in (200, 201):
            raise SystemExit(f"no key: {told}")
        return str(told["key"])


async def soak(minutes: float, askers: int, environ: dict[str, str], *, terms: bool) -> Watch:
    """Run it. Raises when the gateway does not start."""
    serve = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "PORT", "--log-level", "error", "--no-access-log"]
    command = [sys.executable, *serve, "--factory", "bench.soak:app"]
    server = Contestant("edgewise", command, (f"authorization: Bearer {KEY}",), "scripted/{}", SMALL | environ)
    watch = Watch()
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            key = await _key(session, url) if terms else KEY
            until = time.monotonic() + minutes * 60
            running = [Asker(session, url, key, watch, random.Random(seed)).run(until) for seed in range(askers)]
            asking = asyncio.gather(*running)
            while not asking.done():
                await asyncio.wait([asking], timeout=minutes * 60 / 100)
                watch.look(server)
            await asking
    finally:
        server.stop()
    return watch


def main() -> int:
    parser = argparse.ArgumentParser("edgewise bench soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--askers", type=int, default=20)
    parser.add_argument("--tables", action="store_true", help="with tables, bucket, queue and a key with terms")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    stack = None
    if asked.tables:
        from edgewise.local.stack import Stack

        stack = Stack.start()
    try:
        environ = dict(stack.environment) if stack else {}
        watch = asyncio.run(soak(asked.minutes, asked.askers, environ, terms=asked.tables))
    finally:
        if stack:
            stack.stop()
    total = sum(watch.ended.values())
    print(f"{total:,} requests in {asked.minutes:g} min: {dict(watch.ended.most_common())}")
    for name, values in (("RSS, MB", watch.rss_mb), ("open files", watch.files), ("threads", watch.threads)):
        fifths = "  ".join(f"{_fifth(values, number):.1f}" for number in range(FIFTHS))
        print(f"{name:<11} median of each fifth: {fifths}")
    faults = watch.faults()
    print("\n".join(faults) or "nothing grew, nothing was answered wrongly")
    if asked.json:
        held = {"rss_mb": watch.rss_mb, "files": watch.files, "threads": watch.threads}
        asked.json.write_text(json.dumps({"ended": watch.ended, "wrong": watch.wrong, **held}))
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    raise SystemExit(main())
