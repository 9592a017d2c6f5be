"""The seam to AWS: plain values go in and come out, and errors carry their code."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from edgewise.aws import BATCH_TRIES, Aws, AwsError, AwsOptions, Table
from edgewise.cache.dynamodb import DynamoStore
from edgewise.cache.port import StoreError
from edgewise.clock import Clock, FakeClock


async def test_values_come_back_as_they_went_in(state_table: Table) -> None:
    item = {"pk": "a", "sk": "b", "n": 3, "d": Decimal("0.00000012"), "s": "é", "b": b"\x00", "l": [1, {"x": None}]}
    await state_table.put(item)
    assert await state_table.get("a", "b", consistent=True) == item


async def test_a_failed_condition_says_so_and_shows_the_old_item(state_table: Table) -> None:
    await state_table.put({"pk": "a", "sk": "b", "v": 1})
    with pytest.raises(AwsError) as caught:
        await state_table.put({"pk": "a", "sk": "b", "v": 2}, condition="attribute_not_exists(pk)")
    assert caught.value.is_condition
    assert caught.value.item == {"pk": "a", "sk": "b", "v": 1}


async def test_a_query_walks_every_page_between_its_bounds(state_table: Table) -> None:
    for number in range(25):
        await state_table.put({"pk": "p", "sk": f"{number:02d}", "pad": "x" * 1000})
    found = [item["sk"] async for item in state_table.query("p", after="03", before="20")]
    assert found == [f"{number:02d}" for number in range(4, 20)]
    newest = [item["sk"] async for item in state_table.query("p", forward=False, limit=3)]
    assert newest == ["24", "23", "22"]


async def test_a_range_that_ends_where_it_begins_asks_for_nothing() -> None:
    """DynamoDB refuses it; here nobody could even answer."""
    table = Table(Aws(AwsOptions(region="us-east-1", endpoint_url="http://127.0.0.1:1", max_attempts=1)), "t")
    assert [item async for item in table.query("p", after="03", before="03")] == []
    assert [item async for item in table.query("p", after="03", before="02")] == []


async def test_a_transaction_is_all_or_nothing(state_table: Table) -> None:
    await state_table.put({"pk": "taken", "sk": "0"})
    put = {"Item": {"pk": "new", "sk": "0"}}
    blocked = {"Item": {"pk": "taken", "sk": "0"}, "ConditionExpression": "attribute_not_exists(pk)"}
    with pytest.raises(AwsError) as caught:
        await state_table.transact([{"Put": put}, {"Put": blocked}])
    assert caught.value.reasons == ("None", "ConditionalCheckFailed")
    assert await state_table.get("new", "0") is None


class Busy(Aws):
    """A table that does one write or read of a batch a time, and after `rounds` of them none at all. `asked` holds
    when it was called, and for how many."""

    def __init__(self, clock: Clock, rounds: int, options: AwsOptions | None = None) -> None:
        super().__init__(options, clock)
        self.rounds = rounds
        self.asked: list[tuple[float, int]] = []

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        (batch,) = arguments["RequestItems"].values()
        reads = isinstance(batch, dict)
        listed = batch["Keys"] if reads else batch
        self.asked.append((self.clock.now(), len(listed)))
        done = int(len(self.asked) <= self.rounds)
        left = {"t": {"Keys": listed[done:]} if reads else listed[done:]} if listed[done:] else {}
        if reads:
            return {"Responses": {"t": listed[:done]}, "UnprocessedKeys": left}
        return {"UnprocessedItems": left}


async def driven(clock: FakeClock, work: Any) -> Any:
    """What `work` comes to, with time moved on until it does; an error it raised is given back."""
    task = asyncio.ensure_future(work)
    for _ in range(200):
        await clock.advance(0.05)
        if task.done():
            break
    return (await asyncio.gather(task, return_exceptions=True))[0]


@pytest.mark.parametrize("reads", [True, False])
async def test_what_a_busy_table_leaves_undone_is_asked_for_again_after_waits_that_grow(reads: bool) -> None:
    clock = FakeClock()
    aws = Busy(clock, rounds=9)
    table, keys = Table(aws, "t"), [("p", str(number)) for number in range(5)]
    ended = await driven(clock, table.get_many(keys) if reads else table.delete_many(keys))
    assert [count for _, count in aws.asked] == [5, 4, 3, 2, 1]
    assert ended == ([{"pk": pk, "sk": sk} for pk, sk in keys] if reads else None)
    waits = [after - before for (before, _), (after, _) in zip(aws.asked, aws.asked[1:], strict=False)]
    assert all(0 < wait <= 0.05 * 2**tried for tried, wait in enumerate(waits))


@pytest.mark.parametrize("reads", [True, False])
async def test_but_not_for_ever_and_then_it_is_said_what_it_is(reads: bool) -> None:
    clock = FakeClock()
    aws = Busy(clock, rounds=0)
    table, keys = Table(aws, "t"), [("p", str(number)) for number in range(5)]
    ended = await driven(clock, table.get_many(keys) if reads else table.delete_many(keys))
    assert isinstance(ended, AwsError)
    assert ended.code == "ProvisionedThroughputExceededException"
    assert len(aws.asked) == BATCH_TRIES


async def test_nor_longer_than_a_call_may_take_and_the_cache_has_trouble_with_its_store() -> None:
    clock = FakeClock()
    aws = Busy(clock, rounds=0, options=AwsOptions(read_timeout_s=0.5))
    ended = await driven(clock, DynamoStore(Table(aws, "t"), clock).get_many("acme", ["k" * 64]))
    assert isinstance(ended, StoreError)
    assert str(ended) == "ProvisionedThroughputExceededException"
    assert len(aws.asked) < BATCH_TRIES
    assert aws.asked[-1][0] - aws.asked[0][0] < 0.5
