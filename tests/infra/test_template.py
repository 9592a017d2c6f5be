"""What would be deployed, read from the templates after SAM's own transform."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgewise.api.frame import CLIENT, ORIGIN
from edgewise.jobs.room import Options
from edgewise.local.serve import declared, job_source
from edgewise.local.template import load
from edgewise.settings import Settings
from tests.functions.conftest import function  # noqa: F401  (a fixture)
from tests.infra.conftest import ROOT, Resources

# Names in the environment that are not ours to read.
PLATFORM = {"AWS_LAMBDA_EXEC_WRAPPER", "OPENBLAS_NUM_THREADS", "PYDANTIC_DISABLE_PLUGINS"}

# What the template gives every function; nothing is reached when a module is imported.
STORED = {
    "cache_table": "cache",
    "state_table": "state",
    "bucket": "bucket",
    "jobs_queue_url": "https://sqs.invalid/jobs",
    "dead_letter_queue_url": "https://sqs.invalid/dead",
    "local_aws_url": "http://127.0.0.1:9",
}


def of_type(resources: Resources, kind: str) -> dict[str, dict[str, Any]]:
    return {name: found for name, found in resources.items() if found["Type"] == kind}


def words(value: Any) -> Iterator[str]:
    """Every string in a value, either branch of an !If included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words(inner)


def test_the_url_targets_the_alias_and_streams(resources: Resources) -> None:
    ((_, url),) = of_type(resources, "AWS::Lambda::Url").items()
    properties = url["Properties"]
    alias = properties["TargetFunctionArn"]["Ref"]
    assert resources[alias]["Type"] == "AWS::Lambda::Alias" and resources[alias]["Properties"]["Name"] == "live"
    assert properties["AuthType"] == "NONE"
    assert properties["InvokeMode"] == {"Fn::If": ["Streams", "RESPONSE_STREAM", "BUFFERED"]}


def test_both_permissions_that_a_function_url_needs_are_there(resources: Resources) -> None:
    """Since October 2025 one of them alone makes every call a 403."""
    found = {
        permission["Properties"]["Action"]: permission["Properties"]
        for permission in of_type(resources, "AWS::Lambda::Permission").values()
    }
    assert set(found) == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    assert found["lambda:InvokeFunctionUrl"]["FunctionUrlAuthType"] == "NONE"
    assert found["lambda:InvokeFunction"]["InvokedViaFunctionUrl"] is True
    assert all(properties["Principal"] == "*" for properties in found.values())


def test_every_function_runs_on_arm_with_the_layer_and_keeps_its_logs_for_a_while(resources: Resources) -> None:
    functions = of_type(resources, "AWS::Lambda::Function")
    assert set(functions) == {"GatewayFunction", "WorkerFunction", "UpkeepFunction"}
    for found in functions.values():
        properties = found["Properties"]
        assert (properties["Runtime"], properties["Architectures"]) == ("python3.13", ["arm64"])
        layer = resources[properties["Layers"][0]["Ref"]]
        assert layer["Type"] == "AWS::Lambda::LayerVersion" and "Condition" not in layer
        assert resources[properties["LoggingConfig"]["LogGroup"]["Ref"]]["Properties"]["RetentionInDays"]


def test_the_weights_come_along_only_where_answers_are_matched_by_meaning(
    resources: Resources, source: dict[str, Any]
) -> None:
    for found in of_type(resources, "AWS::Lambda::Function").values():
        _, layer = found["Properties"]["Layers"]
        condition, then, otherwise = layer["Fn::If"]
        assert (condition, otherwise) == ("HasMeaning", {"Ref": "AWS::NoValue"})
        # The transform gives a layer's version a name of its own; the reference has to follow.
        meaning = resources[then["Ref"]]
        assert (meaning["Type"], meaning["Condition"]) == ("AWS::Lambda::LayerVersion", "HasMeaning")
    wants = source["Conditions"]["HasMeaning"]["Fn::Or"]
    assert [tuple(want["Fn::Equals"]) for want in wants] == [
        ({"Ref": "CacheMode"}, "semantic"),
        ({"Ref": "Meaning"}, "true"),
    ]
    assert source["Parameters"]["CacheMode"]["Default"] == "exact"
    assert source["Parameters"]["Meaning"]["Default"] == "false"


