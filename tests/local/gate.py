"""A gate for tests of order: an app in another process waits at it until the test opens it."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Gate:
    """Listens on a loopback port. Whoever connects is held until `open`."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._arrivals = asyncio.Semaphore(0)
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Gate:
        self._server = await asyncio.start_server(self._hold, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.open()
        assert self._server is not None
        self._server.close()

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._arrivals.release()
        await self._open.wait()
        writer.close()

    async def reached(self) -> None:
        """Return when one more app stands at the gate."""
        await self._arrivals.acquire()

    def open(self) -> None:
        self._open.set()
