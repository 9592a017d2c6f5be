"""The routing room's shared state in the state table: breakers, what was spent, overrides of the catalogue.

    pk=health#<model>   sk=breaker    failures, window_began, open_until, probe_until, opened
    pk=pace#house       sk=<window>   spent: picodollars of all processes in a window of the house's budget
    pk=model#overrides  sk=<model>    row: JSON, fields of a catalogue row, laid over the compiled ones

Times are seconds since the epoch. Every item but the overrides expires; an expired one is not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from edgewise.aws import AwsError, Item, Table
from edgewise.clock import Clock
from edgewise.routing.breaker import WINDOW_S, State, StoreError

HEALTH_TTL_S = 600
PICO = 10**12
AWAKE = "attribute_not_exists(open_until) OR open_until <= :now"


@dataclass(frozen=True, slots=True)
class TableStore:
    """Implements `breaker.Store`."""

    table: Table
    clock: Clock

    async def read(self, name: str) -> State:
        try:
            item = await self.table.get(f"health#{name}", "breaker")
        except AwsError as error:
            raise StoreError(error.code) from error
        return _state(item) if item and item.get("expires_at", 0) > self.clock.now() else State()

    async def fail(self, name: str, now: float) -> State:
        """Count one failure; a window that is over begins anew."""
        values = {":one": 1, ":zero": 0, ":now": _number(now), ":ttl": int(now) + HEALTH_TTL_S}
        try:
            item = await self.table.update(
                f"health#{name}",
                "breaker",
                "SET failures = if_not_exists(failures, :zero) + :one, expires_at = :ttl,"
                " window_began = if_not_exists(window_began, :now)",
                condition="attribute_not_exists(window_began) OR window_began > :since",
                values={**values, ":since": _number(now - WINDOW_S)},
            )
        except AwsError as error:
            if not error.is_condition:
                raise StoreError(error.code) from error
            item = await self._again(name, values)
        return _state(item)

    async def _again(self, name: str, values: Mapping[str, Any]) -> Item:
        try:
            return await self.table.update(
                f"health#{name}",
                "breaker",
                "SET failures = :one, window_began = :now, expires_at = :ttl",
                values={key: values[key] for key in (":one", ":now", ":ttl")},
            )
        except AwsError as error:
            raise StoreError(error.code) from error

    async def open(self, name: str, until: float, opened: int) -> None:
        try:
            await self.table.update(
                f"health#{name}",
                "breaker",
                "SET open_until = :until, opened = :opened, probe_until = :zero, expires_at = :ttl",
                values={
                    ":until": _number(until),
                    ":opened": opened,
                    ":zero": 0,
                    ":ttl": int(until) + HEALTH_TTL_S,
                },
                returns="NONE",
            )
        except AwsError as error:
            raise StoreError(error.code) from error

    async def probe(self, name: str, now: float, until: float) -> bool:
        """True for the one caller that may try; the write's condition decides among all environments. Whoever believes
        an older state loses to a probe that has failed meanwhile: the model rests again."""
        try:
            await self.table.update(
                f"health#{name}",
                "breaker",
                "SET probe_until = :until, expires_at = :ttl",
                condition=f"(attribute_not_exists(probe_until) OR probe_until <= :now) AND ({AWAKE})",
                values={":until": _number(until), ":now": _number(now), ":ttl": int(until) + HEALTH_TTL_S},
                returns="NONE",
            )
        except AwsError as error:
            if error.is_condition:
                return False
            raise StoreError(error.code) from error
        return True

    async def close(self, name: str, now: float) -> bool:
        try:
            await self.table.delete(f"health#{name}", "breaker", condition=AWAKE, values={":now": _number(now)})
        except AwsError as error:
            if error.is_condition:
                return False
            raise StoreError(error.code) from error
        return True


def _state(item: Mapping[str, Any]) -> State:
    return State(
        failures=int(item.get("failures", 0)),
        window_began=float(item.get("window_began", 0)),
        open_until=float(item.get("open_until", 0)),
        probe_until=float(item.get("probe_until", 0)),
        opened=int(item.get("opened", 0)),
    )


def _number(value: float) -> Decimal:
    return Decimal(f"{value:.3f}")


@dataclass(frozen=True, slots=True)
class SpentTable:
    """Implements `pacing.Spent`: one counter of picodollars a window. Raises `AwsError`."""

    table: Table
    clock: Clock

    async def add(self, window: str, usd: float, keep_s: float) -> float:
        item = await self.table.update(
            "pace#house",
            window,
            "SET expires_at = :ttl ADD spent :spent",
            values={":ttl": int(self.clock.now() + 2 * keep_s), ":spent": round(usd * PICO)},
        )
        return float(item["spent"]) / PICO


@dataclass(frozen=True, slots=True)
class OverrideTable:
    """The operator's changes to the catalogue. Rows are JSON: the table knows no fractions. Raises `AwsError`."""

    table: Table

    async def all(self) -> dict[str, dict[str, Any]]:
        """Every change, by model name."""
        return {item["sk"]: json.loads(item["row"]) async for item in self.table.query("model#overrides")}

    async def save(self, name: str, row: Mapping[str, Any]) -> None:
        """Lay `row` over the catalogue's row of `name`, in place of the change before."""
        await self.table.put({"pk": "model#overrides", "sk": name, "row": json.dumps(dict(row))})

    async def drop(self, name: str) -> None:
        await self.table.delete("model#overrides", name)
