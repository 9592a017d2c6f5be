"""DynamoDB's vector index, against the service's own model: no emulator has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from botocore.stub import Stubber

from edgewise.aws import Aws, AwsOptions, Table
from edgewise.cache.port import StoreError
from edgewise.cache.semantic.vectors import INDEX, DynamoVectors, definition
from edgewise.clock import FakeClock

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
            "IndexName": INDEX,
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
