"""The same request twice: Stripe's semantics for keys, and SDKs' retries that are not billed again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from edgewise.api.idempotency import install
from edgewise.aws import Aws, Table
from edgewise.chat import ChatRequest, chunk
from edgewise.errors import EdgewiseError, Unavailable, UpstreamDied, UpstreamUnavailable
from edgewise.policy.dynamodb_replays import DynamoReplays
from edgewise.policy.replays import KEEP_S, Another, Begun, Done, MemoryReplays, ReplayStore, Running, Saved, Tries
from tests.api.client import Got
from tests.fakes import saying
from tests.policy.house import ROOT, PolicyHouse

SAVED = Saved(200, (("content-type", "application/json"),), b'{"a":1}')
NOW = 1_800_000_000.0


@pytest.fixture(params=["memory", "dynamodb"])
def store(request: pytest.FixtureRequest) -> ReplayStore:
    if request.param == "memory":
        return MemoryReplays()
    table: Table = request.getfixturevalue("state_table")
    return DynamoReplays(table)


async def test_a_key_is_claimed_once_answered_once_and_free_after_a_day(store: ReplayStore) -> None:
    assert await store.begin("acme", "k", "m", NOW, 60) == Begun()
    assert await store.begin("acme", "k", "m", NOW, 60) == Running()
    assert await store.begin("acme", "k", "other", NOW, 60) == Another()
    assert await store.begin("umbrella", "k", "m", NOW, 60) == Begun()
    await store.finish("acme", "k", "m", SAVED, NOW)
    assert await store.begin("acme", "k", "m", NOW + KEEP_S - 1, 60) == Done(SAVED)
    assert await store.begin("acme", "k", "m", NOW + KEEP_S, 60) == Begun()


async def test_a_claim_of_a_crashed_process_ends_and_an_abandoned_one_is_free(store: ReplayStore) -> None:
    await store.begin("acme", "k", "m", NOW, 60)
    assert await store.begin("acme", "k", "m", NOW + 60, 60) == Begun()
    await store.abandon("acme", "k", "m")
    assert await store.begin("acme", "k", "other", NOW + 61, 60) == Begun()


async def test_what_is_too_large_is_done_all_the_same(store: ReplayStore) -> None:
    import random

    await store.finish("acme", "k", "m", Saved(200, (), random.Random(1).randbytes(400_000)), NOW)
    assert await store.begin("acme", "k", "m", NOW, 60) == Done(None)


class Door(PolicyHouse):
    """The app with the middleware around it; `answers` are given in order, errors among them."""

    def __init__(self, *answers: Any, aws: Aws | None = None, **settings: Any) -> None:
        self.left = list(answers)
        self.asked = 0
        super().__init__(script=self._next, aws=aws, **settings)
        table = self.settings.state_table
        install(
            self.app,
            self.policy,
            lambda: DynamoReplays(Table(aws, table)) if aws and table else MemoryReplays(),
            self.clock,
            max_body_bytes=self.settings.max_body_bytes,
            later=self._later,
        )
        self.timers: list[Callable[[], Any]] = []

    def _later(self, _: float, work: Callable[[], Any]) -> asyncio.TimerHandle:
        self.timers.append(work)
        return asyncio.get_running_loop().call_later(3600, work)

    def _next(self, _: ChatRequest) -> Any:
        self.asked += 1
        return self.left.pop(0) if self.left else saying(f"answer {self.asked}")

    async def send(self, text: str = "hello", key: str = "once", **rest: Any) -> Got:
        headers = {"idempotency-key": key, "cache-control": "no-store, no-cache"}
        return await self.chat(ROOT, text, headers=headers, **rest)

    async def sdk(self, count: int, text: str = "hello", key: str = ROOT) -> Got:
        headers = {"x-stainless-retry-count": str(count), "cache-control": "no-store, no-cache"}
        return await self.chat(key, text, headers=headers)


async def test_the_same_key_and_body_get_the_same_answer_without_a_second_call() -> None:
    door = Door()
    first, second = await door.send(), await door.send()
    assert (first.status, first.body) == (second.status, second.body)
    assert door.asked == 1
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]


async def test_a_stream_is_given_again_as_a_stream() -> None:
    door = Door()
    first, second = await door.send(stream=True), await door.send(stream=True)
    assert first.body == second.body and second.events[-1] == "[DONE]" and door.asked == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}),
        ("/v1/responses", {"input": "hello"}),
    ],
)
@pytest.mark.parametrize("name", [("idempotency-key", "once"), ("x-stainless-retry-count", "0")])
async def test_a_stream_that_broke_off_is_not_given_again(path: str, body: Any, name: tuple[str, str]) -> None:
    cut = [chunk({"role": "assistant", "content": "hal"}, id="c", created=1, model="m"), UpstreamDied("gone")]
    door, headers = Door(cut), dict([name])
    asked = {"model": "m", "stream": True, **body}
    assert (await door.client().ask("POST", path, asked, headers=headers)).status == 200
    again = headers if name[1] == "once" else {name[0]: "1"}
    got = await door.client().ask("POST", path, asked, headers=again)
    assert got.status == 200 and "idempotent-replayed" not in got.headers and door.asked == 2


async def test_the_same_body_with_other_wishes_in_its_headers_is_another_request() -> None:
    door = Door()
    await door.send()
    headers = {"idempotency-key": "once", "x-edgewise-cache-namespace": "other"}
    got = await door.chat(ROOT, "hello", headers=headers)
    assert (got.status, got.error["code"]) == (400, "idempotency_error")
    await door.sdk(0)
    headers = {"x-stainless-retry-count": "1", "x-edgewise-cache-namespace": "other"}
    assert (await door.chat(ROOT, "hello", headers=headers)).status == 200 and door.asked == 3


@pytest.mark.parametrize("name", [("idempotency-key", "once"), ("x-stainless-retry-count", "0")])
async def test_who_comes_again_from_another_network_asks_the_same(name: tuple[str, str]) -> None:
    """What the edge says of a client is no wish of the client's."""
    door = Door(origin_secret="s3cret")
    tries = (name, name if name[1] == "once" else (name[0], "1"))
    for address, (header, value) in zip(("192.0.2.7", "2001:db8::7"), tries, strict=True):
        shown = {"x-edgewise-origin": "s3cret", "x-edgewise-client": address, "cache-control": "no-store, no-cache"}
        assert (await door.chat(ROOT, "hello", headers={**shown, header: value})).status == 200
    assert door.asked == 1


