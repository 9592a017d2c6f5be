"""DynamoDB's own vector index, for a partition that outgrows memory.

`SearchVectors` gives the nearest items of one hash value of the index's search schema; what comes back is only a
candidate, verified and read again like any other. The index is one per table, made with the attribute `vector` (a list
of numbers), cosine distance and the schema `partition` (HASH); `definition` says so in the API's words, since no
emulator has it and CloudFormation may not either. Rows are items of their own, `pk = "x#<partition>"`, so that only
partitions that were moved here pay for it.

DynamoDB's distance runs from 0 (the same) to 2: similarity is one less it. Source: the service model of
`SearchVectors` and `CreateVectorIndexAction` in botocore 1.44.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from edgewise.aws import AwsError, Table
from edgewise.cache.port import StoreError
from edgewise.cache.semantic.index import Neighbour, Row
from edgewise.clock import Clock

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

INDEX = "meaning"
_SHOWN = "id, #key, #text, until, who"
_NAMES = {"#partition": "partition", "#key": "key", "#text": "text"}


def definition(dim: int) -> dict[str, Any]:
    """The index as `UpdateTable` takes it (`VectorIndexUpdates: [{"Create": …}]`)."""
    return {
        "IndexName": INDEX,
        "VectorAttribute": {"AttributeName": "vector"},
        "SearchSchema": [{"AttributeName": "partition", "SearchSchemaElementType": "HASH"}],
        "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["id", "key", "text", "until", "who"]},
        "Dimensions": dim,
        "DistanceFunction": "COSINE",
    }


class DynamoVectors:
    """Rows of large partitions, searched by the service."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def put(self, partition: str, row: Row, vector: Array) -> None:
        """Add the row, or replace the one with its id. Raises `StoreError`."""
        item = {
            "pk": f"x#{partition}",
            "sk": row.id,
            "partition": partition,
            "id": row.id,
            "key": row.key,
            "text": row.text,
            "who": sorted(row.principals),
            "until": Decimal(repr(row.expires_at)),
            "expires_at": int(row.expires_at) + 1,
            "vector": [Decimal(repr(round(float(x), 6))) for x in vector],
        }
        try:
            await self._table.put(item)
        except AwsError as error:
            raise StoreError(f"vector not written: {error.code}") from error

    async def drop(self, partition: str, id: str) -> None:
        """Forget the row. Raises `StoreError`."""
        try:
            await self._table.delete(f"x#{partition}", id)
        except AwsError as error:
            raise StoreError(f"vector not removed: {error.code}") from error

    async def nearest(self, partition: str, vector: Array, k: int) -> list[Neighbour]:
        """The `k` live rows most similar to `vector`, best first. Raises `StoreError`."""
        try:
            answer = await self._table.aws.call(
                "dynamodb",
                "search_vectors",
                TableName=self._table.name,
                IndexName=INDEX,
                SearchVector=[{"N": repr(round(float(x), 6))} for x in vector],
                SearchConditionExpression="#partition = :partition",
                ProjectionExpression=_SHOWN,
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues={":partition": {"S": partition}},
                TopK=k,
            )
        except AwsError as error:
            raise StoreError(f"vectors not searched: {error.code}") from error
        now = self._clock.now()
        found = [_neighbour(result) for result in answer.get("SearchResults", [])]
        return [each for each in found if each.row.expires_at > now]


def _neighbour(result: dict[str, Any]) -> Neighbour:
    item = result["Item"]
    who = frozenset(each["S"] for each in item.get("who", {}).get("L", []))
    row = Row(item["id"]["S"], item["key"]["S"], item["text"]["S"], float(item["until"]["N"]), who)
    return Neighbour(row, 1.0 - float(result["Score"]))
