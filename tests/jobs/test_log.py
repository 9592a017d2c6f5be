"""What is told of an answer: numbers that stay, one writer at a time, nobody told two answers."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from edgewise.aws import Table
from edgewise.clock import FakeClock
from edgewise.jobs.answers.dynamodb import DynamoShelf
from edgewise.jobs.answers.kept import Kept
from edgewise.jobs.answers.log import (
    FLUSH_CHARS,
    RESTARTED,
    Event,
    Log,
    Retold,
    Spool,
    Taken,
    ends,
    number_of,
    restarts,
    unread,
)
from tests.jobs.fakes import MemoryBlobs, MemoryStretches

TEXT = "response.output_text.delta"
ADDED = {"type": "response.output_item.added", "output_index": 0, "item": {"id": "msg_1"}}
WHOLE = {"type": "response.completed", "response": {"status": "completed"}}


def kept(id: str = "resp_1", **more: Any) -> Kept:
    wire = {"id": id, "status": "queued"}
    return Kept(id, "acme", "k", "/v1/responses", 1_800_000_000, 1_900_000_000, wire=wire, **more)


def says(*texts: str) -> list[Event]:
    return [{"type": TEXT, "item_id": "msg_1", "delta": text, "logprobs": []} for text in texts]


def text(events: Sequence[Event]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == TEXT)


def cut(whole: str, at: list[int]) -> list[Event]:
    """A message that says `whole`, in pieces."""
    marks = sorted({0, len(whole), *(place % (len(whole) + 1) for place in at)})
    return [ADDED, *says(*(whole[a:b] for a, b in itertools.pairwise(marks)))]


places = st.lists(st.integers(0, 60), max_size=6)
words = st.text("ab", min_size=1, max_size=12)


class TestRetold:
    @given(whole=words, at=places, again=places, told=st.integers(0, 20))
    def test_the_same_answer_goes_on_where_the_last_attempt_died(
        self, whole: str, at: list[int], again: list[int], told: int
    ) -> None:
        """However either attempt was cut into pieces, the text is told once and whole."""
        before = cut(whole, at)[:told]
        retold = Retold(before)
        events = [*before, *(event for piece in cut(whole, again) for event in retold.add([piece]))]
        assert text(events) == whole
        assert not any(map(restarts, events)) and events.count(ADDED) == 1

    @given(first=words, second=words, at=places, told=st.integers(1, 20), end=st.booleans())
    def test_another_answer_is_told_anew_behind_the_event_that_says_so(
        self, first: str, second: str, at: list[int], told: int, end: bool
    ) -> None:
        before = cut(first, at)[:told]
        retold = Retold(before)
        new = [event for piece in [*cut(second, at), WHOLE] for event in retold.add([piece])]
        if second.startswith(text(before)):
            assert text(before) + text(new) == second and not any(map(restarts, new))
        else:
            assert new[0] == RESTARTED and text(new) == second and new[-1] == WHOLE

    def test_a_call_of_a_tool_is_never_gone_on_with(self) -> None:
        call = {"type": "response.output_item.added", "item": {"id": "fc_1", "call_id": "call_a"}}
        other = {**call, "item": {"id": "fc_1", "call_id": "call_b"}}
        assert Retold([call]).add([other]) == [RESTARTED, other]
        assert Retold([]).add([other]) == [other]


class TestUnread:
    LOG: Sequence[Event] = [
        {"type": kind, "sequence_number": n, **more}
        for n, (kind, more) in enumerate(
            [
                ("response.created", {}),
                ("response.in_progress", {}),
                (TEXT, {"delta": "old"}),
                ("error", {"code": "restarted"}),
                (TEXT, {"delta": "new"}),
                ("response.completed", {}),
            ]
        )
    ]

    @pytest.mark.parametrize(
        ("sent", "numbers"),
        [(-1, [0, 1, 4, 5]), (0, [1, 4, 5]), (1, [4, 5]), (2, [3]), (3, [4, 5]), (4, [5]), (5, []), (9, [])],
    )
    def test_nobody_is_told_two_answers(self, sent: int, numbers: list[int]) -> None:
        assert [number_of(event) for event in unread(self.LOG, sent)] == numbers

    @given(seen=st.integers(0, 6), sent=st.integers(-1, 6))
    def test_who_follows_hears_what_who_comes_later_hears(self, seen: int, sent: int) -> None:
        """A stream that reads the log in two parts, unless it had old text before the new began."""
        first = unread(self.LOG[:seen], sent)
        if any(map(restarts, first)):
            return
        both = [*first, *unread(self.LOG[seen:], max([sent, *map(number_of, first)]))]
        if any(map(restarts, both)):
            assert text(both) in ("", "old") and restarts(both[-1])
        else:
            assert both == unread(self.LOG, sent)


class TestLog:
    async def test_events_are_numbered_behind_an_opening(self) -> None:
        stretches = MemoryStretches()
        log = Log(stretches, kept())
        await log.write(says("a", "b"))
        await log.write([WHOLE])
        assert [number_of(event) for event in stretches.events] == [0, 1, 2, 3, 4]
        assert [event["response"]["status"] for event in stretches.events[:2]] == ["queued", "in_progress"]
        assert log.end == {**WHOLE, "sequence_number": 4} and text(log.text) == "ab"

    async def test_of_all_who_write_at_once_one_is_first(self, state_table: Table, clock: FakeClock) -> None:
        """A worker taken for dead, its successor and a client that cancels: one end, and no number twice."""
        shelf = DynamoShelf(state_table, MemoryBlobs(), clock)
        logs = [Log(shelf, kept()) for _ in range(8)]
        outcomes = await asyncio.gather(*(log.write([WHOLE]) for log in logs), return_exceptions=True)
        assert outcomes.count(None) == 1 and all(o is None or isinstance(o, Taken) for o in outcomes)
        assert [ends(event) for event in await shelf.told("resp_1")] == [False, False, True]
        with pytest.raises(Taken):
            await logs[outcomes.index(None) - 1].write(says("too late"))

    async def test_a_reader_asks_only_for_what_is_beyond(self, state_table: Table, clock: FakeClock) -> None:
        shelf = DynamoShelf(state_table, MemoryBlobs(), clock)
        log = Log(shelf, kept())
        await log.write(says("a"))
        await log.write(says("b" * 500_000))
        assert [number_of(event) for event in await shelf.told("resp_1", 2)] == [3]
        again = Log(shelf, kept())
        await again.read()
        await again.write([WHOLE])
        assert text(await shelf.told("resp_1")) == "a" + "b" * 500_000
        clock.time += 200_000_000
        assert await shelf.told("resp_1") == []

    async def test_a_write_whose_answer_was_lost_finds_itself(self, state_table: Table, clock: FakeClock) -> None:
        class Forgetful(Table):
            async def put(self, item: Any, **more: Any) -> None:
                await super().put(item, **more)
                await super().put(item, **more)

        shelf = DynamoShelf(Forgetful(state_table.aws, state_table.name), MemoryBlobs(), clock)
        await Log(shelf, kept()).write([WHOLE])
        assert len(await shelf.told("resp_1")) == 3

    async def test_what_is_deleted_is_gone_altogether(self, state_table: Table, clock: FakeClock) -> None:
        blobs = MemoryBlobs()
        shelf = DynamoShelf(state_table, blobs, clock)
        await shelf.put(kept())
        await Log(shelf, kept()).write(says("a secret"))
        large = random.Random(0).randbytes(300_000).hex()
        await Log(shelf, kept(id="resp_2")).write(says(large))
        assert blobs.objects
        for name in ("resp_1", "resp_2"):
            await shelf.delete(name)
            assert [item async for item in state_table.query(f"resp#{name}")] == []
        assert blobs.objects == {}


class TestSpool:
    async def test_events_wait_for_company_but_not_long(self, clock: FakeClock) -> None:
        stretches = MemoryStretches()
        async with Spool(Log(stretches, kept()), clock, 0.5) as spool:
            spool.add(says("a"))
            await clock.advance(0.4)
            spool.add(says("b"))
            assert stretches.writes == 0
            await clock.advance(0.2)
            assert stretches.writes == 1 and text(stretches.events) == "ab"
            spool.add(says("c" * FLUSH_CHARS))
            await clock.advance(0)
            assert stretches.writes == 2
            spool.add(says("d"))
        assert (text(spool.rest), stretches.writes) == ("d", 2)

    @pytest.mark.parametrize(("seconds", "most"), [(10, 20), (60, 60), (600, 130)])
    async def test_a_long_answer_is_not_written_more_often_than_it_is_worth(
        self, clock: FakeClock, seconds: int, most: int
    ) -> None:
        """An answer of ten words a second: twice a second at first, then less and less often."""
        stretches = MemoryStretches()
        async with Spool(Log(stretches, kept()), clock, 0.5) as spool:
            for n in range(seconds * 10):
                spool.add(says(f"word{n * n % 997} "))
                await clock.advance(0.1)
        sizes = [len(zstandard.compress(orjson.dumps(one))) for one in stretches.written]
        print(f"{seconds} s: {stretches.writes} writes, {sum(-(-size // 1024) for size in sizes)} write units")
        assert len(stretches.events) > seconds * 9 and stretches.writes <= most

    async def test_who_has_lost_the_log_hears_of_it(self, clock: FakeClock) -> None:
        stretches = MemoryStretches()
        log = Log(stretches, kept())
        await Log(stretches, kept()).write([WHOLE])

        async def write(*more: str) -> None:
            async with Spool(log, clock, 0.5) as spool:
                spool.add(says("a"))
                await clock.advance(1)
                for word in more:
                    spool.add(says(word))

        with pytest.raises(Taken):
            await write()
        with pytest.raises(Taken):
            await write("b")
