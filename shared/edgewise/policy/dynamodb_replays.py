"""Replayable answers in the state table: `idem#OWNER` / the client's key.

One conditional write claims a key; a claim whose lease ran out, or a result past its day, may be claimed anew. When
somebody else holds it, the row that stands is read to say what it means.
"""

from __future__ import annotations

from edgewise.aws import AwsError, Table
from edgewise.policy.dynamodb import refused
from edgewise.policy.replays import KEEP_S, Begun, Saved, State, state_of


class DynamoReplays:
    """`ReplayStore` in a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def begin(self, owner: str, key: str, mark: str, now: float, lease_s: float) -> State:
        item = {
            "pk": f"idem#{owner}",
            "sk": key,
            "mark": mark,
            "done": False,
            "until": now + lease_s,
            "expires_at": int(now + KEEP_S) + 1,
        }
        try:
            await self._table.put(
                item,
                condition="attribute_not_exists(pk) OR #until <= :now",
                names={"#until": "until"},
                values={":now": now},
            )
        except AwsError as error:
            if not error.is_condition:
                raise refused(error) from error
        else:
            return Begun()
        try:
            row = await self._table.get(f"idem#{owner}", key, consistent=True)
        except AwsError as error:
            raise refused(error) from error
        if row is None or float(row["until"]) <= now:
            return Begun()
        return state_of(mark, row["mark"], bool(row["done"]), row.get("packed"))

    async def finish(self, owner: str, key: str, mark: str, saved: Saved, now: float, keep_s: float = KEEP_S) -> None:
        item = {
            "pk": f"idem#{owner}",
            "sk": key,
            "mark": mark,
            "done": True,
            "until": now + keep_s,
            "expires_at": int(now + keep_s) + 1,
        }
        packed = saved.pack()
        try:
            await self._table.put(item if packed is None else {**item, "packed": packed})
        except AwsError as error:
            raise refused(error) from error

    async def abandon(self, owner: str, key: str, mark: str) -> None:
        try:
            await self._table.delete(
                f"idem#{owner}",
                key,
                condition="mark = :mark AND done = :no",
                values={":mark": mark, ":no": False},
            )
        except AwsError as error:
            if not error.is_condition:
                raise refused(error) from error
