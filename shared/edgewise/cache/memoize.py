"""`@cached`: a Python function's results by its arguments, over a shelf in memory or over any store.

    @cached(ttl_s=600)                                  in this process's memory, values as they are
    @cached(tier=DynamoStore(table, clock),             shared between processes; values must be JSON. With leases
            leases=DynamoLeases(table))                 equal calls of all processes at once are one

Sync and async functions alike. Calls with equal arguments at the same time are one call: the others wait for its
result, or get its exception; exceptions are never kept. Trouble with the store means that the function is called.

Arguments are told apart by type and value (`1`, `1.0`, `True` and `"1"` are four), whatever the order of keywords and
whether a default was spelled out. What has no value of its own, such as an object or `self`, is refused: name what
counts with `key=`. A result from memory is the same object for everyone; do not change it. One that can be used once
only, such as a generator, is refused; over a store one that JSON would change is never kept.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar, cast, overload
from uuid import UUID

from edgewise.cache.lease import Leases
from edgewise.cache.memory.policies import shelf
from edgewise.cache.memory.shelf import Shelf
from edgewise.cache.port import Store
from edgewise.cache.tiers import InStore, OnShelf, Tier, Value
from edgewise.clock import Clock, SystemClock

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Memo:
    """What `@cached` keeps of one function. `memo_of(function)` finds it."""

    def __init__(self, function: Callable[..., Any], tier: Tier, key: Callable[..., Any] | None, name: str) -> None:
        self._function = function
        self._signature = inspect.signature(function)
        self._tier = tier
        self._run = _at_once if isinstance(tier, OnShelf) else _LOOP.run
        self._key = key
        self._name = name
        self._threads: dict[str, Future[Any]] = {}
        self._tasks: dict[tuple[int, str], asyncio.Task[Any]] = {}
        self._lock = threading.Lock()
        self.calls = 0
        """How often the function itself was called."""

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """64 hex digits for these arguments. TypeError for one that has no value of its own."""
        if self._key is not None:
            told: Any = self._key(*args, **kwargs)
        else:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            told = dict(bound.arguments)
        return hashlib.sha256(f"{self._name}\0{_spelled(told)}".encode()).hexdigest()

    async def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an async function: kept, under way, or made now."""
        key = self.key_of(args, kwargs)
        flight = (id(asyncio.get_running_loop()), key)
        task = self._tasks.get(flight)
        if task is None:
            # A task of its own, so that a caller who is cancelled takes nobody's result away.
            task = self._tasks[flight] = asyncio.ensure_future(self._made(key, args, kwargs))
            task.add_done_callback(lambda done: self._landed(flight, done))
        return await asyncio.shield(task)

    async def _made(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = await self._tier.get(key) or await self._tier.turn(key)
        if isinstance(found, Value):
            return found.value
        self.calls += 1
        kept: bool | None = None
        try:
            value = _lasting(await self._function(*args, **kwargs))
            kept = await self._tier.put(key, value)
        finally:
            if found is not None:
                await self._tier.end(key, found, kept)
        return value

    def _landed(self, flight: tuple[int, str], task: asyncio.Task[Any]) -> None:
        del self._tasks[flight]
        if not task.cancelled():
            # Seen, even if every caller has gone away.
            task.exception()

    def ask_sync(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same for a sync function, from any number of threads."""
        key = self.key_of(args, kwargs)
        with self._lock:
            future = self._threads.get(key)
            leads = future is None
            if future is None:
                future = self._threads[key] = Future()
        if not leads:
            return future.result()
        try:
            future.set_result(self._made_sync(key, args, kwargs))
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._threads[key]
        return future.result()

    def _made_sync(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = self._run(self._tier.get(key)) or self._run(self._tier.turn(key))
        if isinstance(found, Value):
            return found.value
        self.calls += 1
        kept: bool | None = None
        try:
            value = _lasting(self._function(*args, **kwargs))
            kept = self._run(self._tier.put(key, value))
        finally:
            if found is not None:
                self._run(self._tier.end(key, found, kept))
        return value

    async def forget(self, *args: Any, **kwargs: Any) -> None:
        """Drop the result for these arguments."""
        await self._tier.delete(self.key_of(args, kwargs))


@overload
def cached(function: F, /) -> F: ...


@overload
def cached(
    *,
    ttl_s: float = ...,
    tier: Shelf[Any, Any] | Store | None = ...,
    key: Callable[..., Any] | None = ...,
    name: str | None = ...,
    clock: Clock | None = ...,
    leases: Leases | None = ...,
) -> Callable[[F], F]: ...


def cached(
    function: F | None = None,
    /,
    *,
    ttl_s: float = 3600.0,
    tier: Shelf[Any, Any] | Store | None = None,
    key: Callable[..., Any] | None = None,
    name: str | None = None,
    clock: Clock | None = None,
    leases: Leases | None = None,
) -> Any:
    """Keep the results of a function.

    ttl_s  how long a result is kept        tier  a shelf or a store; None: a shelf of its own, 1,024 results
    key    from the arguments to what tells results apart; None: all arguments
    name   of the function in a shared tier, so that two never mix; None: its module and qualified name
    leases where processes that share a store meet, so that equal calls at once are one; None: in each process one
    """
    found_clock = clock or SystemClock()

    def decorate(wrapped: F) -> F:
        full_name = name or f"{wrapped.__module__}.{wrapped.__qualname__}"
        where = tier if tier is not None else shelf("s3-fifo", found_clock, max_entries=1_024, max_bytes=1_024)
        kept_in: Tier = (
            OnShelf(where, found_clock, ttl_s)
            if isinstance(where, Shelf)
            else InStore(where, found_clock, ttl_s, full_name, leases)
        )
        memo = Memo(wrapped, kept_in, key, full_name)
        if inspect.iscoroutinefunction(wrapped):

            @functools.wraps(wrapped)
            async def ask(*args: Any, **kwargs: Any) -> Any:
                return await memo.ask(args, kwargs)

        else:

            @functools.wraps(wrapped)
            def ask(*args: Any, **kwargs: Any) -> Any:
                return memo.ask_sync(args, kwargs)

        ask.memo = memo  # type: ignore[attr-defined]
        return cast("F", ask)

    return decorate if function is None else decorate(function)


def memo_of(function: Callable[..., Any]) -> Memo:
    """The memo of a function under `@cached`."""
    memo = getattr(function, "memo", None)
    if not isinstance(memo, Memo):
        raise TypeError(f"{function!r} is not under @cached")
    return memo


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which never waits, without a loop."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    raise RuntimeError("a tier in memory does not wait")


class _Loop:
    """One event loop on a thread of its own, for sync functions over a store; started when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._running is None:
                self._running = asyncio.new_event_loop()
                threading.Thread(target=self._running.run_forever, name="cached", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._running).result()


_LOOP = _Loop()


def _lasting(value: Any) -> Any:
    """`value`, unless its first user would use it up."""
    if isinstance(value, Iterator | AsyncIterator | Awaitable):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(f"@cached cannot keep a {type(value).__name__}: it can be used only once")
    return value


_PLAIN = (bool, int, float, str, bytes, Decimal, UUID, datetime, date, time)


def _spelled(value: Any) -> str:
    """Text that is equal exactly for equal types and values."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if value is None:
        return kind
    if isinstance(value, Enum):
        return f"{kind}.{value.name}"
    for plain in _PLAIN:
        if isinstance(value, plain):
            # The plain type's spelling and its own: a subclass may show all values alike, as secrets do, or hold more.
            return f"{kind}:{plain.__repr__(value)}:{'' if type(value) is plain else repr(value)}"
    match value:
        case list() | tuple():
            return f"{kind}[{','.join(map(_spelled, value))}]"
        case set() | frozenset():
            return f"{kind}{{{','.join(sorted(map(_spelled, value)))}}}"
        case dict():
            pairs = sorted(f"{_spelled(k)}={_spelled(v)}" for k, v in value.items())
            return f"{kind}{{{','.join(pairs)}}}"
    if is_dataclass(value) and not isinstance(value, type):
        inner = ",".join(f"{f.name}={_spelled(getattr(value, f.name))}" for f in fields(value))
        return f"{kind}({inner})"
    raise TypeError(f"@cached cannot tell {type(value).__name__} values apart; say what counts with key=")
