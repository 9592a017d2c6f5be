"""The one seam to AWS: boto3 behind `await`, made when first used.

boto3 blocks and costs 0.3 s of CPU to import and build, so clients are made on first use and called on one small
thread pool. The rooms' adapters (`dynamodb.py`, `s3.py`, …) speak through `Aws.call` and `Table`, and translate
botocore's errors at their own seam by `AwsError.code`, never by message.
"""

from __future__ import annotations

import asyncio
import threading
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from edgewise.clock import Clock, Deadline, SystemClock
from edgewise.dynamo import SERVICES, Dynamo, NoConnection, ServiceError, Source

Item = dict[str, Any]
BATCH_TRIES = 8
"""How often a table is asked for what it left undone of one batch: 3.6 s of waiting at the most."""


class AwsError(Exception):
    """A call that AWS refused or that never got there.

    code   AWS's error code ('ConditionalCheckFailedException', 'ThrottlingException', …) or, when no answer
           came, 'ConnectionError'
    item   the old item, when `ReturnValuesOnConditionCheckFailure` asked for it and the service sent it
    reasons  a cancelled transaction's reasons, one code per action
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int = 0,
        item: Item | None = None,
        reasons: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.status = status
        self.item = item
        self.reasons = reasons

    @property
    def is_condition(self) -> bool:
        """A conditional write whose condition did not hold."""
        return self.code == "ConditionalCheckFailedException"


@dataclass(frozen=True, slots=True)
class AwsOptions:
    """How to reach AWS. `endpoint_url` serves every service (a local stand-in); times are seconds."""

    region: str | None = None
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    connect_timeout_s: float = 1.0
    read_timeout_s: float = 5.0
    max_attempts: int = 3
    threads: int = 16
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Service name to endpoint, before `endpoint_url`."""
    lean: Source | None = None
    """Credentials for `edgewise.dynamo`, which then serves its services in boto3's place; None: boto3 does."""


