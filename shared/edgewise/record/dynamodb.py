"""Roll-ups and feedback in the state table.

Rows  roll#TENANT/SPAN#TIME#KEY#MODEL   sums: counts by their names, buckets as `l_N` (latency) and `f_N` (first token)
      feedback#TENANT/REQUEST#KEY       one opinion of one key on one request
"""

from __future__ import annotations

from typing import Any

from edgewise.aws import AwsError, Item, Table
from edgewise.clock import Clock
from edgewise.errors import Unavailable
from edgewise.record.feedback import Opinion
from edgewise.record.rollups import Cell, Span, Sums

_LETTER: dict[Span, str] = {"minute": "m", "hour": "h"}


class DynamoRollups:
    """`RollupStore` in a table."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def add(self, cell: Cell, sums: Sums, expires_at: int) -> None:
        amounts = {
            **sums.counts,
            **{f"l_{index}": count for index, count in sums.latency.items()},
            **{f"f_{index}": count for index, count in sums.first.items()},
        }
        names = {f"#{place}": name for place, name in enumerate(amounts)}
        values: dict[str, Any] = {f":{place}": amount for place, amount in enumerate(amounts.values())}
        added = ", ".join(f"#{place} :{place}" for place in range(len(amounts)))
        try:
            await self._table.update(
                f"roll#{cell.tenant}",
                f"{_LETTER[cell.span]}#{cell.at:012d}#{cell.key_id}#{cell.model}",
                f"SET expires_at = :keep ADD {added}",
                names=names,
                values={**values, ":keep": expires_at},
                returns="NONE",
            )
        except AwsError as error:
            raise _refused(error) from error

    async def read(self, tenant: str, span: Span, since: int, until: int) -> list[tuple[Cell, Sums]]:
        letter, now = _LETTER[span], self._clock.now()
        try:
            return [
                (_cell(tenant, span, item), _sums(item))
                async for item in self._table.query(
                    f"roll#{tenant}", after=f"{letter}#{since:012d}", before=f"{letter}#{until:012d}"
                )
                if float(item["expires_at"]) > now
            ]
        except AwsError as error:
            raise _refused(error) from error


def _cell(tenant: str, span: Span, item: Item) -> Cell:
    _, at, key_id, model = str(item["sk"]).split("#", 3)
    return Cell(span, int(at), tenant, key_id, model)


def _sums(item: Item) -> Sums:
    sums = Sums()
    for name, value in item.items():
        if name in ("pk", "sk", "expires_at"):
            continue
        if name.startswith("l_"):
            sums.latency[int(name[2:])] = int(value)
        elif name.startswith("f_"):
            sums.first[int(name[2:])] = int(value)
        else:
            sums.counts[name] = int(value)
    return sums


class DynamoFeedback:
    """`FeedbackStore` in a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def put(self, opinion: Opinion, expires_at: int) -> Opinion | None:
        values: dict[str, Any] = {
            ":score": str(opinion.score),
            ":reason": opinion.reason,
            ":comment": opinion.comment,
            ":at": opinion.at,
            ":keep": expires_at,
        }
        try:
            # One step, so that of two who say the same at once only one brings news.
            old = await self._table.update(
                f"feedback#{opinion.tenant}",
                f"{opinion.request_id}#{opinion.key_id}",
                "SET score = :score, reason = :reason, #c = :comment, #a = :at, expires_at = :keep",
                names={"#c": "comment", "#a": "at"},
                values=values,
                returns="ALL_OLD",
            )
        except AwsError as error:
            raise _refused(error) from error
        if not old or float(old["expires_at"]) <= opinion.at:
            return None
        return Opinion(
            opinion.request_id,
            opinion.tenant,
            opinion.key_id,
            float(old["score"]),
            old["reason"],
            old["comment"],
            float(old["at"]),
        )


def _refused(error: AwsError) -> Unavailable:
    return Unavailable(f"Usage cannot be read or written right now ({error.code}).", headers={"retry-after": "1"})
