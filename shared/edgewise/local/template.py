"""Tables, bucket and queues on a local stand-in, made from the deployment's own templates.

What runs on a laptop and under test has the keys and indexes that `infra/data.yaml` says, read from that file, so
the two cannot drift apart. Needs a checkout: the installed package does not carry the templates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgewise.aws import Aws, AwsError

CHECKOUT = Path(__file__).resolve().parents[3]
_TABLE_KEYS = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")


def load(path: Path) -> dict[str, Any]:
    """A CloudFormation template as plain values; `!Ref X` and its kin become `{"Ref": …}`-like dicts."""
    import yaml

    class Loader(yaml.SafeLoader):
        """SafeLoader that keeps CloudFormation's short tags instead of failing on them."""

    def short_tag(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            value: Any = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        else:
            value = loader.construct_mapping(node, deep=True)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}

    Loader.add_multi_constructor("!", short_tag)
    with path.open(encoding="utf-8") as file:
        template: dict[str, Any] = yaml.load(file, Loader)  # noqa: S506 - a subclass of SafeLoader
    return template


async def create_table(aws: Aws, logical: str, name: str) -> None:
    """The table `logical` of infra/data.yaml under `name`; nothing happens if it is there."""
    found = load(CHECKOUT / "infra" / "data.yaml")["Resources"][logical]["Properties"]
    wanted = {key: unconditional(found[key]) for key in _TABLE_KEYS if key in found}
    try:
        await aws.call("dynamodb", "create_table", TableName=name, **wanted)
    except AwsError as error:
        if error.code != "ResourceInUseException":
            raise
        return
    ttl = found["TimeToLiveSpecification"]
    try:
        await aws.call("dynamodb", "update_time_to_live", TableName=name, TimeToLiveSpecification=ttl)
    except AwsError as error:
        # Some stand-ins have no TTL; reads check the time themselves, always.
        if error.code not in ("UnknownOperationException", "ValidationException"):
            raise


def unconditional(value: Any) -> Any:
    """`value` where no condition holds: a stand-in has none of what a deployment may ask for beyond the default."""
    if isinstance(value, list):
        kept = [unconditional(item) for item in value]
        return [item for item in kept if item != {"Ref": "AWS::NoValue"}]
    if isinstance(value, dict):
        if "Fn::If" in value:
            return unconditional(value["Fn::If"][2])
        return {name: unconditional(item) for name, item in value.items()}
    return value


async def create_bucket(aws: Aws, name: str) -> None:
    """An empty bucket; nothing happens if it is there."""
    try:
        await aws.call("s3", "create_bucket", Bucket=name)
    except AwsError as error:
        if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise


async def create_queues(aws: Aws, name: str, *, visibility_s: int = 30, tries: int = 5) -> tuple[str, str]:
    """A queue and its dead-letter queue; their URLs, in that order."""
    dead = (await aws.call("sqs", "create_queue", QueueName=f"{name}-dead"))["QueueUrl"]
    found = await aws.call("sqs", "get_queue_attributes", QueueUrl=dead, AttributeNames=["QueueArn"])
    redrive = f'{{"deadLetterTargetArn":"{found["Attributes"]["QueueArn"]}","maxReceiveCount":"{tries}"}}'
    made = await aws.call(
        "sqs",
        "create_queue",
        QueueName=name,
        Attributes={"VisibilityTimeout": str(visibility_s), "RedrivePolicy": redrive},
    )
    return str(made["QueueUrl"]), str(dead)
