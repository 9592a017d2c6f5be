"""`Idempotency-Key` and SDKs' retries, around every POST: an ASGI middleware within the frame.

It reads the body to know what is asked, runs the application or gives the kept response again, and keeps what goes
out. Requests with neither header pass untouched. The caller is identified first, so nobody gets another's answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgewise.api import body
from edgewise.api.door import knock
from edgewise.clock import Clock
from edgewise.errors import Conflict, EdgewiseError, InvalidRequest
from edgewise.policy.replays import (
    MOST_RECENT_BYTES,
    Another,
    Begun,
    Done,
    Recent,
    ReplayStore,
    Running,
    Saved,
    Tries,
)
from edgewise.words import Credentials, Principal

if TYPE_CHECKING:
    from fastapi import FastAPI

    from edgewise.policy.room import PolicyRoom

Identify = Callable[[Credentials], Awaitable[Principal]]

Later = Callable[[float, Callable[[], object]], asyncio.TimerHandle]

KEY = b"idempotency-key"
RETRY = b"x-stainless-retry-count"
MAX_KEY = 255
LEASE_S = 960.0
CLAIM_AFTER_S = 5.0
"""A first try that takes this long is told to other processes: its client may lose patience and ask one of them."""
NEVER = frozenset({"x-request-id", "content-length", "transfer-encoding", "date", "connection"})
PATHS = ("/chat/completions", "/responses", "/embeddings", "/messages")


BROKEN = (b'data: {"error"', b"event: error\n", b"event: response.failed\n")
"""How a stream says, in each dialect, that it broke off. No text holds one of them: it is JSON, on one line."""


def _later(seconds: float, work: Callable[[], object]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, work)


class Idempotency:
    """`identify` and `store` are asked for when a request comes; `later` calls something after seconds."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        identify: Callable[[], Identify],
        store: Callable[[], ReplayStore],
        clock: Clock,
        max_body_bytes: int,
        later: Later = _later,
    ) -> None:
        self._app = app
        self._identify = identify
        self._store = store
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._later = later
        self._recent = Recent(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = retry = None
        if scope["type"] == "http" and scope["method"] == "POST":
            for name, value in scope["headers"]:
                if name == KEY:
                    key = value.decode("latin-1")
                elif name == RETRY:
                    retry = value
        if key is not None:
            await self._once(scope, receive, send, key)
        elif retry is not None and scope["path"].endswith(PATHS):
            await self._retried(scope, receive, send, first=retry == b"0")
        else:
            await self._app(scope, receive, send)

    async def _owner(self, scope: Scope) -> str:
        shown = knock(scope).credentials
        who = await self._identify()(Credentials(shown.token, scope["path"], shown.address))
        return f"{who.tenant}#{who.key_id}"

    async def _read(self, scope: Scope, receive: Receive) -> tuple[bytes, str]:
        raw = await body.read(receive, scope["headers"], self._max_body_bytes)
        # What is asked of the gateway in headers (a route, a namespace) is as much of the request as its body.
        wishes = repr(sorted(knock(scope).ours.items()))
        return raw, sha256(b"\0".join((scope["path"].encode(), wishes.encode(), raw))).hexdigest()

    async def _once(self, scope: Scope, receive: Receive, send: Send, key: str) -> None:
        if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
            raise InvalidRequest(f"Idempotency-Key has 1 to {MAX_KEY} characters.", param="Idempotency-Key")
        owner = await self._owner(scope)
        raw, mark = await self._read(scope, receive)
        store = self._store()
        match await store.begin(owner, key, mark, self._clock.now(), LEASE_S):
            case Done(saved=Saved() as saved):
                await _replay(saved, send)
            case Done():
                raise Conflict("This was answered, with more than is kept.", code="idempotency_too_large")
            case Running():
                raise Conflict(
                    "A request with this Idempotency-Key is under way.",
                    code="idempotency_in_progress",
                    headers={"retry-after": "1", "x-should-retry": "true"},
                )
            case Another():
                raise InvalidRequest("This Idempotency-Key was used with another request.", code="idempotency_error")
            case Begun():
                await self._run_kept(scope, raw, receive, send, store, (owner, key, mark))

    async def _run_kept(
        self, scope: Scope, raw: bytes, receive: Receive, send: Send, store: ReplayStore, name: tuple[str, str, str]
    ) -> None:
        tape = _Tape(send)
        try:
            await self._app(scope, _again(raw, receive), tape)
        except EdgewiseError as error:
            if error.status in (500, 502, 504):
                import orjson

                headers = (("content-type", "application/json"), *error.headers.items())
                saved = Saved(error.status, headers, orjson.dumps(error.body()))
                await store.finish(*name, saved, self._clock.now())
            else:
                await store.abandon(*name)
            raise
        except BaseException:
            await store.abandon(*name)
            raise
        found = tape.saved()
        if found is not None and (found.status < 400 or found.status in (500, 502, 504)):
            await store.finish(*name, found, self._clock.now())
        else:
            await store.abandon(*name)

    async def _retried(self, scope: Scope, receive: Receive, send: Send, *, first: bool) -> None:
        raw, mark = await self._read(scope, receive)
        # The token is in the mark, so a first try need not be identified here too: nothing is given out for it.
        token = knock(scope).credentials.token or ""
        mark = sha256(token.encode("utf-8", "surrogatepass") + b"\0" + mark.encode()).hexdigest()
        tries = Tries(self._store, mark, self._clock)
        if not first:
            saved = await self._recent.again(mark)
            await self._owner(scope)
            if saved is None:
                saved = await tries.elsewhere()
            if saved is not None:
                await _replay(saved, send)
                return
        future, tape = self._recent.first(mark), _Tape(send, MOST_RECENT_BYTES)
        timer = self._later(CLAIM_AFTER_S, tries.claim)
        good: Saved | None = None
        try:
            await self._app(scope, _again(raw, receive), tape)
            found = tape.saved()
            good = found if found is not None and found.status == 200 and tape.is_billed else None
        finally:
            timer.cancel()
            future.set_result(good)
            await tries.end(good)


def install(
    application: FastAPI,
    policy: PolicyRoom,
    open_store: Callable[[], ReplayStore],
    clock: Clock,
    *,
    max_body_bytes: int,
    later: Later = _later,
) -> None:
    """Put the middleware around `application`'s routes. To be called before the first request, with which the store
    is opened."""
    store: ReplayStore | None = None

    def stored() -> ReplayStore:
        nonlocal store
        store = store or open_store()
        return store

    application.add_middleware(
        Idempotency,
        identify=lambda: policy.identify,
        store=stored,
        clock=clock,
        max_body_bytes=max_body_bytes,
        later=later,
    )


class _Tape:
    """Passes a response on and keeps it. `saved()` is None for one that is unfinished or larger than `most`."""

    def __init__(self, send: Send, most: int = 8_000_000) -> None:
        self._send = send
        self._most = most
        self._status = 0
        self._headers: tuple[tuple[str, str], ...] = ()
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = False

    @property
    def is_billed(self) -> bool:
        """A cache hit cost nothing and costs nothing again."""
        return dict(self._headers).get("x-edgewise-cache") != "hit"

    async def __call__(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = tuple((n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in message["headers"])
        elif message["type"] == "http.response.body":
            self._size += len(message.get("body", b""))
            if self._size <= self._most:
                self._pieces.append(bytes(message.get("body", b"")))
            self._whole = not message.get("more_body", False)

    def saved(self) -> Saved | None:
        if not self._whole or self._size > self._most:
            return None
        whole = b"".join(self._pieces)
        if ("content-type", "text/event-stream") in [(n, v.split(";")[0]) for n, v in self._headers] and any(
            mark in whole for mark in BROKEN
        ):
            return None
        return Saved(self._status, tuple(pair for pair in self._headers if pair[0] not in NEVER), whole)


def _again(raw: bytes, receive: Receive) -> Receive:
    """A `receive` that brings the body that was read, and then what comes."""
    sent = False

    async def once_more() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": raw, "more_body": False}

    return once_more


async def _replay(saved: Saved, send: Send) -> None:
    headers: list[Any] = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in saved.headers]
    headers.append((b"idempotent-replayed", b"true"))
    headers.append((b"content-length", str(len(saved.body)).encode()))
    await send({"type": "http.response.start", "status": saved.status, "headers": headers})
    await send({"type": "http.response.body", "body": saved.body, "more_body": False})
