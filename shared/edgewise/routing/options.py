"""The routing options of a request: the house's, the alias's, the key's and the request's own, laid over one another.

Every option has a name, a unit and a default here; an unknown one is refused, because an option that is silently
ignored is worse than an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from edgewise.errors import InvalidRequest
from edgewise.routing.names import PRESETS, STRATEGIES, strategy_named

Preference = Literal["cheap", "balanced", "best"]
COST_WEIGHTS: dict[str, float] = {"cheap": 60.0, "balanced": 12.0, "best": 0.5}
"""λ of the plan scorer by preference: quality points (0 to 1) that one US dollar a request is worth."""

USUAL_DELTA = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """How to route one request. Money in US dollars, times in milliseconds, probabilities from 0 to 1."""

    strategy: str | None = None
    prefer: Preference = "balanced"
    models: tuple[str, ...] = ()
    """Only these candidates, in this order."""
    only: tuple[str, ...] = ()
    """Only these providers."""
    ignore: tuple[str, ...] = ()
    """Not these providers."""
    fallbacks: tuple[str, ...] = ()
    context_fallbacks: tuple[str, ...] = ()
    content_fallbacks: tuple[str, ...] = ()
    allow_fallbacks: bool | None = None
    """None: another model may step in only when the client did not name one."""
    weights: Mapping[str, float] = field(default_factory=dict)
    max_cost_usd: Decimal | None = None
    max_latency_ms: float | None = None
    min_quality: float | None = None
    cost_weight: float | None = None
    """λ: quality points that one US dollar is worth; None follows `prefer`."""
    latency_weight: float = 0.0
    """μ: quality points that one second is worth."""
    at_least: float | None = None
    """Confidence from which a cheap answer is kept; None follows the strategy."""
    agree: bool = True
    """Whether two cheap models may be asked at once."""
    judge: str | None = None
    """A model that grades a cheap answer where nothing free settles it and a verdict is worth its price; `self`: the
    model that answered."""
    guarantee: Mapping[str, Any] = field(default_factory=dict)
    """{"model": name, "delta": quality points, 0 to 1}: no worse than that model (the best of the candidates, when
    none is named) by more than delta on average."""
    pace: bool = False
    """Whether this key's budgets are paced: cheaper plans while spending runs ahead of the window's share that is
    gone (`pacing.py`)."""
    session: str | None = None
    hedge: bool = False
    shadow: float | None = None
    """Share of requests that are also asked of the other tier, for learning; None follows the house."""
    max_attempts: int = 6
    dry_run: bool = False

    @property
    def lam(self) -> float:
        """λ in quality points per US dollar."""
        return self.cost_weight if self.cost_weight is not None else COST_WEIGHTS[self.prefer]


NOTHING_ASKED = Options()
NAMES = frozenset(f.name for f in fields(Options))
TUPLES = frozenset({"models", "only", "ignore", "fallbacks", "context_fallbacks", "content_fallbacks"})
NUMBERS = frozenset({"max_latency_ms", "min_quality", "cost_weight", "latency_weight", "at_least", "shadow"})
FLAGS = frozenset({"allow_fallbacks", "agree", "pace", "hedge", "dry_run"})


def parse(*layers: Mapping[str, Any]) -> Options:
    """The options of `layers`, later over earlier. Raises `InvalidRequest` naming the option."""
    if not any(layers):
        return NOTHING_ASKED
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= {str(key).replace("-", "_"): value for key, value in layer.items() if value is not None}
    if unknown := merged.keys() - NAMES:
        name = sorted(unknown)[0]
        raise InvalidRequest(f"There is no routing option {name!r}.", param=f"routing.{name}")
    return Options(**{name: _read(name, value) for name, value in merged.items()})


def _read(name: str, value: Any) -> Any:
    try:
        return _value(name, value)
    except (TypeError, ValueError, InvalidOperation) as error:
        raise InvalidRequest(f"The routing option {name!r} has no such value.", param=f"routing.{name}") from error


def _value(name: str, value: Any) -> Any:
    if name in TUPLES:
        words = value.split(",") if isinstance(value, str) else value
        return tuple(str(word).strip() for word in words if str(word).strip())
    if name in NUMBERS:
        return float(value)
    if name in FLAGS:
        return value.strip().lower() in ("1", "true", "yes", "on") if isinstance(value, str) else bool(value)
    if name == "max_cost_usd":
        return Decimal(str(value))
    if name == "max_attempts":
        return max(1, min(20, int(value)))
    if name == "strategy":
        if str(value).lower() == "auto":
            return None
        found = strategy_named(str(value))
        if found is None:
            told = f"There is no routing strategy {str(value)[:60]!r}; there are {', '.join(STRATEGIES)}."
            raise InvalidRequest(told, param="routing.strategy")
        return found
    if name == "prefer":
        return PRESETS[str(value).lower()] if str(value).lower() in PRESETS else _refuse(value)
    if name in ("weights", "guarantee"):
        if not isinstance(value, Mapping):
            raise TypeError(name)
        return {str(k): float(v) for k, v in value.items()} if name == "weights" else _guarantee(value)
    return str(value)


def _guarantee(value: Mapping[str, Any]) -> dict[str, Any]:
    """A promise that is not understood whole is refused. An empty one is none."""
    if not value:
        return {}
    delta = float(value.get("delta", USUAL_DELTA))
    if value.keys() - {"model", "delta"} or not 0 < delta < 1:
        _refuse(value)
    named = value.get("model")
    return {"delta": delta} if named is None else {"model": str(named), "delta": delta}


def _refuse(value: Any) -> Any:
    raise ValueError(value)
