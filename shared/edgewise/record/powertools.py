"""Powertools' Logger and Metrics, for the functions that nobody waits for (the worker, the upkeep).

Importing them takes about 140 ms of CPU, so the gateway writes its lines by hand (`edgewise.record.emf`), in the same
namespace and with the same dimension; here convenience wins. Nothing is imported until a function asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgewise.record.emf import NAMESPACE

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger, Metrics

    from edgewise.settings import Settings


def logger_of(settings: Settings) -> Logger:
    """A JSON logger; bodies and events are never logged unless a caller writes them."""
    from aws_lambda_powertools import Logger

    return Logger(service=f"edgewise-{settings.stage}", level=settings.log_level, log_uncaught_exceptions=False)


def metrics_of(settings: Settings) -> Metrics:
    """Metrics in the gateway's namespace."""
    from aws_lambda_powertools import Metrics

    return Metrics(namespace=NAMESPACE, service=f"edgewise-{settings.stage}")


def count(metrics: Any, name: str, value: float = 1) -> None:
    """Add a metric by its name in `edgewise.record.emf.UNITS`."""
    from edgewise.record.emf import UNITS

    metrics.add_metric(name=name, unit=UNITS[name], value=value)
