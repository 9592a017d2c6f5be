"""DynamoDB's vector indexes: requests and answers against the service's own model, since no emulator has the
operation; and a partition that outgrows memory, over moto's items with a search that behaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from botocore.stub import Stubber

from edgewise.aws import Aws, AwsOptions, Table
from edgewise.cache.port import StoreError
from edgewise.cache.semantic.index import Row
from edgewise.cache.semantic.library import Library
from edgewise.cache.semantic.log import MOVED, LocalLog, LocalSnapshots
from edgewise.cache.semantic.vectors import DynamoVectors, definition
from edgewise.clock import FakeClock
from edgewise.words import Hit
from tests.cache.semantic.test_meaning import OTHER, QUESTION, REPEAT, Bench, WordEmbedder, plan, query
from tests.cache.semantic.vector_service import VectorAws

VECTOR = np.array([0.6, -0.8], np.float32)


@pytest.fixture
def stubbed() -> Iterator[tuple[Table, Stubber]]:
    aws = Aws(AwsOptions(region="us-east-1", access_key_id="test", secret_access_key="test"))
    with Stubber(aws.client("dynamodb")) as stub:
        yield Table(aws, "cache"), stub
    aws.close()


def item(name: str, until: float) -> dict[str, Any]:
    who = {"L": [{"S": "someone"}]}
    return {"id": {"S": name}, "key": {"S": name}, "text": {"S": "t"}, "until": {"N": str(until)}, "who": who}


async def test_a_search_asks_and_reads_as_the_service_model_says(
    stubbed: tuple[Table, Stubber], clock: FakeClock
) -> None:
    table, stub = stubbed
    stub.add_response(
        "search_vectors",
        {
            "SearchResults": [
                {"Item": item("near", clock.now() + 9), "Score": 0.1},
                {"Item": item("gone", clock.now() - 9), "Score": 0.2},
            ]
        },
        {
            "TableName": "cache",
            "IndexName": "meaning-2",
            "SearchVector": [{"N": "0.6"}, {"N": "-0.8"}],
            "SearchConditionExpression": "#partition = :partition",
            "ProjectionExpression": "id, #key, #text, until, who",
            "ExpressionAttributeNames": {"#partition": "partition", "#key": "key", "#text": "text"},
            "ExpressionAttributeValues": {":partition": {"S": "p"}},
            "TopK": 5,
        },
    )
    found = await DynamoVectors(table, clock).nearest("p", VECTOR, 5)
    assert [(each.row.id, round(each.similarity, 6)) for each in found] == [("near", 0.9)]
    assert found[0].row.principals == {"someone"}


async def test_trouble_is_a_store_error(stubbed: tuple[Table, Stubber], clock: FakeClock) -> None:
    table, stub = stubbed
    stub.add_client_error("search_vectors", "ThrottlingException")
    with pytest.raises(StoreError):
        await DynamoVectors(table, clock).nearest("p", VECTOR, 5)


def test_the_definition_is_one_that_the_service_model_accepts() -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    service = botocore.session.get_session().get_service_model("dynamodb")
    shape = service.operation_model("UpdateTable").input_shape
    asked = {"TableName": "cache", "VectorIndexUpdates": [{"Create": definition(384)}]}
    assert shape is not None
    assert not ParamValidator().validate(asked, shape).has_errors()


async def test_a_row_is_put_vouched_for_searched_and_dropped_with_all_its_wordings(
    cache_table: Table, clock: FakeClock
) -> None:
    aws = VectorAws(cache_table.aws, definition(64))
    vectors = DynamoVectors(Table(aws, cache_table.name), clock)
    embed = WordEmbedder().encode(["one way", "another way", "else"])
    for name, row in zip(("key", "key~2", "other"), embed, strict=True):
        await vectors.put("p", Row(name, name[:5].rstrip("~2"), name, clock.now() + 9, frozenset({"me"})), row)
    await vectors.vouch("p", "key", "you")
    await vectors.vouch("p", "key", "you")
    await vectors.vouch("p", "nobody", "you")
    (near,) = await vectors.nearest("p", embed[0], 1)
    assert (near.row.id, near.row.principals) == ("key", frozenset({"me", "you"})) and near.similarity == pytest.approx(
        1, abs=1e-4
    )
    assert await vectors.nearest("q", embed[0], 1) == []
    await vectors.drop_key("p", "key")
    assert [each.row.id for each in await vectors.nearest("p", embed[0], 5)] == ["other"]
    aws.close()


class Growing:
    """Libraries over one table, log and snapshots, whose partitions outgrow memory at four rows."""

    def __init__(self, table: Table, clock: FakeClock) -> None:
        self.clock = clock
        self.aws = VectorAws(table.aws, definition(64))
        self.vectors = DynamoVectors(Table(self.aws, table.name), clock)
        self.log, self.snapshots = LocalLog(), LocalSnapshots()

    def library(self, *, moves: bool = True) -> Library:
        vectors = self.vectors if moves else None
        return Library(self.clock, self.log, self.snapshots, vectors=vectors, most_rows=4)


async def test_a_partition_that_outgrows_memory_is_searched_by_the_service(
    cache_table: Table, clock: FakeClock
) -> None:
    """Whole, through the room's port: what was kept before and after the move is found, by every process."""
    growing = Growing(cache_table, clock)
    bench = Bench(clock, library=growing.library())
    asked = [
        query(text) for text in (QUESTION, "Who wrote Hamlet?", "How tall is K2?", "Where is Oslo?", "What is tea?")
    ]
    for each in asked:
        await bench.keep(each, plan())
        clock.time += 5
        assert isinstance(await bench.meaning.find(each, plan()), Hit)
    assert growing.aws.searches == 1 and await growing.snapshots.load(next(iter(growing.snapshots._packed))) == MOVED
    late = query("Why is the sky blue?")
    await bench.keep(late, plan())
    found = await bench.meaning.find(query(REPEAT), plan())
    assert isinstance(found, Hit) and found.entry.key == asked[0].key
    assert await bench.meaning.find(query(OTHER), plan()) == "unverified"
    # A process that held the rows, one that is new, and the entry that is reported.
    new = bench.another(growing.library())
    for each in (*asked, late):
        assert isinstance(await new.find(each, plan()), Hit)
    await new.remove(late.key, None)
    assert await bench.meaning.find(late, plan()) in ("absent", "unverified")
    growing.aws.close()


