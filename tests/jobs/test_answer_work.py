"""The worker's side of a background answer, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from edgewise.api.background import Background, Desk
from edgewise.api.making import pace_of
from edgewise.aws import Table
from edgewise.chat import ChatRequest
from edgewise.clock import Deadline, FakeClock
from edgewise.jobs.answers.dynamodb import DynamoShelf
from edgewise.jobs.answers.kept import Kept, Made
from edgewise.jobs.answers.log import Log
from edgewise.jobs.answers.work import AnswerWork
from edgewise.jobs.room import Again, Options
from edgewise.jobs.share import Share
from edgewise.jobs.store import Claimed, Done, Held
from edgewise.jobs.work import Delivery
from tests.jobs.fakes import MemoryBlobs, MemoryQueue, MemoryStretches
from tests.jobs.rig import Counts


@pytest.mark.parametrize(
    ("url", "stream", "more", "pace_s"),
    [
        ("/v1/responses", True, {}, 0.5),
        ("/v1/responses", False, {}, 2.0),
        ("/v1/responses", True, {"response_format": {"type": "json_object"}}, 0.5),
        ("/v1/responses", False, {"response_format": {"type": "json_object"}}, None),
        ("/v1/chat/completions", False, {}, None),
    ],
)
def test_who_is_told_while_it_is_made(url: str, stream: bool, more: Any, pace_s: float | None) -> None:
    kept = Kept("resp_1", "acme", "k", url, 1, 2, ask={"stream": stream})
    assert pace_of(kept, ChatRequest({"model": "m", **more})) == pace_s


class Watched:
    """A shelf with one answer, in memory; it counts how often its worker looks and writes."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.renewed = self.looked = 0

    async def get(self, _id: str) -> Kept:
        return self.kept

    async def claim(self, _id: str, _owner: str, _lease_s: float) -> Claimed:
        return Claimed(1, True, {})

    async def renew(self, _id: str, _owner: str, _lease_s: float) -> bool:
        self.renewed += 1
        return not self.kept.ended

    async def put_call(self, *_: Any) -> None:
        raise AssertionError("nothing was paid for")

    async def holds(self, _id: str, _owner: str) -> bool:
        self.looked += 1
        return not self.kept.ended


@pytest.mark.parametrize(("lost", "code"), [(False, "unfinished"), (True, "not_found")])
async def test_a_stream_that_ends_before_its_answer_says_so(clock: FakeClock, lost: bool, code: str) -> None:
    class Shelf(MemoryStretches):
        async def get(self, _id: str) -> Kept | None:
            return None if lost else kept

    kept = _kept(clock)
    shelf: Any = Shelf()
    await Log(shelf, kept).write([{"type": "response.output_text.delta", "delta": "so far"}])
    told: list[dict[str, Any]] = []

    async def follow() -> None:
        desk = Desk(shelf, MemoryQueue(clock), clock)
        async for piece in Background(lambda: desk, _nobody)._events(kept, 0):
            if piece.startswith(b"event"):
                told.append(orjson.loads(piece.split(b"data: ")[1]))

    following = asyncio.create_task(follow())
    await clock.advance(601)
    await following
    assert [event["sequence_number"] for event in told] == [1, 2, 2]
    assert (told[-1]["type"], told[-1]["code"]) == ("error", code)


async def _nobody(_request: Any) -> Any:
    raise AssertionError("nobody asks")


class TestWork:
    @pytest.fixture
    def shelf(self, state_table: Table, clock: FakeClock) -> DynamoShelf:
        return DynamoShelf(state_table, MemoryBlobs(), clock)

    def work(self, shelf: DynamoShelf, clock: FakeClock, queue: MemoryQueue, make: Any) -> AnswerWork:
        def refuse(kept: Kept, reason: str) -> Made:
            return Made("failed", {"reason": reason})

        return AnswerWork(shelf, queue, clock, Share(clock), Counts(), make=make, refuse=refuse)

    async def test_one_worker_at_a_time_and_an_end_that_stays(self, shelf: DynamoShelf, clock: FakeClock) -> None:
        await shelf.put(_kept(clock))
        assert await shelf.claim("resp_1", "a", 30) == Claimed(1, True, {})
        assert isinstance(await shelf.claim("resp_1", "b", 30), Held)
        assert await shelf.renew("resp_1", "a", 30) and not await shelf.renew("resp_1", "b", 30)
        assert await shelf.holds("resp_1", "a") and not await shelf.holds("resp_1", "b")
        assert await shelf.end("resp_1", Made("completed", {"x": 1}))
        assert not await shelf.end("resp_1", Made("cancelled", {}))
        assert isinstance(await shelf.claim("resp_1", "b", 30), Done)
        assert not await shelf.holds("resp_1", "a") and not await shelf.holds("resp_2", "a")
        found = await shelf.get("resp_1")
        assert found is not None and (found.state, found.wire) == ("completed", {"x": 1})
        clock.time += 100_000_000
        assert await shelf.get("resp_1") is None

    async def test_a_twin_message_waits_and_a_repeated_one_changes_nothing(
        self, shelf: DynamoShelf, clock: FakeClock
    ) -> None:
        await shelf.put(_kept(clock, stored=False))
        queue, made = MemoryQueue(clock), 0

        async def make(*_: Any) -> Made:
            nonlocal made
            made += 1
            with pytest.raises(Again):
                await work.work("resp_1", delivery)
            return Made("completed", {"made": made})

        work = self.work(shelf, clock, queue, make)
        delivery = Delivery("r", 1, Deadline.after(clock, 900))
        await work.work("resp_1", delivery)
        await work.work("resp_1", delivery)
        found = await shelf.get("resp_1")
        assert made == 1 and found is not None and found.state == "completed"
        assert found.expires_at == int(clock.now()) + 600, "an answer that its client did not want stored goes soon"

    async def test_a_worker_looks_often_and_writes_seldom(self, clock: FakeClock) -> None:
        """Its lease of thirty seconds is renewed each ten, and a cancelled answer is let go within two."""

        async def never(*_: Any) -> Made:
            await asyncio.Event().wait()
            raise AssertionError("nobody wakes it")

        watched = Watched(_kept(clock))
        shelf: Any = watched
        work = self.work(shelf, clock, MemoryQueue(clock), never)
        working = asyncio.create_task(work.work("resp_1", Delivery("r", 1, Deadline.after(clock, 900))))
        await clock.advance(61)
        assert (watched.renewed, watched.looked) == (6, 24)
        watched.kept = replace(watched.kept, state="cancelled")
        await clock.advance(2)
        await working

    async def test_one_that_kills_its_worker_is_given_up(self, shelf: DynamoShelf, clock: FakeClock) -> None:
        await shelf.put(_kept(clock))
        queue = MemoryQueue(clock)

        async def never(*_: Any) -> Made:
            raise AssertionError("not again")

        for _ in range(Options().max_strikes):
            await shelf.claim("resp_1", clock.token("w"), 30)
            clock.time += 31
        await self.work(shelf, clock, queue, never).work("resp_1", Delivery("r", 1, Deadline.after(clock, 900)))
        found = await shelf.get("resp_1")
        assert found is not None and (found.state, found.wire) == ("failed", {"reason": "worker_died"})
        assert [letter["kind"] for letter in queue.dead] == ["response"]


def _kept(clock: FakeClock, **more: Any) -> Kept:
    now = int(clock.now())
    return Kept("resp_1", "acme", "k", "/v1/responses", now, now + 9999, state="queued", background=True, **more)