async def test_the_same_key_with_another_body_is_a_mistake() -> None:
    door = Door()
    await door.send()
    got = await door.send("something else")
    assert (got.status, got.error["code"]) == (400, "idempotency_error")


@pytest.mark.parametrize(("error", "asked"), [(UpstreamDied("x"), 1), (UpstreamUnavailable("x"), 2)])
async def test_a_failure_after_execution_is_kept_and_a_refusal_before_it_is_not(
    error: EdgewiseError, asked: int
) -> None:
    door = Door(error)
    first, second = await door.send(), await door.send()
    assert first.status == error.status
    assert second.status == (error.status if asked == 1 else 200)
    assert door.asked == asked


async def test_a_bad_request_does_not_use_its_key_up() -> None:
    door = Door()
    assert (await door.send(temperature="hot")).status == 400
    assert (await door.send()).status == 200


async def test_while_the_first_is_under_way_the_second_is_told_to_wait() -> None:
    door = Door()
    door.rooms.caller.latency_s = 5.0  # type: ignore[attr-defined]
    first = asyncio.create_task(door.send())
    for _ in range(30):
        await asyncio.sleep(0)
    got = await door.send()
    assert (got.status, got.error["code"], got.headers["x-should-retry"]) == (409, "idempotency_in_progress", "true")
    await door.clock.advance(6)
    assert (await first).status == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused(key: str) -> None:
    assert (await Door().send(key=key)).status == 400