class Aws:
    """boto3 clients by service, called on one executor. Cheap to build: nothing is imported until a call."""

    def __init__(self, options: AwsOptions | None = None, clock: Clock | None = None) -> None:
        self.options = options or AwsOptions()
        self.clock = clock or SystemClock()
        self._clients: dict[str, Any] = {}
        self._session: Any = None
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._lean: dict[str, Dynamo] = {}

    def client(self, service: str) -> Any:
        """The boto3 client for `service`; blocking, for tests and start-up paths."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def _make(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        options = self.options
        if self._session is None:
            self._session = boto3.session.Session(
                region_name=options.region,
                aws_access_key_id=options.access_key_id,
                aws_secret_access_key=options.secret_access_key,
            )
        # Streams from a model may be silent for long; the deadline of the request is the real bound there.
        patient = service in ("bedrock-runtime",)
        return self._session.client(
            service,
            endpoint_url=options.endpoints.get(service, options.endpoint_url),
            config=Config(
                connect_timeout=options.connect_timeout_s,
                read_timeout=900 if patient else options.read_timeout_s,
                retries={"mode": "standard", "total_max_attempts": 1 if patient else options.max_attempts},
                parameter_validation=False,
                max_pool_connections=max(10, options.threads),
                tcp_keepalive=True,
            ),
        )

    async def run(self, work: Callable[[], Any]) -> Any:
        """Run blocking `work` on the executor."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.options.threads, thread_name_prefix="aws")
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """`operation` of `service` in boto3's spelling (`get_item`). Raises `AwsError`."""
        answer: dict[str, Any] = await self.run(partial(self._call, service, operation, arguments))
        return answer

    def _call(self, service: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if service in SERVICES and self.options.lean is not None and self.options.region:
            return self._call_lean(service, self.options.lean, self.options.region, operation, arguments)
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self.client(service), operation)(**arguments)
            return answer
        except ClientError as error:
            found = error.response.get("Error", {})
            raise AwsError(
                str(found.get("Code", "Unknown")),
                str(found.get("Message", "")),
                int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
                item=_plain(error.response["Item"]) if error.response.get("Item") else None,  # type: ignore[typeddict-item]
                reasons=tuple(
                    str(reason.get("Code", "None")) for reason in error.response.get("CancellationReasons", [])
                ),
            ) from error
        except BotoCoreError as error:
            raise AwsError("ConnectionError", type(error).__name__) from error

    def _call_lean(
        self, service: str, source: Source, region: str, operation: str, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        with self._lock:
            if service not in self._lean:
                self._lean[service] = Dynamo(
                    region,
                    source,
                    service=SERVICES[service],
                    endpoint_url=self.options.endpoints.get(service, self.options.endpoint_url),
                    timeout_s=self.options.read_timeout_s,
                    attempts=self.options.max_attempts,
                )
            client = self._lean[service]
        try:
            return client.call("".join(word.title() for word in operation.split("_")), arguments)
        except ServiceError as error:
            body = error.body
            raise AwsError(
                error.code,
                str(body.get("message") or body.get("Message") or ""),
                error.status,
                item=_plain(body["Item"]) if body.get("Item") else None,
                reasons=tuple(str(reason.get("Code", "None")) for reason in body.get("CancellationReasons") or ()),
            ) from error
        except NoConnection as error:
            raise AwsError("ConnectionError", str(error)) from error

    def renew(self) -> None:
        """Forget clients and connections (after a restored snapshot: credentials and sockets are stale)."""
        with self._lock:
            self._clients.clear()
            self._session = None
            self._lean.clear()

    def close(self) -> None:
        """End the executor's threads and close what is kept open."""
        for client in self._lean.values():
            client.close()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


@dataclass(frozen=True, slots=True)
class Table:
    """One DynamoDB table with keys `pk` and `sk`, in plain Python values.

    Numbers go in as int or Decimal and come back as Decimal; bytes come back as bytes. Expressions are DynamoDB's
    own; `names` and `values` are their placeholders. Every method raises `AwsError`.
    """

    aws: Aws
    name: str

    async def get(self, pk: str, sk: str, *, consistent: bool = False) -> Item | None:
        answer = await self.aws.call(
            "dynamodb",
            "get_item",
            TableName=self.name,
            Key=_wire({"pk": pk, "sk": sk}),
            ConsistentRead=consistent,
        )
        return _plain(answer["Item"]) if "Item" in answer else None

    async def put(
        self,
        item: Item,
        *,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        await self.aws.call(
            "dynamodb",
            "put_item",
            TableName=self.name,
            Item=_wire(item),
            **_expressions(condition=condition, names=names, values=values),
        )

    async def update(
        self,
        pk: str,
        sk: str,
        update: str,
        *,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
        returns: str = "ALL_NEW",
    ) -> Item:
        """The item as `returns` asks for it (ALL_NEW, ALL_OLD, UPDATED_NEW, NONE)."""
        answer = await self.aws.call(
            "dynamodb",
            "update_item",
            TableName=self.name,
            Key=_wire({"pk": pk, "sk": sk}),
            UpdateExpression=update,
            ReturnValues=returns,
            **_expressions(condition=condition, names=names, values=values),
        )
        return _plain(answer.get("Attributes", {}))

    async def delete(
        self,
        pk: str,
        sk: str,
        *,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        await self.aws.call(
            "dynamodb",
            "delete_item",
            TableName=self.name,
            Key=_wire({"pk": pk, "sk": sk}),
            **_expressions(condition=condition, names=names, values=values),
        )

    async def query(
        self,
        pk: str,
        *,
        begins: str | None = None,
        after: str | None = None,
        before: str | None = None,
        forward: bool = True,
        limit: int | None = None,
        consistent: bool = False,
        index: str | None = None,
        filter: str | None = None,
        names: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Item]:
        """The partition's items in order of `sk`, page by page.

        begins  only `sk` with this prefix       after, before  only `sk` strictly beyond, or strictly short of
        index   the GSI `gsi1` (keys `gsi1pk`, `gsi1sk`) instead of the table
        """
        hash_name, range_name = ("gsi1pk", "gsi1sk") if index else ("pk", "sk")
        condition, found = f"{hash_name} = :pk", dict(values or {})
        found[":pk"] = pk
        if begins is not None:
            condition, found[":begins"] = f"{condition} AND begins_with({range_name}, :begins)", begins
        elif after is not None and before is not None:
            if after >= before:
                return  # nothing lies there, and DynamoDB refuses a range that ends before it begins; moto does not
            condition = f"{condition} AND {range_name} BETWEEN :after AND :before"
            found[":after"], found[":before"] = after + "\x00", before
        elif after is not None:
            condition, found[":after"] = f"{condition} AND {range_name} > :after", after
        elif before is not None:
            condition, found[":before"] = f"{condition} AND {range_name} < :before", before
        arguments: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": condition,
            "ScanIndexForward": forward,
            "ExpressionAttributeValues": _wire(found),
        }
        if index:
            arguments["IndexName"] = index
        else:
            arguments["ConsistentRead"] = consistent
        if filter:
            arguments["FilterExpression"] = filter
        if names:
            arguments["ExpressionAttributeNames"] = dict(names)
        left = limit
        while True:
            if left is not None:
                arguments["Limit"] = left
            page = await self.aws.call("dynamodb", "query", **arguments)
            for item in page.get("Items", []):
                plain = _plain(item)
                if before is not None and plain[range_name] >= before:
                    continue
                yield plain
                if left is not None:
                    left -= 1
            if (left is not None and left <= 0) or "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def scan(
        self,
        *,
        filter: str,
        names: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
        projection: str | None = None,
    ) -> AsyncIterator[Item]:
        """Every item of the table that `filter` lets through, in no order. Reads, and bills, the whole table."""
        arguments: dict[str, Any] = {"TableName": self.name, "FilterExpression": filter}
        if names:
            arguments["ExpressionAttributeNames"] = dict(names)
        if values:
            arguments["ExpressionAttributeValues"] = _wire(values)
        if projection:
            arguments["ProjectionExpression"] = projection
        while True:
            page = await self.aws.call("dynamodb", "scan", **arguments)
            for item in page.get("Items", []):
                yield _plain(item)
            if "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def delete_many(self, keys: list[tuple[str, str]]) -> None:
        """Delete `keys` (any number; in twenty-fives). What is not there is no error."""
        await self._write_many([{"DeleteRequest": {"Key": _wire({"pk": pk, "sk": sk})}} for pk, sk in keys])

    async def put_many(self, items: list[Item]) -> None:
        """Put `items` (any number, no two of one key; in twenty-fives), without a condition."""
        await self._write_many([{"PutRequest": {"Item": _wire(item)}} for item in items])

    async def _write_many(self, requests: list[dict[str, Any]]) -> None:
        for start in range(0, len(requests), 25):
            async for _ in self._rounds("batch_write_item", requests[start : start + 25], "UnprocessedItems"):
                pass

    async def transact(self, actions: list[dict[str, Any]]) -> None:
        """All of `actions` or none. Each is `{"Put"|"Update"|"Delete"|"ConditionCheck": {...}}` with plain values;
        the table's name is filled in."""
        await self.aws.call(
            "dynamodb",
            "transact_write_items",
            TransactItems=[
                {
                    verb: {
                        "TableName": self.name,
                        **{
                            key: _wire(value) if key in ("Item", "Key", "ExpressionAttributeValues") else value
                            for key, value in body.items()
                        },
                    }
                    for verb, body in action.items()
                }
                for action in actions
            ],
        )

    async def get_many(self, keys: list[tuple[str, str]]) -> list[Item]:
        """The items that exist among `keys` (any number; read in hundreds), in no order."""
        found: list[Item] = []
        for start in range(0, len(keys), 100):
            asked = {"Keys": [_wire({"pk": pk, "sk": sk}) for pk, sk in keys[start : start + 100]]}
            async for answer in self._rounds("batch_get_item", asked, "UnprocessedKeys"):
                found.extend(_plain(item) for item in answer["Responses"].get(self.name, []))
        return found

    async def _rounds(self, operation: str, batch: Any, undone: str) -> AsyncIterator[dict[str, Any]]:
        """The answers to one batch: what a busy table leaves `undone` is asked for again, after a wait that doubles,
        with full jitter. It ends after `BATCH_TRIES`, or when a whole call's time has gone, as the throttling it is."""
        clock = self.aws.clock
        deadline = Deadline.after(clock, self.aws.options.read_timeout_s)
        asked: dict[str, Any] = {self.name: batch}
        for tried in range(1, BATCH_TRIES + 1):
            answer = await self.aws.call("dynamodb", operation, RequestItems=asked)
            yield answer
            asked = answer.get(undone) or {}
            if not asked:
                return
            wait_s = clock.uniform() * min(1.0, 0.025 * 2**tried)
            if tried == BATCH_TRIES or wait_s >= deadline.left_s():
                break
            await clock.sleep(wait_s)
        raise AwsError("ProvisionedThroughputExceededException", f"{operation} left {undone} {tried} times")


def _expressions(
    *,
    condition: str | None,
    names: Mapping[str, str] | None,
    values: Mapping[str, Any] | None,
) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if condition:
        arguments["ConditionExpression"] = condition
        arguments["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    if names:
        arguments["ExpressionAttributeNames"] = dict(names)
    if values:
        arguments["ExpressionAttributeValues"] = _wire(values)
    return arguments


def _wire(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _typed(value) for key, value in values.items()}


def _typed(value: Any) -> dict[str, Any]:
    """DynamoDB's JSON for a plain value. A float becomes the Decimal of its shortest spelling."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | Decimal():
            return {"N": str(value)}
        case float():
            return {"N": repr(value)}
        case bytes() | bytearray():
            return {"B": bytes(value)}
        case set() | frozenset():
            return {"SS": sorted(value)}
        case Mapping():
            return {"M": {str(k): _typed(v) for k, v in value.items()}}
        case list() | tuple():
            return {"L": [_typed(v) for v in value]}
        case _:
            raise TypeError(f"DynamoDB has no type for {type(value).__name__}")


def _plain(item: Mapping[str, Any]) -> Item:
    return {key: _untyped(value) for key, value in item.items()}


def _untyped(typed: Mapping[str, Any]) -> Any:
    ((kind, value),) = typed.items()
    match kind:
        case "N":
            return Decimal(value)
        case "NULL":
            return None
        case "SS":
            return set(value)
        case "M":
            return {k: _untyped(v) for k, v in value.items()}
        case "L":
            return [_untyped(v) for v in value]
        case "B":
            return value if isinstance(value, bytes) else b64decode(value)
        case _:
            return value
