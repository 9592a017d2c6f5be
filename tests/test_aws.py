"""The seam to AWS: plain values go in and come out, and errors carry their code."""

from decimal import Decimal

import pytest

from edgewise.aws import Aws, AwsError, AwsOptions, Table


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
