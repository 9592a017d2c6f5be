"""A closed-loop load over kept-alive connections, straight on the transport: each asks again once it is answered."""

from __future__ import annotations

import asyncio
import itertools
import re
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from typing import cast

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
SLOT = "@@@@@@@@@@"
"""In a body: replaced by a fresh number of ten digits for every request."""
_numbers = itertools.count(time.time_ns() // 1_000_000 % 1_000_000_000 * 10)


@dataclass(frozen=True, slots=True)
class Ask:
    """Where a server listens and what it is asked."""

    port: int
    body: str
    headers: tuple[str, ...] = ()
    path: str = "/v1/chat/completions"

    def request(self) -> bytes:
        body = self.body.replace(SLOT, f"{next(_numbers):010d}")
        head = [f"POST {self.path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", *self.headers]
        return "\r\n".join([*head, f"content-length: {len(body)}", "", body]).encode()


@dataclass(slots=True)
class Tally:
    """What came of a load. Times in milliseconds, from the request's first byte out."""

    whole_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def answered(self) -> int:
        return len(self.whole_ms)

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.whole_ms) if self.whole_ms else float("nan")


class _Connection(asyncio.Protocol):
    def __init__(self, ask: Ask, tally: Tally, until: float, done: asyncio.Future[None]) -> None:
        self._ask, self._tally, self._until, self._done = ask, tally, until, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._next()

    def _next(self) -> None:
        self._held = bytearray()
        self._end = self._need = -1
        self._first = 0.0
        self._began = time.perf_counter()
        self._transport.write(self._ask.request())

    def data_received(self, data: bytes) -> None:
        self._held += data
        if self._end < 0:
            self._end = self._held.find(b"\r\n\r\n")
            if self._end < 0:
                return
            length = _LENGTH.search(self._held, 0, self._end)
            self._need = self._end + 4 + int(length[1]) if length else -1
        if not self._first and len(self._held) > self._end + 4:
            self._first = time.perf_counter()
        whole = len(self._held) >= self._need if self._need >= 0 else self._held.endswith(b"\r\n0\r\n\r\n")
        if not whole:
            return
        now = time.perf_counter()
        if self._held.startswith(b"HTTP/1.1 200"):
            self._tally.whole_ms.append((now - self._began) * 1000)
            self._tally.first_ms.append((self._first - self._began) * 1000)
        else:
            self._tally.refused += 1
        if now < self._until:
            self._next()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def load(ask: Ask, connections: int, seconds: float) -> Tally:
    """`connections` askers for `seconds`; 0 seconds: each asks once."""
    loop = asyncio.get_running_loop()
    tally, until = Tally(), time.perf_counter() + seconds
    ends = [loop.create_future() for _ in range(connections)]
    await asyncio.gather(
        *(loop.create_connection(partial(_Connection, ask, tally, until, end), "127.0.0.1", ask.port) for end in ends)
    )
    async with asyncio.timeout(seconds + 60):
        await asyncio.gather(*ends)
    return tally
