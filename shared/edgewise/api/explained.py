"""A choice of models as JSON: what a dry run answers."""

from __future__ import annotations

from typing import Any

from edgewise.words import Choice, Estimate


def plan_of(choice: Choice) -> dict[str, Any]:
    """A choice of models as JSON, for a dry run."""
    return {
        "object": "edgewise.route",
        "strategy": choice.strategy,
        "reason": choice.reason,
        "confidence": choice.confidence,
        "expected": _estimate(choice.expected),
        "worst_usd": None if choice.worst_usd is None else str(choice.worst_usd),
        "steps": [
            {"models": [m.name for m in step.models], "accept": step.accept, "at_least": step.at_least}
            for step in choice.steps
        ],
        "fallbacks": [model.name for model in choice.fallbacks],
        "features": dict(choice.features),
        "considered": [dict(plan) for plan in choice.considered],
    }


def _estimate(expected: Estimate) -> dict[str, Any]:
    return {
        "quality": expected.quality,
        "cost_usd": None if expected.cost_usd is None else str(expected.cost_usd),
        "latency_ms": expected.latency_ms,
    }
