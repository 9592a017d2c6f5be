"""The stock `openai` Node client against the whole gateway: the same contract, read by other eyes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Gateway
from tests.upstream import CUTS

FOLDER = Path(__file__).parent / "node"


@pytest.fixture(scope="session")
def seen(edgewise_gateway: Gateway) -> Any:
    """What the client saw, all of it; see `node/drive.mjs`."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm is not installed")
    if not (FOLDER / "node_modules" / "openai").is_dir():
        subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--silent"], cwd=FOLDER, check=True, timeout=110)
    command = [node, "drive.mjs", f"{edgewise_gateway.url}/v1", edgewise_gateway.key]
    ran = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_answers_and_streams(seen: Any) -> None:
    assert seen["answer"] == "node answer"
    assert seen["stream"] == "node stream"
    assert seen["usage"] == [0, True]
    assert seen["tool"] == {"name": "weather", "arguments": '{"city": "Rome"}'}


def test_hits(seen: Any) -> None:
    assert seen["hit"] == ["hit", "node answer"]
    assert seen["replay"] == ["hit", "node stream"]


def test_the_other_routes(seen: Any) -> None:
    assert seen["models"] and seen["embedding"]
    assert seen["response"] == "node response"
    assert seen["events"] == "node events"


def test_errors_are_the_clients_own_classes(seen: Any) -> None:
    errors = seen["errors"]
    assert errors["type"] == {
        "class": "BadRequestError", "status": 400, "code": "invalid_type", "param": "messages[0].content",
    }  # fmt: skip
    assert (errors["model"]["class"], errors["model"]["code"]) == ("NotFoundError", "model_not_found")
    assert (errors["key"]["class"], errors["key"]["code"]) == ("AuthenticationError", "invalid_api_key")
    assert errors["large"]["status"] == 413
    assert errors["limit"]["class"] == "RateLimitError"


@pytest.mark.parametrize("point", CUTS)
def test_a_death_raises_every_time(seen: Any, point: str) -> None:
    assert seen["deaths"][point] == [True, True]
