"""What the tables' seam calls is granted: no stand-in checks permissions, so a missing one shows only when deployed."""

from __future__ import annotations

import re

from edgewise.local.template import load
from tests.infra.conftest import ROOT

_CALL = re.compile(r'"dynamodb",\s*"([a-z_]+)"')
IMPLIED = {"TransactWriteItems": {"ConditionCheckItem", "PutItem", "UpdateItem", "DeleteItem"}}
"""A transaction has no action of its own: its parts are what is granted."""


def test_every_operation_on_a_table_is_granted() -> None:
    """Read from the seam's source; the rooms' adapters go through it."""
    source = (ROOT / "shared" / "edgewise" / "aws.py").read_text(encoding="utf-8")
    called = {"".join(word.title() for word in name.split("_")) for name in _CALL.findall(source)}
    assert len(called) >= 8
    wanted = set().union(*(IMPLIED.get(name, {name}) for name in called))
    policy = load(ROOT / "template.yaml")["Resources"]["RoomsPolicy"]["Properties"]["PolicyDocument"]
    (tables,) = [s for s in policy["Statement"] if s["Sid"] == "Tables"]
    assert wanted <= {action.removeprefix("dynamodb:") for action in tables["Action"]}