def test_snapstart_and_the_wrapper_follow_their_parameters(resources: Resources) -> None:
    gateway = resources["GatewayFunction"]["Properties"]
    assert gateway["SnapStart"] == {"ApplyOn": {"Fn::If": ["Snaps", "PublishedVersions", "None"]}}
    wrapper = gateway["Environment"]["Variables"]["AWS_LAMBDA_EXEC_WRAPPER"]["Fn::If"]
    assert wrapper[:2] == ["Streams", "/var/task/run"]
    assert os.access(ROOT / "functions/gateway/run", os.X_OK)


@pytest.mark.parametrize("logical", ["GatewayFunction", "WorkerFunction", "UpkeepFunction"])
def test_every_handler_path_imports(
    logical: str,
    source: dict[str, Any],
    function: Callable[..., ModuleType],  # noqa: F811
) -> None:
    properties = source["Resources"][logical]["Properties"]
    handlers = [word for word in words(properties["Handler"]) if "." in word]
    assert handlers
    for handler in handlers:
        module, _, attribute = handler.rpartition(".")
        folder = properties["CodeUri"].removeprefix("functions/")
        loaded = function(f"{folder}/{module}", **STORED)
        assert callable(getattr(loaded, attribute))


def test_every_name_in_the_environment_is_a_setting(resources: Resources) -> None:
    for found in of_type(resources, "AWS::Lambda::Function").values():
        names = set(found["Properties"]["Environment"]["Variables"])
        assert names - PLATFORM <= Settings.names()


