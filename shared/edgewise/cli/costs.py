"""What a list of requests may cost, said before any of them is sent."""

from __future__ import annotations

from typing import Any

import typer

from edgewise.cache.warm import Cost, estimate
from edgewise.cli.wire import call

SAMPLE = 20


def estimated(bodies: list[dict[str, Any]]) -> Cost:
    """From dry runs of a sample, spread evenly over the list."""
    step = max(1, len(bodies) // SAMPLE)
    sample = bodies[::step][:SAMPLE]
    told = [call("POST", "/v1/chat/completions", {**body, "routing": {"dry_run": True}}) for body in sample]
    return estimate(len(bodies), told)


def say_cost(cost: Cost, *, aside: bool, what: str = "requests") -> None:
    """One line for people. aside: on standard error, since what is printed is somebody's JSON."""
    expected = "unknown" if cost.expected_usd is None else f"${cost.expected_usd:.4f}"
    worst = "unknown" if cost.worst_usd is None else f"${cost.worst_usd:.4f}"
    cached = f"; {cost.cached} of the sample are cached already" if cost.cached else ""
    typer.echo(
        f"{cost.requests} {what}, about {expected}, at the most {worst} (from a sample of {cost.sampled}{cached}).",
        err=aside,
    )
