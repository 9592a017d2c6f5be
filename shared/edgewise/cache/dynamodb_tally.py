"""The tally of what was asked most, in the cache table: pk `t#asked#<day>#<scope>`, sk `<key>`."""

from __future__ import annotations

import orjson

from edgewise.aws import AwsError, Table
from edgewise.cache.codec import expand, squeeze
from edgewise.cache.popular import KEPT_DAYS, Question
from edgewise.cache.port import StoreError
from edgewise.clock import Clock


class DynamoTally:
    """What was asked most, by day and scope."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def add(self, day: str, question: Question) -> None:
        try:
            await self._table.update(
                f"t#asked#{day}#{question.scope}",
                question.key,
                "SET body = if_not_exists(body, :body), expires_at = :until ADD times :times",
                values={
                    ":body": squeeze(orjson.dumps(question.body)),
                    ":until": int(self._clock.now()) + KEPT_DAYS * 86_400,
                    ":times": question.times,
                },
                returns="NONE",
            )
        except AwsError as error:
            raise StoreError(error.code) from error

    async def top(self, day: str, scope: str, most: int) -> list[Question]:
        now = self._clock.now()
        try:
            rows = [r async for r in self._table.query(f"t#asked#{day}#{scope}") if int(r["expires_at"]) > now]
        except AwsError as error:
            raise StoreError(error.code) from error
        rows.sort(key=lambda row: (-int(row["times"]), row["sk"]))
        return [Question(scope, row["sk"], int(row["times"]), orjson.loads(expand(row["body"]))) for row in rows[:most]]
