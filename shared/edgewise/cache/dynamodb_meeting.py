"""Where processes meet, in the cache table: leases and purging rules.

pk `c#<scope>#<key>`          sk `lease`            see `edgewise.cache.lease`
pk `t#purge`                  sk `<time>#<token>`   see `edgewise.cache.purge`
pk `t#asked#<day>#<scope>`    sk `<key>`            see `edgewise.cache.popular`
"""

from __future__ import annotations

from math import ceil
from typing import Any

from edgewise.aws import AwsError, Table
from edgewise.cache.dynamodb import pk_of
from edgewise.cache.lease import Lease, News, Taken
from edgewise.cache.port import StoreError
from edgewise.cache.purge import Rule
from edgewise.clock import Clock


class DynamoLeases:
    """Leases in the cache table, beside the entries."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def take(self, scope: str, key: str, now: float, until: float) -> Taken | None:
        floor = int(now * 1000)
        try:
            # ALL_OLD brings the last news; the new generation follows from the old one.
            old = await self._table.update(
                pk_of(scope, key),
                "lease",
                "SET gen = if_not_exists(gen, :floor) + :one, lease_until = :until, expires_at = :forget "
                "REMOVE news, v",
                condition="attribute_not_exists(pk) OR lease_until < :now OR attribute_exists(news)",
                values={":floor": floor, ":one": 1, ":until": until, ":now": now, ":forget": _forget(until)},
                returns="ALL_OLD",
            )
        except AwsError as error:
            if error.is_condition:
                return None
            raise StoreError(error.code) from error
        return Taken(int(old.get("gen", floor)) + 1, old.get("news", ""))

    async def renew(self, scope: str, key: str, gen: int, until: float) -> bool:
        try:
            await self._table.update(
                pk_of(scope, key),
                "lease",
                "SET lease_until = :until, expires_at = :forget",
                condition="gen = :gen AND attribute_not_exists(news)",
                values={":gen": gen, ":until": until, ":forget": _forget(until)},
                returns="NONE",
            )
        except AwsError as error:
            if error.is_condition:
                return False
            raise StoreError(error.code) from error
        return True

    async def tell(self, scope: str, key: str, gen: int, news: News, packed: bytes | None, until: float) -> None:
        values: dict[str, Any] = {":gen": gen, ":news": news, ":until": until, ":forget": _forget(until)}
        update = "SET news = :news, lease_until = :until, expires_at = :forget"
        if packed is not None:
            update, values[":v"] = update + ", v = :v", packed
        try:
            await self._table.update(
                pk_of(scope, key), "lease", update, condition="gen = :gen", values=values, returns="NONE"
            )
        except AwsError as error:
            if not error.is_condition:
                raise StoreError(error.code) from error

    async def read(self, scope: str, key: str) -> Lease | None:
        try:
            item = await self._table.get(pk_of(scope, key), "lease", consistent=True)
        except AwsError as error:
            raise StoreError(error.code) from error
        if item is None:
            return None
        return Lease(int(item["gen"]), float(item["lease_until"]), item.get("news", ""), item.get("v"))


def _forget(until: float) -> int:
    """When the table may drop a lease: an hour after it has ended, so that generations rarely start anew."""
    return ceil(until) + 3600


class DynamoRules:
    """Purging rules in the cache table, under one partition key."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def add(self, rule: Rule, at: float, until: float) -> None:
        # Two rules of one moment differ by their token.
        sk = f"{at:017.6f}#{self._clock.token('')}"
        try:
            await self._table.put({"pk": "t#purge", "sk": sk, "rule": rule.wire(), "expires_at": ceil(until)})
        except AwsError as error:
            raise StoreError(error.code) from error

    async def load(self) -> list[Rule]:
        now = self._clock.now()
        try:
            items = [i async for i in self._table.query("t#purge") if int(i["expires_at"]) > now]
        except AwsError as error:
            raise StoreError(error.code) from error
        return [_rule(item["rule"]) for item in items]


def _rule(wire: dict[str, Any]) -> Rule:
    """A rule as it was written: numbers come back as Decimal."""
    fields: dict[str, Any] = {name: float(told) if name in ("before", "at") else told for name, told in wire.items()}
    return Rule(**fields)
