"""What the tables' seam calls is granted: no stand-in checks permissions, so a missing one shows only when deployed."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from edgewise.cache.semantic.vectors import definition
from edgewise.local.template import load
from edgewise.query.embed.minilm import MiniLm
from edgewise.query.embed.multilingual import Multilingual
from tests.infra.conftest import ROOT

_CALL = re.compile(r'"dynamodb",\s*"([a-z_]+)"')
IMPLIED = {"TransactWriteItems": {"ConditionCheckItem", "PutItem", "UpdateItem", "DeleteItem"}}
"""A transaction has no action of its own: its parts are what is granted."""


def test_a_search_by_vector_is_granted_on_the_indexes_that_are_made_and_searched() -> None:
    """Their definitions are the code's, their attribute is defined, and the functions are told of them."""
    data, main = load(ROOT / "infra" / "data.yaml"), load(ROOT / "template.yaml")
    table = data["Resources"]["CacheTable"]["Properties"]
    condition, indexes, _ = table["VectorIndexes"]["Fn::If"]
    assert indexes == [definition(dim) for dim in (MiniLm.dim, Multilingual.dim)]
    defined = [each["Fn::If"] for each in table["AttributeDefinitions"] if "Fn::If" in each]
    assert [(each[0], each[1]["AttributeName"]) for each in defined] == [(condition, "partition")]
    policy = main["Resources"]["RoomsPolicy"]["Properties"]["PolicyDocument"]
    (vectors,) = [s for s in policy["Statement"] if s["Sid"] == "Vectors"]
    assert vectors["Action"] == "dynamodb:SearchVectors"
    granted = vectors["Resource"]["Fn::Sub"].rpartition("/")[2]
    assert all(fnmatchcase(index["IndexName"], granted) for index in indexes)
    assert main["Resources"]["Storage"]["Properties"]["Parameters"]["VectorIndexes"] == {"Ref": "VectorIndexes"}


def test_every_operation_on_a_table_is_granted() -> None:
    """Read from the seam's source; the rooms' adapters go through it."""
    source = (ROOT / "shared" / "edgewise" / "aws.py").read_text(encoding="utf-8")
    called = {"".join(word.title() for word in name.split("_")) for name in _CALL.findall(source)}
    assert len(called) >= 8
    wanted = set().union(*(IMPLIED.get(name, {name}) for name in called))
    policy = load(ROOT / "template.yaml")["Resources"]["RoomsPolicy"]["Properties"]["PolicyDocument"]
    (tables,) = [s for s in policy["Statement"] if s["Sid"] == "Tables"]
    assert wanted <= {action.removeprefix("dynamodb:") for action in tables["Action"]}
