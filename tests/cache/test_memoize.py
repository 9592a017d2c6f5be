"""`@cached`: results by arguments, one call at a time for equal arguments, over any tier."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from math import nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.aws import Table
from edgewise.cache.dynamodb import DynamoStore
from edgewise.cache.dynamodb_meeting import DynamoLeases
from edgewise.cache.lease import Leases, LocalLeases, Taken
from edgewise.cache.local import LocalStore
from edgewise.cache.memoize import cached, memo_of
from edgewise.cache.port import Store, StoreError
from edgewise.clock import FakeClock, SystemClock
from tests.cache.test_room import Broken


def test_a_sync_function_is_called_once_for_equal_arguments(clock: FakeClock) -> None:
    """However the arguments are spelled, None included as a result."""
    asked: list[tuple[int, int]] = []

    @cached(clock=clock)
    def add(a: int, b: int = 2) -> None:
        asked.append((a, b))

    for _ in range(2):
        add(1)
        add(1, 2)
        add(b=2, a=1)
    assert asked == [(1, 2)]
    add(1, 3)
    assert asked == [(1, 2), (1, 3)]
    assert (memo_of(add).calls, add.__name__) == (2, "add")


async def test_an_async_function_too(clock: FakeClock) -> None:
    """And it is made again when its time is up, or when it is forgotten."""

    @cached(ttl_s=10, clock=clock)
    async def double(x: int) -> int:
        return 2 * x

    assert [await double(2), await double(2)] == [4, 4]
    await clock.advance(10)
    assert await double(2) == 4
    await memo_of(double).forget(2)
    assert await double(2) == 4
    assert memo_of(double).calls == 3


async def test_equal_calls_at_once_are_one(clock: FakeClock) -> None:
    """A hundred tasks, one call; a caller that goes away takes nothing with it."""
    gate = asyncio.Event()

    @cached(clock=clock)
    async def slow(x: int) -> int:
        await gate.wait()
        return x

    first = asyncio.ensure_future(slow(7))
    others = [asyncio.ensure_future(slow(7)) for _ in range(99)]
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert set(await asyncio.gather(*others)) == {7}
    assert memo_of(slow).calls == 1


def test_equal_calls_from_threads_are_one(clock: FakeClock) -> None:
    """Eight threads meet in one call."""
    gate = threading.Barrier(8)
    released = threading.Event()

    @cached(clock=clock)
    def slow(x: int) -> int:
        released.wait(5)
        return x

    def ask() -> int:
        gate.wait()
        return slow(7)

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask) for _ in range(8)]
        released.set()
        assert {each.result() for each in asked} == {7}
    assert memo_of(slow).calls == 1


async def test_exceptions_reach_all_and_are_not_kept(clock: FakeClock) -> None:
    """Who waits gets the exception; who comes later makes a new call."""
    failing = True

    @cached(clock=clock)
    async def moody() -> str:
        await asyncio.sleep(0)
        if failing:
            raise ValueError("not now")
        return "fine"

    outcomes = await asyncio.gather(moody(), moody(), return_exceptions=True)
    assert [type(o) for o in outcomes] == [ValueError, ValueError]
    failing = False
    assert await moody() == "fine"
    assert memo_of(moody).calls == 2

    @cached(clock=clock)
    def grim() -> str:
        raise ValueError("never")

    for _ in range(2):
        with pytest.raises(ValueError, match="never"):
            grim()
    assert memo_of(grim).calls == 2


@pytest.fixture(params=["local", "dynamodb"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "local":
        return LocalStore(SystemClock())
    return DynamoStore(request.getfixturevalue("cache_table"), SystemClock())


async def test_over_a_store(store: Store) -> None:
    """Two processes with one store make one call; values are JSON."""

    async def look_up(city: str) -> dict[str, Any]:
        return {"city": city, "people": 2_100_000}

    one, other = [cached(tier=store, name="look_up")(look_up) for _ in range(2)]
    assert await one("Paris") == await other("Paris") == {"city": "Paris", "people": 2_100_000}
    assert (memo_of(one).calls, memo_of(other).calls) == (1, 0)


def test_a_sync_function_over_a_store() -> None:
    """Also from plain code, without a loop in sight."""
    store = LocalStore(SystemClock())

    def square(x: int) -> int:
        return x * x

    one, other = [cached(tier=store, name="square")(square) for _ in range(2)]
    assert [one(3), other(3), memo_of(other).calls] == [9, 9, 0]


async def test_trouble_with_the_store_calls_the_function(clock: FakeClock) -> None:
    """A store that fails keeps nobody from a result, nor does a value that is not JSON."""

    @cached(tier=Broken(clock), clock=clock)
    async def one() -> int:
        return 1

    @cached(tier=LocalStore(clock), clock=clock)
    async def thing() -> object:
        return object

    assert [await one(), await one(), memo_of(one).calls] == [1, 1, 2]
    assert [await thing(), await thing(), memo_of(thing).calls] == [object, object, 2]


@dataclass(frozen=True)
class Point:
    x: int
    y: int


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text(max_size=3) | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.tuples(inner) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(one=_VALUES, other=_VALUES)
def test_keys_are_equal_exactly_for_equal_values_of_equal_types(one: Any, other: Any) -> None:
    """Nothing is confused: not 1 with True, not a tuple with a list."""

    @cached
    def f(x: Any) -> None: ...

    memo = memo_of(f)
    same = memo.key_of((one,), {}) == memo.key_of((other,), {})
    assert same == (repr(one) == repr(other) or (_typed(one) == _typed(other)))


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return ("dict", frozenset((_typed(k), _typed(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(_typed(v) for v in value))
    return (type(value).__name__, repr(value))


class Secret(str):
    """Shows every value alike."""

    def __repr__(self) -> str:
        return "***"


class Size(Enum):
    SMALL = 1
    LARGE = 2

    def __str__(self) -> str:
        return "a size"


class Fine(datetime):
    """Holds more than its plain type shows."""

    nanoseconds = 0

    def __repr__(self) -> str:
        return f"{super().__repr__()}+{self.nanoseconds}ns"


def test_what_shows_itself_alike_or_holds_more_is_told_apart_all_the_same() -> None:
    @cached
    def f(x: Any) -> None: ...

    one, other = Fine(2026, 1, 1), Fine(2026, 1, 1)
    other.nanoseconds = 1
    pairs = [(Secret("a"), Secret("b")), (Secret("a"), "a"), (Size.SMALL, Size.LARGE), (Size.SMALL, 1), (one, other)]
    for each in pairs:
        assert len({memo_of(f).key_of((x,), {}) for x in each}) == 2, each


@pytest.mark.parametrize("value", [(1, 2), {"a": (1,)}, {1: 2}, date(2026, 1, 1), Point(1, 2), Size.SMALL, nan])
async def test_what_json_would_change_is_never_kept_in_a_store(value: Any, clock: FakeClock) -> None:
    """A second call must not answer a list where the first gave a tuple."""

    @cached(tier=LocalStore(clock), clock=clock)
    async def thing() -> Any:
        return value

    assert [await thing(), await thing(), memo_of(thing).calls] == [value, value, 2]


async def test_what_can_be_used_only_once_is_refused() -> None:
    """A kept generator would be empty for whoever comes second."""

    @cached
    def numbers() -> Iterator[int]:
        yield 1

    @cached
    async def later() -> AsyncIterator[int]:
        yield 1

    @cached
    def waits() -> Any:
        return asyncio.sleep(0)

    for function in (numbers, later, waits):
        with pytest.raises(TypeError, match="only once"):
            function()


def test_what_has_no_value_is_refused_unless_a_key_says_what_counts() -> None:
    """An object, or `self`, would be another argument each time."""

    @cached
    def plain(x: object) -> int:
        return 1

    with pytest.raises(TypeError, match="key="):
        plain(object())

    class Shop:
        def __init__(self, town: str) -> None:
            self.town = town

        @cached(key=lambda self, item: (self.town, item))
        def price(self, item: str) -> int:
            return len(self.town) + len(item)

    assert Shop("Rome").price("tea") == Shop("Rome").price("tea") == 7
    assert memo_of(Shop.price).calls == 1

    @cached
    def norm(p: Point) -> int:
        return p.x**2 + p.y**2

    assert [norm(Point(3, 4)), norm(Point(3, 4)), memo_of(norm).calls] == [25, 25, 1]
    with pytest.raises(TypeError):
        memo_of(len)


class Processes:
    """`count` of them over one store, each with a decorator of its own, by one name; and the function behind."""

    def __init__(self, clock: Any, store: Store, leases: Leases, count: int = 3) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.fails = 0
        decorate = cached(tier=store, leases=leases, clock=clock, name="shared")

        async def slow(x: int) -> int:
            self.calls += 1
            await self.gate.wait()
            if self.fails:
                self.fails -= 1
                raise ValueError("no")
            return 2 * x

        self.each = [decorate(slow) for _ in range(count)]


async def test_equal_calls_of_several_processes_are_one(clock: FakeClock) -> None:
    """The others have the result as soon as it is stored."""
    many = Processes(clock, LocalStore(clock), LocalLeases())
    tasks = [asyncio.create_task(function(4)) for function in many.each for _ in range(5)]
    await clock.advance(1)
    assert many.calls == 1
    many.gate.set()
    await clock.advance(1)
    assert await asyncio.gather(*tasks) == [8] * 15 and many.calls == 1


async def test_a_leader_that_fails_lets_the_next_one_try(clock: FakeClock) -> None:
    many = Processes(clock, LocalStore(clock), LocalLeases())
    many.fails = 1
    many.gate.set()
    tasks = [asyncio.create_task(function(4)) for function in many.each]
    await clock.advance(5)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(map(str, found)) == ["8", "8", "no"] and many.calls == 2


async def test_what_cannot_be_stored_is_made_by_each(clock: FakeClock) -> None:
    """And nobody waits for it twice."""
    leases, made = LocalLeases(), 0

    async def thing() -> object:
        nonlocal made
        made += 1
        await clock.sleep(1)
        return object()

    each = [cached(tier=LocalStore(clock), leases=leases, clock=clock, name="t")(thing) for _ in range(3)]
    tasks = [asyncio.create_task(function()) for function in each]
    await clock.advance(10)
    assert len(await asyncio.gather(*tasks)) == 3 and made == 3


async def test_leases_that_fail_hold_nobody_up(clock: FakeClock) -> None:
    class Down(LocalLeases):
        async def take(self, scope: str, key: str, now: float, until: float) -> Taken | None:
            raise StoreError("down")

    many = Processes(clock, LocalStore(clock), Down())
    many.gate.set()
    assert [await function(4) for function in many.each] == [8, 8, 8] and many.calls == 1


def test_sync_functions_of_several_processes_too(cache_table: Table) -> None:
    """Over DynamoDB, from threads: one call, and the same result for all."""
    clock, gate, began, calls = SystemClock(), threading.Event(), threading.Event(), []
    store, leases = DynamoStore(cache_table, clock), DynamoLeases(cache_table)

    def slow(x: int) -> int:
        calls.append(x)
        began.set()
        gate.wait(5)
        return 2 * x

    each = [cached(tier=store, leases=leases, name="slow")(slow) for _ in range(3)]
    with ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(function, 4) for function in each for _ in range(2)]
        assert began.wait(5)
        gate.set()
        assert [each.result(10) for each in asked] == [8] * 6
    assert calls == [4]
