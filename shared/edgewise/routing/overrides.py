"""The operator's changes to the catalogue, made while it runs: what a row may say, and when it is read.

A change is a row in the state table, laid over the compiled row and over the settings'. Each process looks for changes
once a minute, behind a request, so a cold start doesn't wait for them; what must hold from the very first request on
belongs in the settings. A row is checked when it is written; one that can't be read changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from edgewise.background import Background
from edgewise.clock import Clock
from edgewise.errors import InvalidRequest
from edgewise.price import LETTERS, ROW, Price, price_of
from edgewise.routing.catalog import OPEN_CAPABILITIES, Catalog
from edgewise.words import TIERS

REFRESH_S = 60.0
CAPABILITIES = OPEN_CAPABILITIES | {"audio", "reasoning"}

Row = dict[str, Any]


@dataclass(slots=True)
class Overrides:
    """Looks for changes. `load` reads the table's rows by model name, `make` the catalogue that they give."""

    clock: Clock
    background: Background
    load: Callable[[], Awaitable[Mapping[str, Row]]]
    make: Callable[[Mapping[str, Row]], Catalog]
    _held: Mapping[str, Row] = field(default_factory=dict)
    _latest: Catalog | None = None
    _looked: float | None = None

    def refresh(self, catalog: Catalog, changed: Callable[[Catalog], None]) -> None:
        """Tell `changed` of a catalogue that is newer than `catalog`: of one that is there at once, of one that is
        found behind the request that looks. Several rooms may share one look."""
        if self._latest is not None and catalog is not self._latest:
            changed(self._latest)
        now = self.clock.tick()
        if self._looked is None or now - self._looked >= REFRESH_S:
            self._looked = now
            self.background.spawn(self._look(changed))

    async def _look(self, changed: Callable[[Catalog], None]) -> None:
        rows = await self.load()
        if rows != self._held:
            self._latest = self.make(rows)
            self._held = rows
            changed(self._latest)


def checked(name: str, row: Mapping[str, Any]) -> Row:
    """`row` as it may be kept for the model `name`. Raises `InvalidRequest` with the field that is wrong."""
    provider, slash, model = name.partition("/")
    if not (provider and slash and model) or len(name) > 200:
        raise InvalidRequest("A model is named `provider/id`.", param="model")
    if not row:
        raise InvalidRequest("An override names at least one field.", param=None)
    for field_name, value in row.items():
        check = CHECKS.get(field_name)
        if check is None:
            raise InvalidRequest(f"An override has no field {field_name!r}.", param=field_name[:64])
        if not check(value):
            raise InvalidRequest(f"The field {field_name!r} of a model has no such value.", param=field_name)
    return dict(row)


def _number(least: float, most: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _tokens(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 10**9


def _price(value: Any) -> bool:
    """None is allowed: a price that is not known after all."""
    if value is None:
        return True
    if not isinstance(value, Mapping) or value.keys() - ROW:
        return False
    try:
        return _is_sane(price_of(value))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, InvalidOperation):
        return False


def _is_sane(price: Price) -> bool:
    parts = (getattr(price, name) for name in LETTERS.values())
    dearer = (price.above[1],) if price.above is not None else ()
    return all(part is None or (part.is_finite() and Decimal(0) <= part <= 10**6) for part in parts) and all(
        _is_sane(rates) for rates in (*price.tiers.values(), *dearer)
    )


CHECKS: dict[str, Callable[[Any], bool]] = {
    "tier": lambda value: value in TIERS,
    "context": _tokens,
    "output": _tokens,
    "quality": _number(0, 1),
    "latency_ms": _number(1, 10**7),
    "auto": lambda value: isinstance(value, bool),
    "capabilities": lambda value: isinstance(value, list) and set(map(str, value)) <= CAPABILITIES,
    "price": _price,
    "owned_by": lambda value: isinstance(value, str) and len(value) <= 100,
}