def test_the_queue_outlasts_the_worker_and_buries_what_keeps_failing(resources: Resources) -> None:
    queue, worker = resources["JobsQueue"]["Properties"], resources["WorkerFunction"]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * worker["Timeout"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": "JobsDeadLetterQueue.Arn"}
    ((_, mapping),) = of_type(resources, "AWS::Lambda::EventSourceMapping").items()
    assert mapping["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["Properties"]["ScalingConfig"]["MaximumConcurrency"] == {"Ref": "JobsConcurrency"}


def test_the_gateway_may_take_longer_than_the_longest_request(resources: Resources) -> None:
    assert resources["GatewayFunction"]["Properties"]["Timeout"] > Settings().deadline_s


def test_no_policy_allows_every_action_or_every_resource(resources: Resources) -> None:
    for name, policy in of_type(resources, "AWS::IAM::ManagedPolicy").items():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            assert not [action for action in actions if "*" in action], name
            if actions != ["bedrock:ListModelInvocationJobs"]:  # it takes no resource
                assert "*" not in list(words(statement["Resource"])), name
            assert not any(re.search(r"(Create|Delete|Update)(Table|Bucket|Queue)", action) for action in actions)


def test_both_tables_forget_and_neither_is_provisioned() -> None:
    tables = of_type(load(ROOT / "infra/data.yaml")["Resources"], "AWS::DynamoDB::Table")
    assert set(tables) == {"CacheTable", "StateTable"}
    for table in tables.values():
        assert table["Properties"]["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
        assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"


def test_each_environment_of_samconfig_fits_the_template(source: dict[str, Any], samconfig: dict[str, Any]) -> None:
    """`sam deploy --config-env X` knows its region, and every override is a parameter with an allowed value."""
    environments = {name: found for name, found in samconfig.items() if isinstance(found, dict)}
    assert {"default", "prod-use1", "prod-euw1"} <= set(environments)
    regions = {name: found["global"]["parameters"]["region"] for name, found in environments.items()}
    assert regions["prod-use1"] != regions["prod-euw1"]
    for found in environments.values():
        for override in found["deploy"]["parameters"]["parameter_overrides"].split():
            name, _, value = override.partition("=")
            assert value in [str(v) for v in source["Parameters"][name].get("AllowedValues", [value])]


def test_nested_stacks_are_given_what_they_ask_for_and_asked_for_what_they_give(source: dict[str, Any]) -> None:
    nested = of_type(source["Resources"], "AWS::CloudFormation::Stack")
    told = json.dumps(source)
    for name, stack in nested.items():
        inner = load(ROOT / stack["Properties"]["TemplateURL"])
        given = set(stack["Properties"].get("Parameters", {}))
        needed = {key for key, value in inner["Parameters"].items() if "Default" not in value}
        assert needed <= given <= set(inner["Parameters"]), name
        for output in re.findall(rf"{name}\.Outputs\.(\w+)", told):
            assert output in inner["Outputs"], f"{name}.{output}"


def pinned(name: str) -> dict[str, str]:
    """Versions by canonical name, of a requirements file of the layers."""
    from packaging.utils import canonicalize_name

    lines = (ROOT / "shared" / name).read_text(encoding="utf-8").splitlines()
    return {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if line and not line.startswith("#"))
    }


def test_what_the_layers_pin_is_what_the_package_asks_for() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    main, meaning = pinned("requirements.txt"), pinned("requirements-meaning.txt")
    for pins, wishes in (
        (main, project["dependencies"]),
        (meaning, project["optional-dependencies"]["semantic"]),
    ):
        for wanted in map(Requirement, wishes):
            assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted
    assert not set(main) & set(meaning), "layers are laid over each other"


def test_whatever_the_layers_ship_is_accounted_for() -> None:
    told = (ROOT / "docs/decisions/0001-dependencies.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[a-z0-9-]+", "".join(line for line in told.splitlines() if line.startswith("|"))))
    assert set(pinned("requirements.txt")) | set(pinned("requirements-meaning.txt")) <= named


def layer_builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_layer", ROOT / "shared/build_layer.py")
    assert spec is not None and spec.loader is not None
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    return builder


def test_the_layer_keeps_the_model_of_every_service_that_the_package_calls() -> None:
    """boto3 without a service's model fails at the first call, which no other test would see."""
    builder = layer_builder()
    called: set[str] = set()
    for path in (ROOT / "shared/edgewise").rglob("*.py"):
        if path.relative_to(ROOT / "shared/edgewise").parts[0] not in builder.LEFT_OUT:
            text = path.read_text(encoding="utf-8")
            called |= set(re.findall(r"""(?:\.call|\.client|\.stream)\(\s*"([a-z0-9-]+)"[,)]""", text))
            called |= set(re.findall(r"""^_?SERVICE = "([a-z0-9-]+)"$""", text, re.MULTILINE))
    assert {"dynamodb", "s3", "sqs", "secretsmanager", "bedrock-runtime"} <= called <= builder.SERVICES


@pytest.mark.parametrize("meaning", [False, True])
def test_each_layer_is_made_of_its_own_requirements(
    meaning: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The weights bring no numpy: a second one would lie over the first."""
    builder, ran = layer_builder(), []
    monkeypatch.setattr(builder, "interpreter", lambda: "python")
    monkeypatch.setattr(builder, "prune", lambda target: None)
    monkeypatch.setattr(builder.subprocess, "run", lambda command, **_: ran.append(command))
    builder.main(tmp_path, meaning=meaning)
    install, compiled = ran
    wanted = "requirements-meaning.txt" if meaning else "requirements.txt"
    assert install[-2:] == ["-r", str(ROOT / "shared" / wanted)] and ("--no-deps" in install) is meaning
    assert "unchecked-hash" in compiled
    assert (tmp_path / "python" / "edgewise").exists() is not meaning


def test_a_batch_knows_how_many_workers_there_are(source: dict[str, Any], resources: Resources) -> None:
    """It keeps three of four busy; what holds where nothing is said is what the template says."""
    variables = resources["WorkerFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["EDGEWISE_JOBS_WORKERS"] == {"Ref": "JobsConcurrency"}
    assert job_source()[1] == Settings().jobs_workers == source["Parameters"]["JobsConcurrency"]["Default"]
    assert Options().window_chunks == Settings().jobs_workers * 3 // 4


def test_bedrock_gets_a_role_for_batches_that_reaches_nothing_but_them(resources: Resources) -> None:
    """Only Bedrock may take it, from this account's jobs, and only the functions that submit may hand it over."""
    role = resources["BedrockBatchRole"]
    assert role["Condition"] == resources["BedrockBatchPolicy"]["Condition"] == "HasBedrockBatches"
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "bedrock.amazonaws.com"} and set(trust["Condition"]) == {
        "StringEquals", "ArnEquals",
    }  # fmt: skip
    (granted,) = role["Properties"]["Policies"]
    objects = granted["PolicyDocument"]["Statement"][0]
    assert objects["Resource"] == {"Fn::Sub": "${Storage.Outputs.BucketArn}/batches/*"}
    passing = [s for s in resources["BedrockBatchPolicy"]["Properties"]["PolicyDocument"]["Statement"]
               if s["Action"] == "iam:PassRole"]  # fmt: skip
    assert [statement["Resource"] for statement in passing] == [{"Fn::GetAtt": "BedrockBatchRole.Arn"}]
    users = {name for name in ("GatewayFunction", "WorkerFunction", "UpkeepFunction")
             if "BedrockBatchPolicy" in json.dumps(resources[f"{name}Role"])}  # fmt: skip
    assert users == {"WorkerFunction", "UpkeepFunction"}


def test_the_layer_says_what_is_missing_when_there_is_no_interpreter_of_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    builder = layer_builder()
    monkeypatch.setattr(builder, "VERSION", "3.99")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no Python 3\.99 was found"):
        builder.interpreter()


def test_the_loopback_lambda_runs_the_functions_as_the_template_has_them() -> None:
    gateway = declared("GatewayFunction", {"A": "b"}, concurrency=3)
    assert gateway.handler == "app.app" and gateway.command[0].endswith("functions/gateway/run")
    assert (gateway.timeout_s, gateway.concurrency, gateway.environ["A"]) == (630, 3, "b")
    assert gateway.environ["PYDANTIC_DISABLE_PLUGINS"] == "__all__" and "EDGEWISE_BUCKET" not in gateway.environ
    worker = declared("WorkerFunction", {}, concurrency=2)
    assert worker.command[1:] == ("-m", "awslambdaric", "handler.handler") and worker.folder.name == "worker"


def test_whatever_stands_in_front_says_whose_request_it_brings() -> None:
    """By names that the frame reads; what a client says of itself is overwritten."""
    resources = load(ROOT / "infra" / "edge.yaml")["Resources"]
    distribution = resources["Distribution"]["Properties"]["DistributionConfig"]
    (header,) = distribution["Origins"][0]["OriginCustomHeaders"]
    assert header["HeaderName"] == ORIGIN.decode()
    (associated,) = distribution["DefaultCacheBehavior"]["FunctionAssociations"]
    assert associated["EventType"] == "viewer-request"
    code = resources["Client"]["Properties"]["FunctionCode"]
    assert f'headers["{CLIENT.decode()}"] = {{value: event.viewer.ip}}' in code
    for method in ("AnyPath", "RootPath"):
        mapped = resources[method]["Properties"]["Integration"]["RequestParameters"]
        assert mapped[f"integration.request.header.{CLIENT.decode()}"] == "context.identity.sourceIp"
        assert f"integration.request.header.{ORIGIN.decode()}" in mapped
