"""Batches, their chunks and their lines in the state table.

    batch#active         <id>                 batches that have not ended, for upkeep
    batch#<id>           meta                 the batch; gsi1pk batch#<tenant>, gsi1sk <created_at>#<id>
    batch#<id>           chunk#00012          a chunk's lease, how often it was claimed, whether it is done
    batch#<id>#00012     line#0000123         a line's result: written once
    batch#<id>#00012     call#0000123#<key>   a provider call paid for, before the line's result is there

A chunk's lines share a partition, so a batch spreads over the table, and one query tells a worker that takes over
what its predecessor got done. What is too large for an item goes to the bucket, named by the item.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

from edgewise.aws import AwsError, Item, Table
from edgewise.clock import Clock
from edgewise.jobs.batch import Batch, LineError, Result, Status, Tally, sources
from edgewise.jobs.pack import Packing
from edgewise.jobs.paid import PaidCall
from edgewise.jobs.ports import Blobs
from edgewise.jobs.store import Claimed, Done, Held, Worked

KEPT_S = 7 * 86_400
"""How long a line's result outlives its batch's window: the output file has it by then."""
_SIMPLE = (
    "id",
    "tenant",
    "key_id",
    "endpoint",
    "input_file_id",
    "status",
    "completion_window",
    "output_file_id",
    "error_file_id",
    "model",
)


class DynamoBatches:
    def __init__(self, table: Table, blobs: Blobs, clock: Clock) -> None:
        self._table = table
        self._packing = Packing(blobs)
        self._clock = clock

    async def create(self, batch: Batch) -> bool:
        await self._table.put({"pk": "batch#active", "sk": batch.id, "expires_at": batch.expires_at + KEPT_S})
        item: Item = {
            "pk": f"batch#{batch.id}",
            "sk": "meta",
            "gsi1pk": f"batch#{batch.tenant}",
            "gsi1sk": _age(batch),
            "ends_at": batch.expires_at,
            "expires_at": batch.expires_at + max(KEPT_S, batch.output_expires_s),
            "created_at": batch.created_at,
            "metadata": dict(batch.metadata) if batch.metadata else None,
            "output_expires_s": batch.output_expires_s,
            "live": {},
            "parts": {},
            "chunks": 0,
            "total": 0,
            **{f"{state}_at": at for state, at in batch.times.items()},
            **{name: getattr(batch, name) for name in _SIMPLE if getattr(batch, name) is not None},
        }
        return await self._try(self._table.put(item, condition="attribute_not_exists(pk)"))

    async def get(self, id: str) -> Batch | None:
        item = await self._table.get(f"batch#{id}", "meta", consistent=True)
        return _batch(item) if item and item["expires_at"] > self._clock.now() else None

    async def page(self, tenant: str, after: Batch | None, limit: int) -> list[Batch]:
        """Newest first."""
        before = _age(after) if after else None
        found: list[Batch] = []
        async for item in self._table.query(f"batch#{tenant}", index="gsi1", forward=False, before=before):
            if item["expires_at"] > self._clock.now():
                found.append(_batch(item))
                if len(found) >= limit:
                    break
        return found

    async def active(self) -> AsyncIterator[str]:
        async for item in self._table.query("batch#active"):
            yield item["sk"]

    async def retire(self, id: str) -> None:
        await self._table.delete("batch#active", id)

    async def move(self, id: str, to: Status, **changes: Any) -> Batch | None:
        """Change the state and the fields given; None when the batch is in no state that leads there."""
        allowed = sources(to)
        values: dict[str, Any] = {f":f{n}": state for n, state in enumerate(allowed)}
        changes = {**changes, "status": to, f"{to}_at": int(self._clock.now())}
        if "final" in changes:
            changes["final"] = changes["final"].short()
        if "errors" in changes:
            changes["errors"] = [error.wire() for error in changes["errors"]]
        names = {f"#c{n}": name for n, name in enumerate(changes)} | {"#s": "status"}
        values |= {f":c{n}": value for n, value in enumerate(changes.values())}
        try:
            item = await self._table.update(
                f"batch#{id}",
                "meta",
                "SET " + ", ".join(f"#c{n} = :c{n}" for n in range(len(changes))),
                condition=f"#s IN ({', '.join(f':f{n}' for n in range(len(allowed)))})",
                names=names,
                values=values,
            )
        except AwsError as error:
            if error.is_condition:
                return None
            raise
        return _batch(item)

    async def note(self, id: str, **changes: Any) -> None:
        """Set fields of a batch without changing its state."""
        names = {f"#c{n}": name for n, name in enumerate(changes)}
        values = {f":c{n}": value for n, value in enumerate(changes.values())}
        update = "SET " + ", ".join(f"#c{n} = :c{n}" for n in range(len(changes)))
        await self._table.update(f"batch#{id}", "meta", update, names=names, values=values, returns="NONE")

    async def claim(self, id: str, chunk: int, owner: str, lease_s: float) -> Claimed | Held | Done:
        now = self._clock.now()
        try:
            item = await self._table.update(
                f"batch#{id}",
                _chunk(chunk),
                "SET holder = :me, lease_until = :until, expires_at = :gone ADD claims :one, tries :one",
                condition="attribute_not_exists(done) AND "
                "(attribute_not_exists(lease_until) OR lease_until < :now OR holder = :me)",
                values={
                    ":me": owner,
                    ":until": _decimal(now + lease_s),
                    ":now": _decimal(now),
                    ":one": 1,
                    ":gone": int(now) + KEPT_S,
                },
            )
        except AwsError as error:
            if not error.is_condition:
                raise
            old = error.item or await self._table.get(f"batch#{id}", _chunk(chunk), consistent=True) or {}
            return Done(Tally.of(old["done"])) if "done" in old else Held(float(old.get("lease_until", now)))
        strikes = {int(line): int(count) for line, count in (item.get("strikes") or {}).items()}
        for line in item.get("suspects") or ():
            strikes[int(line)] = strikes.get(int(line), 0) + 1
        return Claimed(int(item["claims"]), item["tries"] == 1, strikes)

    async def suspect(self, id: str, chunk: int, lines: list[int], strikes: Mapping[int, int]) -> None:
        """Write down which lines are about to run, so that their worker's death is told of them."""
        await self._table.update(
            f"batch#{id}",
            _chunk(chunk),
            "SET suspects = :lines, strikes = :strikes",
            values={":lines": lines, ":strikes": {str(line): count for line, count in strikes.items()}},
            returns="NONE",
        )

    async def renew(self, id: str, chunk: int, owner: str, lease_s: float, done: tuple[int, int]) -> bool:
        """Hold on to the chunk and tell its progress; False: it is lost, or the batch is no longer in progress."""
        held = await self._try(
            self._table.update(
                f"batch#{id}",
                _chunk(chunk),
                "SET lease_until = :until",
                condition="holder = :me AND attribute_not_exists(done)",
                values={":me": owner, ":until": _decimal(self._clock.now() + lease_s)},
                returns="NONE",
            )
        )
        return held and await self._try(
            self._table.update(
                f"batch#{id}",
                "meta",
                "SET live.#k = :done",
                condition="#s = :running",
                names={"#k": str(chunk), "#s": "status"},
                values={":done": list(done), ":running": "in_progress"},
                returns="NONE",
            )
        )

    async def release(self, id: str, chunk: int, owner: str) -> None:
        """Give the chunk back in good order: the next claim counts as the first."""
        await self._try(
            self._table.update(
                f"batch#{id}",
                _chunk(chunk),
                "SET lease_until = :zero, claims = :zero, suspects = :none",
                condition="holder = :me AND attribute_not_exists(done)",
                values={":me": owner, ":zero": 0, ":none": []},
                returns="NONE",
            )
        )

    async def worked(self, id: str, chunk: int, *, calls: bool) -> Worked:
        worked = Worked()
        begins = None if calls else "line#"
        async for item in self._table.query(f"batch#{id}#{chunk:05d}", begins=begins, consistent=True):
            if item["sk"].startswith("line#"):
                result = await self._result(item)
                worked.results[result.line] = result
            else:
                _, line, key = item["sk"].split("#", 2)
                worked.calls[(int(line), key)] = await self._call(item)
        return worked

    async def results(self, id: str, lines: list[tuple[int, int]]) -> list[Result]:
        """Results by (chunk, line); those that are not there are left out."""
        keys = [(f"batch#{id}#{chunk:05d}", f"line#{line:07d}") for chunk, line in lines]
        return [await self._result(item) for item in await self._table.get_many(keys)]

    async def put_result(self, id: str, chunk: int, result: Result) -> bool:
        """The one write that ends a line; False: it had ended already, and what was there stays."""
        item: Item = {
            "pk": f"batch#{id}#{chunk:05d}",
            "sk": f"line#{result.line:07d}",
            "custom_id": result.custom_id,
            "request_id": result.request_id,
            "http": result.status,
            "fault": dict(result.error) if result.error else None,
            "cost_usd": result.cost_usd,
            "cached": result.cached,
            "expires_at": int(self._clock.now()) + KEPT_S,
        }
        if result.body is not None:
            item |= await self._packing.pack("body", result.body, f"batches/{id}/lines/{result.line:07d}")
        return await self._try(self._table.put(item, condition="attribute_not_exists(pk)"))

    async def put_call(self, id: str, chunk: int, line: int, key: str, call: PaidCall) -> None:
        item: Item = {
            "pk": f"batch#{id}#{chunk:05d}",
            "sk": f"call#{line:07d}#{key}",
            "paid": call.wire(),
            "expires_at": int(self._clock.now()) + KEPT_S,
        }
        item |= await self._packing.pack("body", call.answer.completion, f"batches/{id}/calls/{line:07d}-{key}")
        await self._table.put(item)

    async def finish_chunk(self, id: str, chunk: int, tally: Tally) -> None:
        """Mark the chunk done, with its counts. Every worker that comes here has counted the same stored results."""
        await self._table.update(
            f"batch#{id}",
            _chunk(chunk),
            "SET done = if_not_exists(done, :tally), lease_until = :zero",
            values={":tally": tally.short(), ":zero": 0},
            returns="NONE",
        )

    async def count(self, id: str, chunk: int, tally: Tally) -> Batch | None:
        """Put a done chunk's counts into its place in the batch; the batch with them, None when it is gone."""
        try:
            item = await self._table.update(
                f"batch#{id}",
                "meta",
                "SET parts.#k = :tally REMOVE live.#k",
                condition="attribute_exists(pk)",
                names={"#k": str(chunk)},
                values={":tally": tally.short()},
            )
        except AwsError as error:
            if error.is_condition:
                return None
            raise
        return _batch(item)

    async def held_chunks(self, id: str) -> int:
        """How many chunks somebody is working at this moment."""
        now = self._clock.now()
        held = 0
        async for item in self._table.query(f"batch#{id}", begins="chunk#", consistent=True):
            held += "done" not in item and item.get("lease_until", 0) > now
        return held

    async def _try(self, write: Any) -> bool:
        try:
            await write
        except AwsError as error:
            if error.is_condition:
                return False
            raise
        return True

    async def _result(self, item: Item) -> Result:
        return Result(
            line=int(item["sk"].removeprefix("line#")),
            custom_id=item["custom_id"],
            request_id=item["request_id"],
            status=int(item["http"]) if item["http"] is not None else None,
            body=await self._packing.unpack("body", item),
            error=item["fault"],
            cost_usd=item["cost_usd"],
            cached=item["cached"],
        )

    async def _call(self, item: Item) -> PaidCall:
        return PaidCall.of(await self._packing.unpack("body", item) or {}, item["paid"])


