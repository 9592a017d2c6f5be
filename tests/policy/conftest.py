"""Fixtures of the policy room."""

from __future__ import annotations

import asyncio

import pytest

from edgewise.aws import Aws, Table
from edgewise.local import template
from tests.policy.rig import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(scope="module")
def state_of_tills(moto_aws: Aws) -> Table:
    """A table for a whole module: examples of a property keep apart by their keys."""
    asyncio.run(template.create_table(moto_aws, "StateTable", "state-tills"))
    return Table(moto_aws, "state-tills")
