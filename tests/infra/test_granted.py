"""What the tables' seam calls is granted: no stand-in checks permissions, so a missing one shows only when deployed."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from edgewise.cache.semantic.vectors import definition
from edgewise.local.template import load
from edgewise.query.embed.minilm import MiniLm
from edgewise.query.embed.multilingual import Multilingual
from tests.infra.conftest import ROOT

_CALL = re.compile(r'"(dynamodb|s3|sqs|secretsmanager)",\s*"(?!secretsmanager)([a-z_]+)"')
_BATCHED = re.compile(r'self\._rounds\("([a-z_]+)"')
_BEDROCK = re.compile(r'(?:client\(_SERVICE\)\.|"bedrock-runtime",\s*"|self\._call\(\s*")([a-z_]+)')
IMPLIED = {
    "TransactWriteItems": {"ConditionCheckItem", "PutItem", "UpdateItem", "DeleteItem"},
    "CreateMultipartUpload": {"PutObject"},
    "UploadPart": {"PutObject"},
    "CompleteMultipartUpload": {"PutObject"},
    "HeadObject": {"GetObject"},
    "Converse": {"InvokeModel"},
    "ConverseStream": {"InvokeModelWithResponseStream"},
}
"""Operations that have no action of their own."""
BESIDES = {"s3:ListBucket", "iam:PassRole"}
"""Called by nobody: what makes an absent object a 404, and what starting Bedrock's batches asks for."""


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


def called() -> set[str]:
    """Every operation that the package calls on AWS, as the action that IAM asks for."""
    found: set[str] = set()
    for file in (ROOT / "shared" / "edgewise").rglob("*.py"):
        if "local" not in file.parts:
            source = file.read_text(encoding="utf-8")
            operations = _CALL.findall(source) + [("dynamodb", name) for name in _BATCHED.findall(source)]
            if file.name == "bedrock.py":
                operations += [("bedrock", name) for name in _BEDROCK.findall(source)]
            for service, operation in operations:
                action = "".join(word.title() for word in operation.split("_"))
                found |= {f"{service}:{each}" for each in IMPLIED.get(action, {action})}
    return found


def granted(*policies: str) -> set[str]:
    resources = load(ROOT / "template.yaml")["Resources"]
    statements = [s for name in policies for s in resources[name]["Properties"]["PolicyDocument"]["Statement"]]
    actions = [each["Action"] for each in statements]
    return {a for each in actions for a in (each if isinstance(each, list) else [each])}


def test_what_the_package_calls_is_granted_and_nothing_else() -> None:
    """Read from its source: only the adapters call AWS."""
    allowed = granted("RoomsPolicy", "BedrockPolicy", "BedrockBatchPolicy")
    assert len(called()) > 20
    assert called() - allowed == set()
    assert allowed - called() == BESIDES
