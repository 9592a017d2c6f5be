"""Tills in the state table; see `edgewise.policy.tills` for the theory.

A till is one item: `used`, and one attribute `h_ID` a hold (amount `a`, lease end `u`), which becomes `s_ID` (lease
end) when its lease has been taken back. One till is taken by one conditional update, several by one transaction. Real
tables cancel transactions that meet; those are tried again with jitter. A boto3 retry of an update that went through is
recognised by its own hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from edgewise.aws import AwsError, Item, Table
from edgewise.clock import Clock
from edgewise.errors import Unavailable
from edgewise.policy.dynamodb import refused
from edgewise.policy.tills import Full, Taken, Till

CONFLICT_TRIES = 12
TIDY_HOLDS = 16
"""So many holds that ran out are taken back though nobody was refused: an item has an end, and its size a price."""
MARK_S = 100_000
"""How long it is remembered that a lease was taken back: a batch's line may be charged a day later."""
CONFLICTS = ("TransactionConflict", "TransactionConflictException", "TransactionInProgressException")


class DynamoTills:
    """`Tills` in a table; see `edgewise.policy.tills` for the theory."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def take(self, tills: Sequence[Till], amounts: Sequence[int], hold: str, until: float) -> Taken | Full:
        for index, (till, amount) in enumerate(zip(tills, amounts, strict=True)):
            if amount > till.cap:
                return Full(index, int((await self._read(till)).get("used", 0)))
        updates = [_taking(till, amount, hold, until) for till, amount in zip(tills, amounts, strict=True)]
        for tried in range(CONFLICT_TRIES):
            try:
                return await self._take(updates)
            except AwsError as error:
                if error.is_condition or "ConditionalCheckFailed" in error.reasons:
                    outcome = await self._why(tills, amounts, hold)
                    if outcome is not None:
                        return outcome
                elif not _is_conflict(error):
                    raise refused(error) from error
            await self._clock.sleep(self._clock.uniform() * 0.02 * 2 ** min(tried, 5))
        raise Unavailable("Too many requests at once on one budget; try again shortly.", headers={"retry-after": "1"})

    async def _take(self, updates: list[dict[str, Any]]) -> Taken:
        if len(updates) > 1:
            await self._table.transact([{"Update": update} for update in updates])
            return Taken()
        (update,) = updates
        key = update["Key"]
        item = await self._table.update(
            key["pk"],
            key["sk"],
            update["UpdateExpression"],
            condition=update["ConditionExpression"],
            names=update["ExpressionAttributeNames"],
            values=update["ExpressionAttributeValues"],
        )
        return Taken((int(item["used"]),))

    async def _why(self, tills: Sequence[Till], amounts: Sequence[int], hold: str) -> Taken | Full | None:
        """Why the condition failed: an earlier try of ours went through after all, a till is full, or (None) it was
        full and no longer is, so that asking again is right."""
        items = await asyncio.gather(*(self._read(till) for till in tills))
        if all(f"h_{hold}" in item for item in items):
            return Taken(tuple(int(item["used"]) for item in items))
        for index, (till, amount, item) in enumerate(zip(tills, amounts, items, strict=True)):
            used = int(item.get("used", 0))
            if used > till.cap - amount:
                return Full(index, used)
        return None

    async def _read(self, till: Till) -> Item:
        try:
            return await self._table.get(till.owner, till.name, consistent=True) or {}
        except AwsError as error:
            raise refused(error) from error

    async def give(self, till: Till, amount: int, actual: int, hold: str) -> int | None:
        for name, change in ((f"h_{hold}", actual - amount), (f"s_{hold}", actual)):
            if (item := await self._swap(till, name, change)) is not None:
                now = self._clock.now()
                if len(_over(item, now)) >= TIDY_HOLDS:
                    await self._tidy(till, item, now)
                return int(item["used"])
        return None

    async def _swap(self, till: Till, name: str, change: int, mark: Any = None) -> Item | None:
        """Remove the attribute `name` and change what is used, together; None when it is not there. mark: what to
        leave of a hold."""
        update, names, values = "REMOVE #n ADD #u :change", {"#n": name, "#u": "used"}, {":change": change}
        if mark is not None:
            update, names["#s"], values[":mark"] = f"{update} SET #s = :mark", f"s_{name[2:]}", mark
        try:
            return await self._patient_update(till, update, "attribute_exists(#n)", names, values)
        except AwsError as error:
            if error.is_condition:
                return None
            raise refused(error) from error

    async def _patient_update(
        self, till: Till, update: str, condition: str, names: dict[str, str], values: dict[str, Any]
    ) -> Item:
        for tried in range(CONFLICT_TRIES):
            try:
                return await self._table.update(
                    till.owner,
                    till.name,
                    update,
                    condition=condition,
                    names=names,
                    values=values,
                )
            except AwsError as error:
                if not _is_conflict(error) or tried == CONFLICT_TRIES - 1:
                    raise
            await self._clock.sleep(self._clock.uniform() * 0.02 * 2 ** min(tried, 5))
        raise AssertionError("unreachable")

    async def used(self, tills: Sequence[Till], now: float) -> list[int]:
        try:
            items = await self._table.get_many([(till.owner, till.name) for till in dict.fromkeys(tills)])
        except AwsError as error:
            raise refused(error) from error
        found = {(item["pk"], item["sk"]): item for item in items}
        return [_in_use(found.get((till.owner, till.name), {}), now) for till in tills]

    async def sweep(self, till: Till, now: float) -> int:
        return await self._tidy(till, await self._read(till), now)

    async def _tidy(self, till: Till, item: Item, now: float) -> int:
        gone = _over(item, now)
        for name, hold in gone.items():
            await self._swap(till, name, -int(hold["a"]), mark=hold["u"])
        for name in [name for name in item if name.startswith("s_") and float(item[name]) + MARK_S <= now]:
            await self._swap(till, name, 0)
        return len(gone)


def _taking(till: Till, amount: int, hold: str, until: float) -> dict[str, Any]:
    sets, values = "#h = :h", {":h": {"a": amount, "u": until}, ":a": amount, ":room": till.cap - amount}
    if till.keep_until is not None:
        sets, values[":keep"] = f"{sets}, expires_at = :keep", till.keep_until
    return {
        "Key": {"pk": till.owner, "sk": till.name},
        "UpdateExpression": f"SET {sets} ADD #u :a",
        "ConditionExpression": "attribute_not_exists(#h) AND (attribute_not_exists(#u) OR #u <= :room)",
        "ExpressionAttributeNames": {"#h": f"h_{hold}", "#u": "used"},
        "ExpressionAttributeValues": values,
    }


def _holds(item: Item) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name.startswith("h_")}


def _over(item: Item, now: float) -> dict[str, Any]:
    """Holds whose lease has run out."""
    return {name: hold for name, hold in _holds(item).items() if float(hold["u"]) <= now}


def _in_use(item: Item, now: float) -> int:
    return int(item.get("used", 0)) - sum(int(hold["a"]) for hold in _over(item, now).values())


def _is_conflict(error: AwsError) -> bool:
    return error.code in CONFLICTS or any(reason in CONFLICTS for reason in error.reasons)
