"""What `make build` makes, from a copy of the checkout's sources."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgewise.local.template import load
from tests.infra.conftest import ROOT

BUILD = ROOT / ".aws-sam" / "build"
MAX_BYTES = 130_000_000
HASHED_UNCHECKED = (1).to_bytes(4, "little")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built() -> Path:
    done = subprocess.run(["make", "build"], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return BUILD


def test_layer_and_function_together_are_small_enough(built: Path) -> None:
    for function in ("GatewayFunction", "WorkerFunction", "UpkeepFunction"):
        files = [path for part in ("EdgewiseLayer", function) for path in (built / part).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < MAX_BYTES


def test_every_source_ships_bytecode_that_nobody_checks_again(built: Path) -> None:
    """Lambda's layer folder is read-only: what is not compiled here is compiled at every cold start."""
    sources = list((built / "EdgewiseLayer" / "python").rglob("*.py"))
    assert len(sources) > 500
    missing, checked = [], []
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
        if not compiled.exists():
            missing.append(source)
        elif compiled.read_bytes()[4:8] != HASHED_UNCHECKED:
            checked.append(source)
    assert (missing, checked) == ([], [])


def test_native_parts_are_for_the_functions_machine(built: Path) -> None:
    """ELF's machine field: 183 is AArch64."""
    libraries = [*(built / "EdgewiseLayer").rglob("*.so"), *(built / "EdgewiseLayer").rglob("*.so.*")]
    assert libraries
    assert [path for path in libraries if int.from_bytes(path.read_bytes()[18:20], "little") != 183] == []


def test_the_laptops_parts_stay_on_the_laptop(built: Path) -> None:
    package = built / "EdgewiseLayer" / "python" / "edgewise"
    assert (package / "flow.py").exists() and not (package / "local").exists() and not (package / "cli").exists()


def test_the_built_template_points_at_what_was_built(built: Path) -> None:
    resources = load(built / "template.yaml")["Resources"]
    for name, handlers in {
        "GatewayFunction": ("app.py", "buffered.py", "run"),
        "WorkerFunction": ("handler.py",),
        "UpkeepFunction": ("handler.py",),
    }.items():
        folder = built / resources[name]["Properties"]["CodeUri"]
        assert sorted(path.name for path in folder.iterdir()) == sorted(handlers)
    assert resources["GatewayFunction"]["Properties"]["AutoPublishAlias"] == "live"
    assert (built / resources["EdgewiseLayer"]["Properties"]["ContentUri"] / "python").is_dir()