async def test_a_process_that_was_warm_follows_the_move(cache_table: Table, clock: FakeClock) -> None:
    """Also one that was frozen until too few rows are left to show it that the partition was large."""
    growing = Growing(cache_table, clock)
    one, other = growing.library(), growing.library()
    bench = Bench(clock, library=one)
    await bench.keep(query(QUESTION), plan(), life_s=20)
    also = bench.another(other)
    assert isinstance(await also.find(query(REPEAT), plan()), Hit)
    for text in ("Who wrote Hamlet?", "How tall is K2?", "Where is Oslo?", "What is tea?"):
        await bench.keep(query(text), plan(), life_s=20)
    clock.time += 5
    await bench.meaning.find(query(QUESTION), plan())
    clock.time += 20
    await bench.keep(query("Why is the sky blue?"), plan())
    assert isinstance(await also.find(query("Why is the sky blue?"), plan()), Hit)
    assert growing.aws.searches == 2 and other.rows() == 0
    growing.aws.close()


async def test_without_an_index_a_full_partition_gives_up_what_expires_soonest(
    cache_table: Table, clock: FakeClock
) -> None:
    growing = Growing(cache_table, clock)
    library = growing.library(moves=False)
    bench = Bench(clock, library=library)
    for n in range(9):
        await bench.keep(query(f"question number {n}"), plan(), life_s=900 - 90 * n)
        clock.time += 5
    assert isinstance(await bench.meaning.find(query("question number 3"), plan()), Hit)
    assert await bench.meaning.find(query("question number 8"), plan()) == "unverified"
    assert library.rows() == 4 and growing.aws.searches == 0
    await library.remove("nobody's", None)
    growing.aws.close()


async def test_a_search_that_fails_is_a_store_error_and_no_answer(cache_table: Table, clock: FakeClock) -> None:
    """Such as an index that nobody made."""
    growing = Growing(cache_table, clock)
    growing.aws.indexes.clear()
    await growing.snapshots.save("p", MOVED)
    with pytest.raises(StoreError):
        await growing.library().nearest("p", WordEmbedder().encode(["x"])[0], 5)
    growing.aws.close()
