"""Providers that fail, in whole houses over shared tables: what one house has met, the others act on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from edgewise import flow
from edgewise.assemble.house import House, build
from edgewise.aws import Table
from edgewise.chat import ChatRequest
from edgewise.clock import Deadline, FakeClock
from edgewise.errors import ContentFiltered, ContextTooLong, UpstreamDied, UpstreamError, UpstreamTimeout
from edgewise.routing.breaker import LIMIT, PROBE_S
from edgewise.served import Served
from edgewise.settings import Settings
from edgewise.settings import Upstream as UpstreamSetting
from edgewise.words import Credentials, Hit, Note
from tests.upstream import Manner, Upstream

ROOT = "ew_root_of_the_test"
PRICE = {"i": "1", "o": "2"}
DOWN = Manner(status=503)


def refusing(code: str) -> Manner:
    error = {"message": "No.", "type": "invalid_request_error", "param": None, "code": code}
    return Manner(status=400, body=json.dumps({"error": error}).encode())


@dataclass(slots=True)
class Recorder:
    """Keeps the notes on their way to the record."""

    inner: Any
    notes: list[Note] = field(default_factory=list)

    def note(self, note: Note) -> None:
        self.notes.append(note)
        self.inner.note(note)


@dataclass(slots=True)
class Town:
    """Two providers, and as many houses as a test wants, on one clock and one pair of tables."""

    clock: FakeClock
    settings: Settings
    one: Upstream
    two: Upstream
    houses: list[House] = field(default_factory=list)
    asked: int = 0

    def house(self, **settings: Any) -> tuple[House, Recorder]:
        house = build(self.settings.model_copy(update=settings), self.clock)
        recorder = house.rooms.record = Recorder(house.rooms.record)
        self.houses.append(house)
        return house, recorder

    async def ask(
        self, house: House, text: str = "", *, stream: bool = False, within_s: float = 30, **more: Any
    ) -> Served:
        """One request to `pair`, another each time unless `text` says what."""
        self.asked += 1
        routing = more.pop("routing", {})
        body = {"model": "pair", "messages": [{"role": "user", "content": text or f"Question {self.asked}"}], **more}
        request = ChatRequest(body, stream=stream, routing=routing)
        credentials = Credentials(ROOT, "/v1/chat/completions")
        deadline = Deadline.after(self.clock, within_s)
        return await flow.serve(house.rooms, credentials, request, deadline, f"req_{self.asked}")

    async def model(self, house: House, **more: Any) -> str:
        served = await self.ask(house, **more)
        assert served.live is not None
        return served.live.model.name


@pytest.fixture
async def town(moto_url: str, cache_table: Table, state_table: Table, upstream: Upstream) -> AsyncIterator[Town]:
    async with Upstream() as other:
        settings = Settings(
            root_key=ROOT,
            request_log=False,
            local_aws_url=moto_url,
            cache_table=cache_table.name,
            state_table=state_table.name,
            cache_timeout_s=5,
            cache_ttl_jitter=0,
            max_retries=0,
            upstreams=(
                UpstreamSetting(name="one", base_url=upstream.base_url, models=("m",)),
                UpstreamSetting(name="two", base_url=other.base_url, models=("m",)),
            ),
            model_overrides={name: {"price": PRICE, "latency_ms": 500, "output": 100} for name in ("one/m", "two/m")},
            aliases={"pair": ["one/m", "two/m"], "alone": {"models": ["one/m"], "allow_fallbacks": False}},
        )
        town = Town(FakeClock(), settings, upstream, other)
        yield town
        for house in town.houses:
            await house.background.drain()
            await house.close()


async def read(served: Served) -> None:
    assert served.chunks is not None
    async for _ in served.chunks:
        pass


async def test_streams_that_die_open_the_breaker_for_every_house_and_are_never_switched(town: Town) -> None:
    here, _ = town.house()
    town.one.default = Manner(text="It begins well and then", cut="after-content")
    for _ in range(LIMIT):
        with pytest.raises(UpstreamDied):
            await read(await town.ask(here, stream=True))
    assert (town.one.calls, town.two.calls) == (LIMIT, 0)
    elsewhere, _ = town.house()
    assert await town.model(elsewhere) == "two/m"
    assert await town.model(here) == "two/m"


async def test_clients_that_leave_streams_open_no_breaker(town: Town) -> None:
    house, recorder = town.house()
    town.one.default = Manner(gate=asyncio.Event(), gate_at="content")
    for _ in range(2 * LIMIT):
        served = await town.ask(house, "a stream that is left", stream=True)
        assert served.chunks is not None
        await anext(served.chunks)
        await served.chunks.aclose()  # type: ignore[attr-defined]
    town.one.default = Manner()
    elsewhere, _ = town.house()
    assert await town.model(elsewhere) == "one/m"
    assert {attempt.error for note in recorder.notes for attempt in note.attempts} == {"cancelled"}


async def test_of_two_houses_one_probes_while_the_other_goes_round(town: Town) -> None:
    here, _ = town.house()
    there, _ = town.house()
    town.one.default = DOWN
    for _ in range(LIMIT):
        await town.ask(here)
    assert await town.model(there) == "two/m"
    await town.clock.advance(6)
    gate = asyncio.Event()
    town.one.default = Manner(gate=gate)
    before = town.one.calls
    asked = [asyncio.create_task(town.model(house)) for house in (here, there)]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == ["two/m"]
    gate.set()
    assert sorted(await asyncio.gather(*asked)) == ["one/m", "two/m"]
    assert town.one.calls == before + 1
    await town.clock.advance(4)
    assert [await town.model(house) for house in (here, there)] == ["one/m", "one/m"]


async def test_a_probe_that_its_house_took_to_its_grave_is_made_again(town: Town) -> None:
    here, _ = town.house()
    there, _ = town.house()
    town.one.behave(Manner(status=429, headers={"retry-after": "1"}))
    assert await town.model(here) == "two/m"
    await town.clock.advance(1.5)
    town.one.default = Manner(gate=asyncio.Event())
    town.one.came.clear()
    probe = asyncio.create_task(town.model(here))
    await town.one.came.wait()
    assert await town.model(there) == "two/m"
    town.one.default = Manner()
    await town.clock.advance(PROBE_S)
    assert await town.model(there) == "one/m"
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)


async def test_a_providers_retry_after_is_kept_by_every_house(town: Town) -> None:
    here, _ = town.house()
    there, _ = town.house()
    town.one.behave(Manner(status=429, headers={"retry-after": "40"}))
    assert await town.model(here) == "two/m"
    for _ in range(3):
        await town.clock.advance(12)
        assert [await town.model(house) for house in (here, there)] == ["two/m", "two/m"]
    assert town.one.calls == 1
    await town.clock.advance(5)
    assert await town.model(there) == "one/m"


@pytest.mark.parametrize(
    ("code", "option", "error"),
    [
        ("context_length_exceeded", "context_fallbacks", ContextTooLong),
        ("content_filter", "content_fallbacks", ContentFiltered),
        ("content_policy_violation", "content_fallbacks", ContentFiltered),
    ],
)
async def test_each_refusal_has_a_list_of_its_own(town: Town, code: str, option: str, error: type) -> None:
    house, _ = town.house()
    town.one.default = refusing(code)
    with pytest.raises(error):
        await town.ask(house, model="alone")
    assert await town.model(house, model="alone", routing={option: ["two/m"]}) == "two/m"
    wrong = ({"context_fallbacks", "content_fallbacks"} - {option}).pop()
    with pytest.raises(error):
        await town.ask(house, model="alone", routing={wrong: ["two/m"]})


async def test_a_refusal_opens_no_breaker(town: Town) -> None:
    house, _ = town.house()
    town.one.default = refusing("invalid_value")
    for _ in range(2 * LIMIT):
        with pytest.raises(UpstreamError):
            await town.ask(house, model="one/m")
    town.one.default = Manner()
    assert await town.model(house) == "one/m"


async def test_a_hedge_wins_and_the_slow_call_is_cancelled_and_charged(town: Town) -> None:
    house, recorder = town.house()
    town.one.default = Manner(gate=asyncio.Event())
    asked = asyncio.create_task(town.model(house, routing={"hedge": True}, max_tokens=20))
    await town.one.came.wait()
    while not asked.done():
        await town.clock.advance(0.3)
        await asyncio.sleep(0.01)
    assert await asked == "two/m"
    await town.one.left.wait()
    (note,) = recorder.notes
    assert {(a.model.name, a.role, a.error) for a in note.attempts} == {
        ("one/m", "answer", "cancelled"),
        ("two/m", "hedge", None),
    }
    assert note.cost_usd is None, "what the cancelled call cost nobody knows, so it is not taken for nothing"


@pytest.mark.parametrize("within_s", [0.3, 0.6])
async def test_a_chain_ends_with_its_deadline(town: Town, within_s: float) -> None:
    """The clock stands still here, so each call may use all that is left; none is begun with too little."""
    house, recorder = town.house()
    town.one.default = town.two.default = Manner(gate=asyncio.Event())
    asked = asyncio.create_task(town.ask(house, within_s=within_s))
    await town.one.came.wait()
    town.clock.time += within_s - 0.1
    with pytest.raises(UpstreamTimeout):
        await asked
    assert (town.one.calls, town.two.calls) == (1, 0)
    assert [attempt.model.name for attempt in recorder.notes[-1].attempts] == ["one/m"]


async def test_who_stood_in_is_kept_for_a_minute_and_not_for_the_day(town: Town) -> None:
    house, _ = town.house()
    town.one.behave(DOWN)
    first = await town.ask(house, "the same")
    assert first.live is not None and first.live.model.name == "two/m" and first.stored == "kept"
    await town.clock.advance(50)
    again = await town.ask(house, "the same")
    assert isinstance(again.verdict, Hit) and again.verdict.entry.provider == "two"
    await town.clock.advance(20)
    later = await town.ask(house, "the same")
    assert later.live is not None and later.live.model.name == "one/m"
    await town.clock.advance(3600)
    assert isinstance((await town.ask(house, "the same")).verdict, Hit), "the asked model's own answer stays"


async def test_a_client_that_wants_less_than_a_minute_gets_less(town: Town) -> None:
    house, _ = town.house(cache_ttl_s=30.0)
    town.one.default = DOWN
    await town.ask(house, "the same")
    await town.clock.advance(31)
    assert not isinstance((await town.ask(house, "the same")).verdict, Hit)


@asynccontextmanager
async def stale(town: Town) -> AsyncIterator[tuple[House, Recorder, Served]]:
    """A stale answer as it was served, while it is renewed behind."""
    house, recorder = town.house(cache_ttl_s=10.0, cache_stale_s=3600.0)
    await town.ask(house, "old news")
    await house.background.drain()
    await town.clock.advance(20)
    yield house, recorder, await town.ask(house, "old news")


async def test_renewing_a_stale_answer_is_a_line_of_its_own(town: Town) -> None:
    async with stale(town) as (house, recorder, served):
        assert isinstance(served.verdict, Hit) and served.verdict.kind == "stale"
        await house.background.drain()
    hit, renewed = sorted(recorder.notes[1:], key=lambda note: note.route)
    assert (hit.route, hit.cost_usd) == ("/v1/chat/completions", Decimal(0))
    assert (renewed.route, renewed.request_id) == ("refresh", hit.request_id)
    assert renewed.cost_usd and renewed.attempts[0].model.name == "one/m"
    assert (renewed.tenant, renewed.key_id) == (hit.tenant, hit.key_id)
    fresh = await town.ask(house, "old news")
    assert isinstance(fresh.verdict, Hit) and fresh.verdict.kind == "exact"


async def test_a_renewal_that_fails_says_so_in_its_line(town: Town) -> None:
    town.two.default = DOWN
    async with stale(town) as (house, recorder, served):
        town.one.default = DOWN
        assert isinstance(served.verdict, Hit)
        await house.background.drain()
    (renewed,) = [note for note in recorder.notes if note.route == "refresh"]
    assert (renewed.status, renewed.error) == (503, "upstream_unavailable")
    assert {attempt.status for attempt in renewed.attempts} == {503}