async def test_another_callers_key_is_another_key() -> None:
    door = Door()
    made = (await door.key(tenant="acme"))["key"]
    await door.send()
    headers = {"idempotency-key": "once", "cache-control": "no-store, no-cache"}
    got = await door.chat(made, "hello", headers=headers)
    assert got.status == 200 and "idempotent-replayed" not in got.headers
    assert (await door.chat("ew_wrong", "hello", headers=headers)).status == 401


async def test_an_sdks_retry_is_not_billed_again() -> None:
    door = Door()
    first, second = await door.sdk(0), await door.sdk(1)
    assert first.body == second.body and door.asked == 1
    await door.sdk(0)
    assert door.asked == 2, "a new first try is a new request"
    await door.clock.advance(61)
    await door.sdk(1)
    assert door.asked == 3
    made = (await door.key(tenant="acme"))["key"]
    await door.sdk(1, key=made)
    assert door.asked == 4


async def test_a_failed_first_try_is_tried_again() -> None:
    door = Door(UpstreamUnavailable("x"))
    assert (await door.sdk(0)).status == 503
    assert (await door.sdk(1)).status == 200


async def test_a_retry_joins_a_first_try_that_is_under_way() -> None:
    door = Door()
    door.rooms.caller.latency_s = 5.0  # type: ignore[attr-defined]
    first = asyncio.create_task(door.sdk(0))
    for _ in range(30):
        await asyncio.sleep(0)
    second = asyncio.create_task(door.sdk(1))
    await door.clock.advance(6)
    assert (await first).body == (await second).body and door.asked == 1


@pytest.fixture
def doors(moto_aws: Aws, state_table: Table) -> tuple[Door, Door]:
    """Two processes over one table, on one clock."""
    one = Door(aws=moto_aws, state_table=state_table.name)
    return one, Door(aws=moto_aws, state_table=state_table.name, clock=one.clock)


async def slow_first_try(one: Door) -> asyncio.Task[Got]:
    """A first try at `one` that has taken long enough to be told to other processes."""
    one.rooms.caller.latency_s = 20.0  # type: ignore[attr-defined]
    first = asyncio.create_task(one.sdk(0))
    await until(lambda: bool(one.timers))
    assert await one.timers.pop()()
    return first


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 — what is waited for comes from another thread
        await asyncio.sleep(0.01)


async def test_a_retry_at_another_process_gets_the_first_trys_answer(doors: tuple[Door, Door]) -> None:
    """A client lost patience: its retry comes while the first try is under way elsewhere, and one call is billed."""
    one, two = doors
    first = await slow_first_try(one)
    second = asyncio.create_task(two.sdk(1))
    await until(lambda: bool(one.clock._sleepers) and len(one.clock._sleepers) > 1)
    assert not second.done()
    while not second.done():
        await one.clock.advance(1)
        await asyncio.sleep(0.01)
    assert (await first).body == second.result().body and (one.asked, two.asked) == (1, 0)
    assert (await two.sdk(2)).body == second.result().body and two.asked == 0
    await one.clock.advance(61)
    await two.sdk(1)
    assert two.asked == 1, "a minute later it is another request"


async def test_a_quick_first_try_writes_nothing(doors: tuple[Door, Door], state_table: Table) -> None:
    one, _ = doors
    assert (await one.sdk(0)).status == 200
    assert [row async for row in state_table.scan(filter="begins_with(pk, :idem)", values={":idem": "idem#"})] == []


async def test_a_retry_whose_first_try_failed_elsewhere_is_served(doors: tuple[Door, Door]) -> None:
    one, two = doors
    one.left.append(UpstreamUnavailable("x"))
    first = await slow_first_try(one)
    while not first.done():
        await one.clock.advance(1)
        await asyncio.sleep(0.01)
    assert first.result().status == 503
    assert (await two.sdk(1)).status == 200 and two.asked == 1


async def test_without_the_store_a_retry_is_served_anew() -> None:
    door = Door()
    tries = Tries(_Down, "m", door.clock)
    assert await tries.elsewhere() is None
    assert not await tries.claim()
    await tries.end(SAVED)


class _Down(MemoryReplays):
    async def begin(self, *_: Any) -> Any:
        raise Unavailable("no")
