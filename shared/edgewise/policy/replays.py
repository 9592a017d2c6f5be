"""The same request twice, answered once.

A client that sends `Idempotency-Key` gets Stripe's semantics: the first result, failures after execution included, is
kept for a day and given again; the same key with another body is a mistake of the client (400); while the first is
under way, the second is told to wait (409). A request that was refused before anything was done is not kept.

OpenAI's SDKs send no such key but retry by themselves, and say so (`x-stainless-retry-count`). Their retries are known
by caller and body within a minute: the retry joins the first try or gets its answer, instead of a second bill. In the
same process that costs nothing. For other processes a first try is written down once it has taken seconds, as a client
loses patience with slow ones, and a retry looks there; a quick first try costs no write. That saves money and is no
promise: where the store does not answer, or the first try is not heard of again, the retry is served anew.

Source  stripe.com/docs/api/idempotent_requests; notes on the SDKs' behaviour in docs.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import orjson

from edgewise.clock import Clock
from edgewise.errors import Unavailable

KEEP_S = 86_400
RETRY_S = 60.0
TRY_LEASE_S = 300.0
WAIT_S = 30.0
"""How long a retry waits for a first try in another process before it is served anew."""
MOST_BYTES = 300_000
MOST_RECENT = 64
MOST_RECENT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole response as it went out."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def pack(self) -> bytes | None:
        """As bytes for a store; None when it is too large to keep."""
        head = orjson.dumps([self.status, self.headers])
        packed = len(head).to_bytes(4, "big") + head + zlib.compress(self.body, 6)
        return packed if len(packed) <= MOST_BYTES else None

    @classmethod
    def unpack(cls, packed: bytes) -> Saved:
        size = int.from_bytes(packed[:4], "big")
        status, headers = orjson.loads(packed[4 : 4 + size])
        return cls(status, tuple((name, value) for name, value in headers), zlib.decompress(packed[4 + size :]))


@dataclass(frozen=True, slots=True)
class Begun:
    """Nobody has asked this yet: go on, then finish or abandon."""


@dataclass(frozen=True, slots=True)
class Running:
    """Somebody is at it."""


@dataclass(frozen=True, slots=True)
class Another:
    """The key was used for another request."""


@dataclass(frozen=True, slots=True)
class Done:
    """It was answered; None: with more than could be kept."""

    saved: Saved | None


State = Begun | Running | Another | Done


class ReplayStore(Protocol):
    """Where results are kept, by owner and key. Raises `Unavailable`."""

    async def begin(self, owner: str, key: str, mark: str, now: float, lease_s: float) -> State:
        """Claim the key for the request that `mark` stands for; a claim ends by itself after `lease_s`."""
        ...

    async def finish(
        self, owner: str, key: str, mark: str, saved: Saved, now: float, keep_s: float = KEEP_S
    ) -> None: ...

    async def abandon(self, owner: str, key: str, mark: str) -> None: ...


@dataclass(slots=True)
class _Row:
    mark: str
    until: float
    done: bool = False
    packed: bytes | None = None


class MemoryReplays:
    """Results of this process alone."""

    def __init__(self, most: int = 1_000) -> None:
        self._rows: OrderedDict[tuple[str, str], _Row] = OrderedDict()
        self._most = most

    async def begin(self, owner: str, key: str, mark: str, now: float, lease_s: float) -> State:
        row = self._rows.get((owner, key))
        if row is None or row.until <= now:
            self._rows[owner, key] = _Row(mark, now + lease_s)
            if len(self._rows) > self._most:
                self._rows.popitem(last=False)
            return Begun()
        return state_of(mark, row.mark, row.done, row.packed)

    async def finish(self, owner: str, key: str, mark: str, saved: Saved, now: float, keep_s: float = KEEP_S) -> None:
        self._rows[owner, key] = _Row(mark, now + keep_s, done=True, packed=saved.pack())

    async def abandon(self, owner: str, key: str, mark: str) -> None:
        row = self._rows.get((owner, key))
        if row is not None and row.mark == mark and not row.done:
            del self._rows[owner, key]


def state_of(mark: str, stored: str, done: bool, packed: bytes | None) -> State:
    """What a standing row means to the request of `mark`."""
    if mark != stored:
        return Another()
    if not done:
        return Running()
    return Done(Saved.unpack(packed) if packed is not None else None)


class Recent:
    """First tries of SDKs, remembered in this process for their retries."""

    def __init__(self, clock: Clock, *, keep_s: float = RETRY_S) -> None:
        self._clock = clock
        self._keep_s = keep_s
        self._known: OrderedDict[str, tuple[float, asyncio.Future[Saved | None]]] = OrderedDict()

    def first(self, mark: str) -> asyncio.Future[Saved | None]:
        """Remember a first try; the caller sets its result, None when there is nothing worth giving again."""
        future: asyncio.Future[Saved | None] = asyncio.get_running_loop().create_future()
        self._known[mark] = (self._clock.tick() + self._keep_s, future)
        self._known.move_to_end(mark)
        while len(self._known) > MOST_RECENT:
            self._known.popitem(last=False)
        return future

    async def again(self, mark: str) -> Saved | None:
        """What the first try brought, awaited if it is under way; None when it is not known."""
        known = self._known.get(mark)
        if known is None or known[0] <= self._clock.tick():
            return None
        return await asyncio.shield(known[1])


class Tries:
    """The tries of one request, as other processes see them. Never raises: without the store each try is the first."""

    def __init__(self, store: Callable[[], ReplayStore], mark: str, clock: Clock) -> None:
        self._store = store
        self._mark = mark
        self._clock = clock
        self._claimed: asyncio.Future[bool] | None = None

    def claim(self) -> asyncio.Future[bool]:
        """Begin to write down that this try is under way; done when it is."""
        self._claimed = self._claimed or asyncio.ensure_future(self._claim())
        return self._claimed

    async def _claim(self) -> bool:
        try:
            return await self._begin() == Begun()
        except Unavailable:
            return False

    async def _begin(self) -> State:
        return await self._store().begin(self._mark, "try", self._mark, self._clock.now(), TRY_LEASE_S)

    async def elsewhere(self) -> Saved | None:
        """What a try in another process brought, awaited for a while; None when this one has to be served."""
        until = self._clock.tick() + WAIT_S
        try:
            while (state := await self._begin()) == Running() and self._clock.tick() < until:
                await self._clock.sleep(0.5)
        except Unavailable:
            return None
        if state == Begun():
            self._claimed = asyncio.get_running_loop().create_future()
            self._claimed.set_result(True)
        return state.saved if isinstance(state, Done) else None

    async def end(self, saved: Saved | None) -> None:
        """This try is over: others may have what it brought, if it was written down that it began."""
        if self._claimed is None or not await self._claimed:
            return
        try:
            if saved is None:
                await self._store().abandon(self._mark, "try", self._mark)
            else:
                await self._store().finish(self._mark, "try", self._mark, saved, self._clock.now(), RETRY_S)
        except Unavailable:
            return
