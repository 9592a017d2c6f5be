"""What is learned, in the state table: labels go in from every environment, states come out that upkeep made of them.

    pk=learn#<pair>      sk=state               state (bytes, one learner), version, upto
    pk=learn#<pair>      sk=label#…             one label: a packed question (no text), gain, tenant, drawn
    pk=learn#<pair>      sk=proof#<tenant>      (score, gain) pairs of labels drawn from this tenant's traffic
    pk=learn#pairs       sk=<pair>, #plans      which pairs there are, and the version of each one's state
    pk=learn#panel       sk=label#…             one question put to several models: what each said, what each cost
    pk=learn#panel       sk=state               fitted plans, counts of what confidences rest on, version, upto
    pk=ask#<tenant>#<id> sk=ask                 a question that an opinion may still come for; `told` once one has

Times are seconds since the epoch. Every item expires; an expired one is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from edgewise.aws import AwsError, Item, Table
from edgewise.clock import Clock
from edgewise.routing.labels import Asked, Label, Panel, packed, packed_pairs, unpacked, unpacked_pairs
from edgewise.routing.learn import Stored
from edgewise.routing.upkeep import PLANS

LEARN_TTL_S = 90 * 86_400
LABEL_TTL_S = 7 * 86_400
ASKED_TTL_S = 7 * 86_400
PANEL_TTL_S = 60 * 86_400
MOST_LABELS = 2000
"""Labels that one turn of upkeep folds in."""
PANEL = "learn#panel"


@dataclass(frozen=True, slots=True)
class LearnTable:
    """Implements `upkeep.Labels`. Every method raises `AwsError`."""

    table: Table
    clock: Clock

    async def write(self, pair: str, label: Label) -> None:
        await self._put(f"learn#{pair}", self._fresh(), LABEL_TTL_S, _label_item(label))
        await self._announce(pair, 0)

    def _fresh(self) -> str:
        return f"label#{self.clock.now():017.6f}#{self.clock.token('')}"

    async def _announce(self, pair: str, version: int) -> None:
        """Say that a pair has labels, or of which version its state is."""
        values = {":ttl": int(self.clock.now()) + LEARN_TTL_S, ":version": version}
        await self.table.update(
            "learn#pairs",
            pair,
            "SET expires_at = :ttl, version = " + (":version" if version else "if_not_exists(version, :version)"),
            values=values,
            returns="NONE",
        )

    async def versions(self) -> dict[str, int]:
        """Every pair that has labels, and `PLANS`, with the version of its state (0: none yet)."""
        now = self.clock.now()
        rows = self.table.query("learn#pairs")
        return {row["sk"]: int(row.get("version", 0)) async for row in rows if row["expires_at"] > now}

    async def labels(self, pair: str, after: str) -> list[tuple[str, Label]]:
        """(key, label) of the labels after `after`, oldest first."""
        return [(row["sk"], _label(row)) for row in await self._labels(f"learn#{pair}", after)]

    async def _labels(self, pk: str, after: str) -> list[Item]:
        rows = self.table.query(pk, after=after or "label#", before="label$", limit=MOST_LABELS)
        now = self.clock.now()
        return [row async for row in rows if row["expires_at"] > now]

    async def load(self, pair: str) -> Stored | None:
        """A pair's state; None when there is none."""
        return _stored(await self._get(f"learn#{pair}", "state"))

    async def save(self, pair: str, found: Stored) -> bool:
        """Write a state over the version before it; False when another writer was first."""
        saved = await self._save(f"learn#{pair}", found, {})
        if saved:
            await self._announce(pair, found.version)
        return saved

    async def proof(self, pair: str, tenant: str) -> list[tuple[float, float]]:
        """(score, gain) of the labels drawn from a tenant's traffic, oldest first."""
        row = await self._get(f"learn#{pair}", f"proof#{tenant}")
        return unpacked_pairs(bytes(row["pairs"])) if row is not None else []

    async def save_proof(self, pair: str, tenant: str, pairs: list[tuple[float, float]]) -> None:
        await self._put(f"learn#{pair}", f"proof#{tenant}", LEARN_TTL_S, {"pairs": packed_pairs(pairs)})

    async def write_panel(self, panel: Panel) -> None:
        said = {name: [group, _number(usd)] for name, (group, usd) in panel.said.items()}
        rest = {"said": said, "served": panel.served, "source": panel.source, "question": packed(panel.question)}
        await self._put(PANEL, self._fresh(), PANEL_TTL_S, rest)

    async def panels(self) -> list[tuple[str, Panel]]:
        """(key, panel) of the newest panels, oldest first."""
        rows = self.table.query(PANEL, begins="label#", forward=False, limit=MOST_LABELS)
        now = self.clock.now()
        found = [(row["sk"], _panel(row)) async for row in rows if row["expires_at"] > now]
        return found[::-1]

    async def load_plans(self) -> tuple[Stored, dict[str, tuple[int, int]]] | None:
        """The fitted plans (no bytes: there are none) and the counts beside them."""
        row = await self._get(PANEL, "state")
        if row is None or (found := _stored(row)) is None:
            return None
        return found, {name: (int(good), int(count)) for name, (good, count) in row["counts"].items()}

    async def save_plans(self, found: Stored, counts: Mapping[str, tuple[int, int]]) -> bool:
        plain = {name: [good, count] for name, (good, count) in counts.items()}
        saved = await self._save(PANEL, found, {"counts": plain})
        if saved:
            await self._announce(PLANS, found.version)
        return saved

    async def remember(self, request_id: str, asked: Asked) -> None:
        """Keep a question that an opinion may come for."""
        rest = {"question": packed(asked.question), "served": asked.served, "pair": list(asked.pair)}
        await self._put(f"ask#{asked.tenant}#{request_id}", "ask", ASKED_TTL_S, rest)

    async def recall(self, tenant: str, request_id: str) -> Asked | None:
        """The question, for the first opinion that comes for it; None when it is not known, or was told before."""
        now = self.clock.now()
        try:
            row = await self.table.update(
                f"ask#{tenant}#{request_id}",
                "ask",
                "SET told = :now",
                condition="attribute_exists(question) AND attribute_not_exists(told) AND expires_at > :now",
                values={":now": int(now)},
            )
        except AwsError as error:
            if error.is_condition:
                return None
            raise
        weak, strong = row["pair"]
        return Asked(unpacked(bytes(row["question"])), row["served"], (weak, strong), tenant)

    async def _get(self, pk: str, sk: str) -> Item | None:
        row = await self.table.get(pk, sk)
        return row if row is not None and row["expires_at"] > self.clock.now() else None

    async def _put(self, pk: str, sk: str, ttl_s: int, rest: Mapping[str, Any]) -> None:
        await self.table.put({"pk": pk, "sk": sk, "expires_at": int(self.clock.now()) + ttl_s, **rest})

    async def _save(self, pk: str, found: Stored, rest: Mapping[str, Any]) -> bool:
        now = self.clock.now()
        item = {"pk": pk, "sk": "state", "state": found.state, "version": found.version, "upto": found.upto, **rest}
        try:
            await self.table.put(
                {**item, "updated_at": _number(now), "expires_at": int(now) + LEARN_TTL_S},
                condition="attribute_not_exists(version) OR version = :before",
                values={":before": found.version - 1},
            )
        except AwsError as error:
            if error.is_condition:
                return False
            raise
        return True


def _label_item(label: Label) -> Item:
    rest = {"gain": _number(label.gain), "tenant": label.tenant, "drawn": label.drawn}
    return {"question": packed(label.question), **rest}


def _label(row: Item) -> Label:
    return Label(unpacked(bytes(row["question"])), float(row["gain"]), str(row["tenant"]), bool(row["drawn"]))


def _panel(row: Item) -> Panel:
    said = {name: (int(group), float(usd)) for name, (group, usd) in row["said"].items()}
    return Panel(unpacked(bytes(row["question"])), said, str(row["served"]), str(row["source"]))


def _stored(row: Item | None) -> Stored | None:
    return None if row is None else Stored(bytes(row["state"]), int(row["version"]), str(row["upto"]))


def _number(value: float) -> Decimal:
    return Decimal(repr(round(value, 9)))
