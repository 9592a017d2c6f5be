"""The templates as files, and as CloudFormation sees them after SAM's transform."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgewise.local.template import load

ROOT = Path(__file__).resolve().parents[2]
Resources = dict[str, dict[str, Any]]


def transformed(path: Path) -> dict[str, Any]:
    """The template at `path` after SAM's own transform, with no account and no network."""
    from samtranslator.translator.transform import transform

    class Policies:
        def load(self) -> dict[str, str]:
            names = ("AWSLambdaBasicExecutionRole", "AWSLambdaSQSQueueExecutionRole")
            return {name: f"arn:aws:iam::aws:policy/service-role/{name}" for name in names}

    source = load(path)
    for resource in source["Resources"].values():
        # The translator wants code that has been uploaded.
        properties = resource.get("Properties", {})
        for name in ("CodeUri", "ContentUri"):
            if name in properties:
                properties[name] = f"s3://bucket/{Path(str(properties[name])).name}"
    # The translator asks boto3 for the region, and nothing else of it.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    result: dict[str, Any] = transform(source, {}, Policies(), feature_toggle=None, passthrough_metadata=False)
    return result


@pytest.fixture(scope="session")
def source() -> dict[str, Any]:
    return load(ROOT / "template.yaml")


@pytest.fixture(scope="session")
def resources() -> Resources:
    found: Resources = transformed(ROOT / "template.yaml")["Resources"]
    return found


@pytest.fixture(scope="session")
def samconfig() -> dict[str, Any]:
    return tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
