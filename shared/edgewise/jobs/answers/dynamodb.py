"""Kept answers in the state table.

resp#<id>  meta          the answer; what is long is packed
resp#<id>  call#<key>    a provider call paid for, before the answer has ended
resp#<id>  event#<n>     events of its stream that were written together; n is the number of the first

Queued tasks are kept the same way under `task#<id>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from edgewise.aws import AwsError, Item, Table
from edgewise.clock import Clock
from edgewise.jobs.answers.kept import OPEN, Kept, Made
from edgewise.jobs.pack import Packing
from edgewise.jobs.paid import PaidCall
from edgewise.jobs.ports import Blobs
from edgewise.jobs.store import Claimed, Done, Held

_SIMPLE = ("id", "tenant", "key_id", "url", "state", "background", "stored", "webhook")
_PACKED = ("wire", "ask", "input", "messages")
_OPEN = "#s IN (:queued, :running)"
_STATES = {":queued": OPEN[0], ":running": OPEN[1]}


class DynamoShelf:
    def __init__(self, table: Table, blobs: Blobs, clock: Clock, prefix: str = "resp") -> None:
        self._prefix = prefix
        self._table = table
        self._packing = Packing(blobs)
        self._clock = clock

    async def put(self, kept: Kept) -> None:
        item: Item = {
            "pk": f"{self._prefix}#{kept.id}",
            "sk": "meta",
            "created_at": kept.created_at,
            "expires_at": kept.expires_at,
            **{name: getattr(kept, name) for name in _SIMPLE},
        }
        for name in _PACKED:
            if value := getattr(kept, name):
                item |= await self._packing.pack(name, value, f"files/answers/{kept.id}/{name}")
        await self._table.put(item)

    async def get(self, id: str) -> Kept | None:
        item = await self._table.get(f"{self._prefix}#{id}", "meta", consistent=True)
        if not item or item["expires_at"] <= self._clock.now():
            return None
        long = {name: await self._packing.unpack(name, item) for name in _PACKED}
        return Kept(
            **{name: item[name] for name in _SIMPLE},
            created_at=int(item["created_at"]),
            expires_at=int(item["expires_at"]),
            wire=long["wire"] or {},
            ask=long["ask"],
            input=tuple(long["input"] or ()),
            messages=tuple(long["messages"] or ()),
        )

    async def claim(self, id: str, owner: str, lease_s: float) -> Claimed | Held | Done:
        now = self._clock.now()
        try:
            item = await self._table.update(
                f"{self._prefix}#{id}",
                "meta",
                "SET holder = :me, lease_until = :until, #s = :running ADD claims :one",
                condition=f"{_OPEN} AND (attribute_not_exists(lease_until) OR lease_until < :now OR holder = :me)",
                names={"#s": "state"},
                values={":me": owner, ":until": _at(now + lease_s), ":now": _at(now), ":one": 1, **_STATES},
            )
        except AwsError as error:
            if not error.is_condition:
                raise
            old = error.item or await self._table.get(f"{self._prefix}#{id}", "meta", consistent=True) or {}
            return Held(float(old["lease_until"])) if old.get("state") in OPEN else Done()
        return Claimed(int(item["claims"]), item["claims"] == 1, {})

    async def renew(self, id: str, owner: str, lease_s: float) -> bool:
        until = _at(self._clock.now() + lease_s)
        return await self._while_open(
            id, "SET lease_until = :until", {":until": until, ":me": owner}, "AND holder = :me"
        )

    async def holds(self, id: str, owner: str) -> bool:
        item = await self._table.get(f"{self._prefix}#{id}", "meta", consistent=True) or {}
        return bool(item.get("state") in OPEN and item["holder"] == owner)

    async def end(self, id: str, made: Made, expires_at: int | None = None) -> bool:
        values: dict[str, Any] = {"state": made.state}
        if expires_at is not None:
            values["expires_at"] = expires_at
        for name in ("wire", "messages"):
            if value := getattr(made, name):
                values |= await self._packing.pack(name, value, f"files/answers/{id}/{name}")
        names = {f"#c{n}": name for n, name in enumerate(values)}
        update = "SET " + ", ".join(f"#c{n} = :c{n}" for n in range(len(values)))
        return await self._while_open(id, update, {f":c{n}": v for n, v in enumerate(values.values())}, names=names)

    async def _while_open(
        self, id: str, update: str, values: dict[str, Any], more: str = "", names: dict[str, str] | None = None
    ) -> bool:
        try:
            await self._table.update(
                f"{self._prefix}#{id}",
                "meta",
                update,
                condition=f"{_OPEN} {more}",
                names={"#s": "state", **(names or {})},
                values={**values, **_STATES},
                returns="NONE",
            )
        except AwsError as error:
            if error.is_condition:
                return False
            raise
        return True

    async def delete(self, id: str) -> None:
        found = [item async for item in self._table.query(f"{self._prefix}#{id}", consistent=True)]
        for item in found:
            await self._packing.drop(item)
        await self._table.delete_many([(item["pk"], item["sk"]) for item in found])

    async def tell(self, id: str, events: Sequence[Mapping[str, Any]], expires_at: int) -> bool:
        mark = self._clock.token("w")
        at = (f"{self._prefix}#{id}", f"event#{events[0]['sequence_number']:08d}")
        packed = await self._packing.pack("events", list(events), f"files/answers/{id}/events-{mark}")
        item: Item = {"pk": at[0], "sk": at[1], "mark": mark, "expires_at": expires_at, **packed}
        try:
            await self._table.put(item, condition="attribute_not_exists(pk)")
        except AwsError as error:
            if not error.is_condition:
                raise
            # A write whose answer was lost is tried again and finds itself.
            found = error.item or await self._table.get(*at, consistent=True) or {}
            return bool(found.get("mark") == mark)
        return True

    async def told(self, id: str, after: int = -1) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        begin = f"event#{after:08d}"
        async for item in self._table.query(f"{self._prefix}#{id}", after=begin, before="event$", consistent=True):
            if item["expires_at"] > self._clock.now():
                found += await self._packing.unpack("events", item)
        return found

    async def calls(self, id: str) -> dict[str, PaidCall]:
        found: dict[str, PaidCall] = {}
        async for item in self._table.query(f"{self._prefix}#{id}", begins="call#", consistent=True):
            body = await self._packing.unpack("body", item) or {}
            found[item["sk"].removeprefix("call#")] = PaidCall.of(body, item["paid"])
        return found

    async def put_call(self, id: str, key: str, call: PaidCall) -> None:
        body = await self._packing.pack("body", call.answer.completion, f"files/answers/{id}/call-{key}")
        gone = int(self._clock.now()) + 86_400
        item: Item = {"pk": f"{self._prefix}#{id}", "sk": f"call#{key}", "paid": call.wire()}
        await self._table.put({**item, **body, "expires_at": gone})


def _at(seconds: float) -> Decimal:
    return Decimal(f"{seconds:.3f}")