def _age(batch: Batch) -> str:
    return f"{batch.created_at:012d}#{batch.id}"


def _chunk(number: int) -> str:
    return f"chunk#{number:05d}"


def _decimal(seconds: float) -> Decimal:
    return Decimal(f"{seconds:.3f}")


def _batch(item: Item) -> Batch:
    return Batch(
        **{name: item[name] for name in _SIMPLE if name in item},
        created_at=int(item["created_at"]),
        expires_at=int(item["ends_at"]),
        metadata=item["metadata"],
        output_expires_s=int(item["output_expires_s"]),
        times={name: int(at) for name, at in item.items() if name.endswith("_at") and name[:-3] in _STATES},
        errors=tuple(
            LineError(e["code"], e["message"], int(e["line"]) if e["line"] is not None else None, e["param"])
            for e in item.get("errors", ())
        ),
        total=int(item["total"]),
        final=Tally.of(item["final"]) if "final" in item else None,
        parts={int(chunk): Tally.of(short) for chunk, short in item["parts"].items()},
        live={int(chunk): (int(part[0]), int(part[1])) for chunk, part in item["live"].items()},
        chunks=int(item["chunks"]),
        remote=item.get("remote"),
        owed_at=int(item["owed_at"]) if item.get("owed_at") is not None else None,
        mark=item.get("mark", ""),
    )


_STATES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
