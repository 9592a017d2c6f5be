"""The routing room's shared state in the state table: breakers, learners, overrides of the catalogue.

    pk=health#<model>   sk=breaker    failures, window_began, open_until, probe_until, opened
    pk=learn#<pair>     sk=state      state (bytes, one learner), version, upto, updated_at
    pk=learn#<pair>     sk=label#…    one label: places and counts of a question (no text), gain; upkeep folds them
    pk=learn#pairs      sk=<pair>     which pairs there are
    pk=model#overrides  sk=<model>    row: fields of a catalogue row, laid over the compiled ones

Times are seconds since the epoch. Every item but the overrides expires; an expired one is not read.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from edgewise.aws import AwsError, Item, Table
from edgewise.clock import Clock
from edgewise.routing.breaker import WINDOW_S, State, StoreError
from edgewise.routing.learn import Seen, Stored

HEALTH_TTL_S = 600
LEARN_TTL_S = 90 * 86_400
LABEL_TTL_S = 7 * 86_400
MOST_LABELS = 2000
"""Labels that one turn of upkeep folds in."""


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
        """True for the one caller that may try; the write's condition decides among all environments."""
        try:
            await self.table.update(
                f"health#{name}",
                "breaker",
                "SET probe_until = :until, expires_at = :ttl",
                condition="attribute_not_exists(probe_until) OR probe_until <= :now",
                values={":until": _number(until), ":now": _number(now), ":ttl": int(until) + HEALTH_TTL_S},
                returns="NONE",
            )
        except AwsError as error:
            if error.is_condition:
                return False
            raise StoreError(error.code) from error
        return True

    async def close(self, name: str) -> None:
        try:
            await self.table.delete(f"health#{name}", "breaker")
        except AwsError as error:
            raise StoreError(error.code) from error


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
class LearnTable:
    """Labels go in from every environment; states come out that upkeep has folded them into."""

    table: Table
    clock: Clock

    async def write(self, pair: str, question: Seen, gain: float) -> None:
        """Keep one label. Raises `AwsError`."""
        now = self.clock.now()
        expires = int(now) + LABEL_TTL_S
        key = f"label#{now:017.6f}#{self.clock.token('')}"
        item = {"pk": f"learn#{pair}", "sk": key, "label": _packed(question, gain), "expires_at": expires}
        await self.table.put(item)
        await self.table.put({"pk": "learn#pairs", "sk": pair, "expires_at": int(now) + LEARN_TTL_S})

    async def pairs(self) -> list[str]:
        """Every pair that has labels. Raises `AwsError`."""
        now = self.clock.now()
        return [item["sk"] async for item in self.table.query("learn#pairs") if item["expires_at"] > now]

    async def labels(self, pair: str, after: str) -> list[tuple[str, Seen, float]]:
        """(key, question, gain) of the labels after `after`, oldest first. Raises `AwsError`."""
        now, found = self.clock.now(), []
        async for item in self.table.query(
            f"learn#{pair}", after=after or "label#", before="label$", limit=MOST_LABELS
        ):
            if item["expires_at"] > now:
                found.append((item["sk"], *_unpacked(bytes(item["label"]))))
        return found

    async def load(self, pair: str) -> Stored | None:
        """A pair's state; None when there is none. Raises `AwsError`."""
        item = await self.table.get(f"learn#{pair}", "state")
        if item is None or item["expires_at"] <= self.clock.now():
            return None
        return Stored(bytes(item["state"]), int(item["version"]), str(item["upto"]))

    async def save(self, pair: str, found: Stored) -> bool:
        """Write a state over the version before it; False when another writer was first."""
        now = self.clock.now()
        item = {
            "pk": f"learn#{pair}",
            "sk": "state",
            "state": found.state,
            "version": found.version,
            "upto": found.upto,
            "updated_at": _number(now),
            "expires_at": int(now) + LEARN_TTL_S,
        }
        try:
            await self.table.put(
                item,
                condition="attribute_not_exists(version) OR version = :before",
                values={":before": found.version - 1},
            )
        except AwsError as error:
            if error.is_condition:
                return False
            raise
        return True


def _packed(question: Seen, gain: float) -> bytes:
    """A label in about a kilobyte: hashed places and counts, nothing that could be read back as text."""
    head = struct.pack(f"<fffHH{len(question.counts)}f", gain, question.score, 0.0, len(question.counts),
                       len(question.places), *question.counts)  # fmt: skip
    return head + struct.pack(f"<{len(question.places)}H", *question.places)


def _unpacked(label: bytes) -> tuple[Seen, float]:
    gain, score, _, counts, places = struct.unpack_from("<fffHH", label)
    offset = struct.calcsize("<fffHH")
    dense = struct.unpack_from(f"<{counts}f", label, offset)
    hashed = struct.unpack_from(f"<{places}H", label, offset + 4 * counts)
    return Seen(tuple(hashed), tuple(dense), score), gain


async def load_overrides(table: Table) -> dict[str, dict[str, Any]]:
    """The operator's changes to the catalogue, by model name. Raises `AwsError`."""
    return {item["sk"]: dict(item.get("row") or {}) async for item in table.query("model#overrides")}


async def save_override(table: Table, name: str, row: Mapping[str, Any]) -> None:
    """Lay `row` over the catalogue's row of `name`, for every environment that loads after."""
    await table.put({"pk": "model#overrides", "sk": name, "row": dict(row)})
