"""DynamoDB's own vector indexes, for partitions that outgrow memory.

`SearchVectors` gives the nearest items of one hash value of an index's search schema; what comes back is only a
candidate, verified and read again like any other. There is one index for each dimension that is used, since an index
has one: over the attribute `vector<dim>` (a list of numbers), by cosine distance, with the schema `partition` (HASH);
`definition` says so in the API's words. Rows are items of their own, `pk = "x#<partition>"`, so that only partitions
that were moved here pay for it.

DynamoDB's distance runs from 0 (the same) to 2: similarity is one less it. No emulator has the operation; the tests
hold requests and answers to the service's own model. Source: `SearchVectors` and `CreateVectorIndexAction` in
botocore 1.44.
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

_SHOWN = "id, #key, #text, until, who"
_NAMES = {"#partition": "partition", "#key": "key", "#text": "text"}


def index_of(dim: int) -> str:
    """The name of the index of that dimension."""
    return f"meaning-{dim}"


def definition(dim: int) -> dict[str, Any]:
    """An index as `UpdateTable` takes it (`VectorIndexUpdates: [{"Create": …}]`)."""
    return {
        "IndexName": index_of(dim),
        "VectorAttribute": {"AttributeName": f"vector{dim}"},
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
            f"vector{len(vector)}": [Decimal(repr(round(float(x), 6))) for x in vector],
        }
        try:
            await self._table.put(item)
        except AwsError as error:
            raise StoreError(f"vector not written: {error.code}") from error

    async def drop_key(self, partition: str, key: str) -> None:
        """Forget every row of the entry. Raises `StoreError`."""
        try:
            # Every wording's id begins with the entry's key.
            doomed = [(item["pk"], item["sk"]) async for item in self._table.query(f"x#{partition}", begins=key)]
            await self._table.delete_many(doomed)
        except AwsError as error:
            raise StoreError(f"vectors not removed: {error.code}") from error

    async def vouch(self, partition: str, id: str, principal: str) -> None:
        """Note another principal of the row, if it is there. Raises `StoreError`."""
        try:
            await self._table.update(
                f"x#{partition}",
                id,
                "SET who = list_append(who, :who)",
                condition="attribute_exists(pk) AND NOT contains(who, :one)",
                values={":who": [principal], ":one": principal},
                returns="NONE",
            )
        except AwsError as error:
            if not error.is_condition:
                raise StoreError(f"vector not changed: {error.code}") from error

    async def nearest(self, partition: str, vector: Array, k: int) -> list[Neighbour]:
        """The `k` live rows most similar to `vector`, best first. Raises `StoreError`."""
        try:
            answer = await self._table.aws.call(
                "dynamodb",
                "search_vectors",
                TableName=self._table.name,
                IndexName=index_of(len(vector)),
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
