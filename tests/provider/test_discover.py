"""Which providers join, by what the settings know."""

from __future__ import annotations

import sys

import pytest

from edgewise.aws import Aws
from edgewise.clock import FakeClock
from edgewise.provider.discover import discover
from edgewise.settings import Settings, Upstream


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"OPENAI_API_KEY": "k"}, ["openai"]),
        ({"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}, ["openai", "anthropic"]),
        ({"AWS_REGION": "eu-west-1"}, []),
        ({"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "k"}, ["bedrock"]),
        ({"AWS_REGION": "eu-west-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/"}, ["bedrock"]),
        ({"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "k", "EDGEWISE_BEDROCK": "false"}, []),
        ({"EDGEWISE_UPSTREAMS": '[{"name": "vllm", "base_url": "http://127.0.0.1:1/v1"}]'}, ["vllm"]),
        ({"EDGEWISE_LOCAL_MODEL": "true", "EDGEWISE_SCRIPTED_MODEL": "1"}, ["local", "scripted"]),
    ],
)
def test_a_provider_joins_when_its_credentials_are_known(environ: dict[str, str], names: list[str]) -> None:
    found = discover(Settings.from_env(environ), FakeClock(), Aws())
    assert list(found) == names
    assert all(name == provider.name for name, provider in found.items())


def test_an_upstream_serves_the_models_that_it_is_said_to() -> None:
    upstream = Upstream(name="ollama", base_url="http://127.0.0.1:1/v1", models=("a", "b"))
    found = discover(Settings(upstreams=(upstream,)), FakeClock(), Aws())
    assert [model.name for model in found["ollama"].models()] == ["ollama/a", "ollama/b"]


def test_nothing_heavy_is_imported_to_look() -> None:
    import subprocess

    code = (
        "import sys, edgewise.provider.discover as d;"
        "from edgewise.settings import Settings; from edgewise.aws import Aws; from edgewise.clock import SystemClock;"
        "d.discover(Settings(openai_api_key='k', bedrock=True, local_model=True), SystemClock(), Aws());"
        "print([m for m in ('aiohttp', 'boto3', 'numpy', 'xllamacpp', 'openai') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
