"""The index's log and the bound's evidence in DynamoDB.

The log lives in the cache table under `v#<partition>`, one item a change, which DynamoDB removes some time after the
row it speaks of has expired. Evidence lives in the state table under `bound#[<space>#]<namespace>`: counters that many
processes add to, one item a week so that old ones fade by weight; accounts, one item a bound, that processes change
in turns by version; and when an entry was last called right, one item each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from edgewise.aws import AwsError, Table
from edgewise.cache.port import StoreError
from edgewise.cache.semantic.account import Account, Event, Terms, opened, settled
from edgewise.cache.semantic.bound import CUTS, Evidence
from edgewise.cache.semantic.index import Row
from edgewise.cache.semantic.log import Added, Change, Moved, Removed, Vouched, earlier
from edgewise.clock import Clock

REMEMBERED_S = 7 * 86_400.0
"""How long a change that adds nothing stays in the log, at least: what it speaks of may be in no snapshot yet."""
WEEK_S = 7 * 86_400.0
WEEKS_KEPT = 8
TURNS = 8
"""How often a change of an account is tried while other processes change it."""


class DynamoLog:
    """Implements `edgewise.cache.semantic.log.Log`."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def append(self, partition: str, at: str, change: Change) -> None:
        now = self._clock.now()
        item: dict[str, Any] = {"pk": f"v#{partition}", "sk": at}
        match change:
            case Added(row, vector):
                import numpy as np

                top = float(np.abs(vector).max()) or 1.0
                item |= {
                    "op": "add",
                    "id": row.id,
                    "key": row.key,
                    "text": row.text,
                    "who": sorted(row.principals),
                    "vector": np.round(vector * (127 / top)).astype(np.int8).tobytes(),
                    "scale": Decimal(repr(round(top / 127, 9))),
                    "until": Decimal(repr(row.expires_at)),
                    "expires_at": int(row.expires_at) + 1,
                }
            case Removed(key, until):
                item |= {"op": "drop", "key": key, "expires_at": int(max(now + REMEMBERED_S, until)) + 1}
            case Moved():
                item |= {"op": "move", "expires_at": int(now + REMEMBERED_S)}
            case Vouched(id, principal):
                item |= {"op": "vouch", "id": id, "who": [principal], "expires_at": int(now + REMEMBERED_S)}
        try:
            await self._table.put(item)
        except AwsError as error:
            raise StoreError(f"log not written: {error.code}") from error

    async def since(self, partition: str, cursor: str) -> list[tuple[str, Change]]:
        import numpy as np

        now, found = self._clock.now(), []
        after = earlier(cursor) or None
        try:
            async for item in self._table.query(f"v#{partition}", after=after):
                change: Change
                match item["op"]:
                    case "add":
                        if float(item["until"]) <= now:
                            continue
                        row = Row(item["id"], item["key"], item["text"], float(item["until"]), frozenset(item["who"]))
                        small = np.frombuffer(bytes(item["vector"]), np.int8)
                        change = Added(row, small.astype(np.float32) * np.float32(item["scale"]))
                    case "drop":
                        change = Removed(item["key"])
                    case "move":
                        change = Moved()
                    case _:
                        change = Vouched(item["id"], item["who"][0])
                found.append((str(item["sk"]), change))
        except AwsError as error:
            raise StoreError(f"log not read: {error.code}") from error
        return found


class DynamoEvidence:
    """Implements `edgewise.cache.semantic.shadow.EvidenceStore`.

    space  sets evidence apart that must not be read as another's: scores depend on who embeds; '' is the shipped one's
    """

    def __init__(self, table: Table, clock: Clock, half_life_s: float, space: str = "") -> None:
        self._table = table
        self._clock = clock
        self._half_life_s = half_life_s
        self._head = f"bound#{space}#" if space else "bound#"

    async def add(self, namespace: str, cells: Mapping[str, int], wrong: bool) -> None:
        if not cells:
            return
        now = self._clock.now()
        names = {f"#{i}": f"{name}.{cell}.{int(wrong)}" for i, (name, cell) in enumerate(sorted(cells.items()))}
        try:
            await self._table.update(
                self._head + namespace,
                f"week#{int(now // WEEK_S):06d}",
                "ADD " + ", ".join(f"{short} :one" for short in names) + " SET #until = :until",
                names={**names, "#until": "expires_at"},
                values={":one": 1, ":until": int(now + WEEKS_KEPT * WEEK_S)},
                returns="NONE",
            )
        except AwsError as error:
            raise StoreError(f"evidence not written: {error.code}") from error

    async def read(self, namespace: str) -> Evidence:
        now, evidence = self._clock.now(), Evidence()
        try:
            async for item in self._table.query(self._head + namespace, begins="week#"):
                middle = (int(item["sk"][5:]) + 0.5) * WEEK_S
                weight = 0.5 ** (max(0.0, now - middle) / self._half_life_s)
                for name, count in item.items():
                    ranking, _, rest = name.partition(".")
                    if rest and ranking in CUTS:
                        cell, _, wrong = rest.partition(".")
                        evidence.cells[ranking][int(cell)][int(wrong)] += float(count) * weight
        except AwsError as error:
            raise StoreError(f"evidence not read: {error.code}") from error
        evidence.at = now
        return evidence

    async def account(self, namespace: str, bound: float) -> Account | None:
        return (await self._account(namespace, bound))[0]

    async def settle(self, namespace: str, bound: float, event: Event, terms: Terms) -> Account:
        for _ in range(TURNS):
            account, version = await self._account(namespace, bound)
            now = self._clock.now()
            found = settled(account or opened(terms), event, terms, now)
            item = {name: Decimal(repr(round(value, 6))) for name, value in asdict(found).items()}
            try:
                await self._table.put(
                    {
                        "pk": self._head + namespace,
                        "sk": f"account#{bound:g}",
                        "version": version + 1,
                        "expires_at": int(now + WEEKS_KEPT * WEEK_S),
                        **item,
                    },
                    condition="attribute_not_exists(version) OR version = :seen",
                    values={":seen": version},
                )
            except AwsError as error:
                if error.is_condition:
                    continue
                raise StoreError(f"account not written: {error.code}") from error
            return found
        raise StoreError("account not written: others were always first")

    async def _account(self, namespace: str, bound: float) -> tuple[Account | None, int]:
        try:
            item = await self._table.get(self._head + namespace, f"account#{bound:g}", consistent=True)
        except AwsError as error:
            raise StoreError(f"account not read: {error.code}") from error
        if item is None:
            return None, 0
        if float(item["expires_at"]) <= self._clock.now():
            return None, int(item["version"])
        return Account(**{field.name: float(item[field.name]) for field in fields(Account)}), int(item["version"])

    async def confirm(self, namespace: str, key: str) -> None:
        now = self._clock.now()
        item = {"at": Decimal(repr(now)), "expires_at": int(now + WEEKS_KEPT * WEEK_S)}
        try:
            await self._table.put({"pk": self._head + namespace, "sk": f"sure#{key}", **item})
        except AwsError as error:
            raise StoreError(f"confirmation not written: {error.code}") from error

    async def confirmed(self, namespace: str, key: str) -> float:
        try:
            item = await self._table.get(self._head + namespace, f"sure#{key}")
        except AwsError as error:
            raise StoreError(f"confirmation not read: {error.code}") from error
        return float(item["at"]) if item is not None and float(item["expires_at"]) > self._clock.now() else 0.0
