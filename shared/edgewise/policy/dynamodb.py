"""Keys, minutes and bans in the state table.

Rows  key#id#ID/key        a key, all of it; gsi1pk `key#all`, gsi1sk `TENANT#ID` for lists
      key#digest#HEX/key   points from a digest to the key's id
      key#tenant#T/tenant  what holds for all of a tenant's keys
      limit#K/m#MINUTE     requests and tokens of one minute
      ban#all/WHOM         a ban     ban#strikes/WHOM#MINUTE  strikes towards one

Every read checks `expires_at`: DynamoDB deletes days late. Every AWS failure becomes `Unavailable` here.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from edgewise.aws import AwsError, Item, Table
from edgewise.clock import Clock
from edgewise.errors import Conflict, Unavailable
from edgewise.policy.bans import Ban
from edgewise.policy.keys import KeyRow, TenantRow
from edgewise.policy.limits import Counts


def refused(error: AwsError) -> Unavailable:
    """What the client hears when the table does not answer; the cause stays in the chain."""
    busy = error.code in ("ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded")
    return Unavailable(
        "The gateway cannot check this request's permissions right now; try again shortly.",
        code="policy_busy" if busy else "policy_unavailable",
        headers={"retry-after": "1"},
    )


class DynamoKeys:
    """`KeyStore` in a table."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def by_digest(self, digest: str) -> KeyRow | None:
        try:
            pointer = await self._table.get(f"key#digest#{digest}", "key")
        except AwsError as error:
            raise refused(error) from error
        if pointer is None or _is_over(pointer, self._clock.now()):
            return None
        return await self.by_id(str(pointer["key_id"]))

    async def by_id(self, key_id: str) -> KeyRow | None:
        try:
            item = await self._table.get(f"key#id#{key_id}", "key", consistent=True)
        except AwsError as error:
            raise refused(error) from error
        return _row(item) if item is not None else None

    async def save(self, row: KeyRow, *, new: bool = False) -> None:
        item = {
            "pk": f"key#id#{row.id}",
            "sk": "key",
            "gsi1pk": "key#all",
            "gsi1sk": f"{row.tenant}#{row.id}",
            **_stored(row),
        }
        put: dict[str, Any] = {"Item": item}
        if new:
            put["ConditionExpression"] = "attribute_not_exists(pk)"
        pointers = [
            {"Put": {"Item": {"pk": f"key#digest#{mark}", "sk": "key", "key_id": row.id} | _expiry(until)}}
            for mark, until in row.digests.items()
        ]
        try:
            await self._table.transact([{"Put": put}, *pointers])
        except AwsError as error:
            if "ConditionalCheckFailed" in error.reasons:
                raise Conflict("This key id is taken.") from error
            raise refused(error) from error

    async def of_tenant(self, tenant: str | None) -> list[KeyRow]:
        begins = None if tenant is None else f"{tenant}#"
        try:
            return [_row(item) async for item in self._table.query("key#all", begins=begins, index="gsi1")]
        except AwsError as error:
            raise refused(error) from error

    async def tenant(self, tenant: str) -> TenantRow | None:
        from edgewise.policy.terms import Budget

        try:
            item = await self._table.get(f"key#tenant#{tenant}", "tenant")
        except AwsError as error:
            raise refused(error) from error
        if item is None:
            return None
        return TenantRow(tenant, tuple(Budget.model_validate(b) for b in json.loads(item["budgets"])))

    async def save_tenant(self, row: TenantRow) -> None:
        budgets = json.dumps([budget.model_dump(mode="json") for budget in row.budgets])
        try:
            await self._table.put({"pk": f"key#tenant#{row.tenant}", "sk": "tenant", "budgets": budgets})
        except AwsError as error:
            raise refused(error) from error


def _expiry(until: float | None) -> Item:
    return {} if until is None else {"expires_at": int(until) + 1}


def _is_over(item: Item, now: float) -> bool:
    return "expires_at" in item and float(item["expires_at"]) <= now


def _stored(row: KeyRow) -> Item:
    return {
        "id": row.id,
        "tenant": row.tenant,
        "name": row.name,
        "hint": row.hint,
        "digests": dict(row.digests),
        "terms": row.terms.model_dump_json(exclude_defaults=True),
        "created_at": row.created_at,
        "created_by": row.created_by,
        "key_expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }


def _row(item: Item) -> KeyRow:
    from edgewise.policy.terms import Terms

    return KeyRow(
        id=item["id"],
        tenant=item["tenant"],
        name=item["name"],
        hint=item["hint"],
        digests={mark: _number(until) for mark, until in item["digests"].items()},
        terms=Terms.model_validate_json(item["terms"]),
        created_at=float(item["created_at"]),
        created_by=item["created_by"],
        expires_at=_number(item.get("key_expires_at")),
        revoked_at=_number(item.get("revoked_at")),
    )


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


class DynamoMinutes:
    """`Minutes` in a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def add(self, key: str, minute: int, asked: Counts, room: Counts) -> Counts | None:
        condition = "(attribute_not_exists(r) OR r <= :room_r) AND (attribute_not_exists(t) OR t <= :room_t)"
        try:
            item = await self._table.update(
                f"limit#{key}",
                f"m#{minute}",
                "SET expires_at = :keep ADD r :r, t :t",
                condition=condition,
                values={
                    ":r": asked.requests,
                    ":t": asked.tokens,
                    ":room_r": room.requests,
                    ":room_t": room.tokens,
                    ":keep": minute * 60 + 600,
                },
            )
        except AwsError as error:
            if error.is_condition:
                return None
            raise refused(error) from error
        return Counts(int(item["r"]), int(item["t"]))

    async def read(self, key: str, minute: int) -> Counts:
        try:
            item = await self._table.get(f"limit#{key}", f"m#{minute}", consistent=True)
        except AwsError as error:
            raise refused(error) from error
        return Counts(int(item.get("r", 0)), int(item.get("t", 0))) if item else Counts()


class DynamoBans:
    """`BanStore` in a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def put(self, ban: Ban) -> None:
        try:
            await self._table.put(
                {
                    "pk": "ban#all",
                    "sk": ban.whom,
                    "reason": ban.reason,
                    "since": ban.since,
                    "until": ban.until,
                    "expires_at": int(ban.until) + 1,
                }
            )
        except AwsError as error:
            raise refused(error) from error

    async def lift(self, whom: str) -> bool:
        try:
            await self._table.delete("ban#all", whom, condition="attribute_exists(pk)")
        except AwsError as error:
            if error.is_condition:
                return False
            raise refused(error) from error
        return True

    async def all(self, now: float) -> list[Ban]:
        try:
            return [
                Ban(item["sk"], item["reason"], float(item["since"]), float(item["until"]))
                async for item in self._table.query("ban#all")
                if float(item["until"]) > now
            ]
        except AwsError as error:
            raise refused(error) from error

    async def strike(self, whom: str, minute: int, strikes: int) -> int:
        try:
            item = await self._table.update(
                "ban#strikes",
                f"{whom}#{minute}",
                "SET expires_at = :keep ADD strikes :n",
                values={":n": strikes, ":keep": minute * 60 + 600},
            )
        except AwsError as error:
            raise refused(error) from error
        return int(item["strikes"])
