"""Whole gateways, in processes of their own, share one call."""

from __future__ import annotations

import argparse

import pytest
from bench.stampede import measure


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kill", "most"), [(1, False, 1), (4, False, 1), (4, True, 2)])
async def test_a_hundred_askers_one_call(processes: int, kill: bool, most: int) -> None:
    """In one process and across four exactly one; when the leader is killed at its call, at most one more."""
    options = argparse.Namespace(tables="moto", processes=processes, requests=100, seconds=1.0, lease=3.0, kill=kill)
    found = await measure(options)
    assert 1 <= found["upstream_calls"] <= most
    lost = 100 // processes if kill else 0
    assert found["outcomes"].get("hit", 0) + found["outcomes"].get("miss", 0) >= 100 - lost
