"""Workers are killed at random moments; every line is answered once, counted once and billed once."""

from __future__ import annotations

import asyncio

import pytest

from edgewise.aws import Aws, Table
from edgewise.local import template
from tests.jobs.chaos import Chaos
from tests.jobs.stack import Places


@pytest.mark.parametrize(
    ("lines", "kills"),
    [(40, 4), pytest.param(2000, 200, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
)
def test_killed_workers_lose_count_and_bill_nothing_twice(
    moto_aws: Aws, moto_url: str, state_table: Table, bucket: str, lines: int, kills: int
) -> None:
    """SIGKILL at random moments, every message twice, 5 % upstream errors, DynamoDB throttled and forgetful."""
    queue, dead = asyncio.run(template.create_queues(moto_aws, f"mortal-{lines}", visibility_s=3))
    chaos = Chaos(moto_aws, moto_url, Places(state_table.name, bucket, queue, dead), lines, kills)
    outcome = asyncio.run(chaos.run())
    assert outcome.kills >= kills
    print(outcome)
