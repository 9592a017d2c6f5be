"""The functions that nobody waits for say what they did, by Powertools."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edgewise.record.powertools import observed
from edgewise.settings import Settings
from tests.functions.conftest import function  # noqa: F401

CONTEXT = SimpleNamespace(
    function_name="worker",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:worker",
    aws_request_id="request-1",
    get_remaining_time_in_millis=lambda: 60_000,
)
TWO = {"Records": [{"messageId": "1"}, {"messageId": "2"}]}


@pytest.fixture
def on_lambda(request: pytest.FixtureRequest) -> Settings:
    """A stage of its own for each test: Python's loggers, and the stream they write to, outlive a test."""
    return Settings(root_key="ew_root_of_a_test", function_name="worker", stage=request.node.name[-24:])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_invocation_is_one_line_and_its_metrics(on_lambda: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    handler = observed(lambda *_: {"batchItemFailures": [{"itemIdentifier": "2"}]}, on_lambda)
    assert handler(TWO, CONTEXT) == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    line, blob = lines(capsys)
    assert (line["function_request_id"], line["JobMessages"], line["JobMessagesBack"]) == ("request-1", 2, 1)
    assert (blob["JobMessages"], blob["JobMessagesBack"]) == ([2.0], [1.0])
    assert blob["service"] == f"edgewise-{on_lambda.stage}"
    assert blob["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]


def test_chores_are_counted(on_lambda: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    observed(lambda *_: {"batches": {"pushed": 1}, "learning": {}}, on_lambda)({}, CONTEXT)
    assert lines(capsys)[-1]["ChoresDone"] == [2.0]


def test_a_failure_is_named_and_says_nothing_of_its_text(
    on_lambda: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("sk-canary-of-a-secret")

    with pytest.raises(ValueError, match="canary"):
        observed(broken, on_lambda)(TWO, CONTEXT)
    told = lines(capsys)
    assert told[0]["error"] == "ValueError" and told[-1]["InvocationsFailed"] == [1.0]
    assert "canary" not in json.dumps(told)


def test_off_lambda_a_handler_is_as_it_was() -> None:
    def plain(*_: Any) -> Any:
        return None

    assert observed(plain, Settings(root_key="ew_root_of_a_test")) is plain


def test_the_upkeep_function_as_lambda_imports_it(
    function: Callable[..., ModuleType],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = function("upkeep/handler", metrics="emf")
    assert module.handler({"chores": []}, CONTEXT) == {}
    module.upkeep.close()
    assert lines(capsys)[-1]["ChoresDone"] == [0.0]
