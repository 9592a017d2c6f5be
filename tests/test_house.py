"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "shared" / "edgewise"
SOURCES = sorted(PACKAGE.rglob("*.py"))
BANNED = {"utils", "helpers", "common", "manager", "data", "info", "process"}
HEAVY = {"boto3", "botocore", "numpy", "aiohttp", "openai", "anthropic", "moto", "typer", "rich", "xllamacpp"}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in SOURCES if path.stem in BANNED] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_only_settings_and_entry_points_read_the_environment() -> None:
    """`os.environ` appears where a process starts, and in no room."""
    entries = {"runtime.py", "settings.py"}
    readers = [
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        if "os.environ" in path.read_text(encoding="utf-8")
        and path.name not in entries
        and path.relative_to(PACKAGE).parts[0] not in ("cli", "local")
    ]
    assert readers == []


def test_importing_the_corridor_and_its_rooms_imports_nothing_heavy() -> None:
    """A cold start pays for every import: SDKs, numpy and HTTP clients come when they are first used."""
    modules = ["edgewise.flow", "edgewise.assemble", "edgewise.aws", "edgewise.settings"]
    code = f"import sys, {', '.join(modules)}; import json; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert {name.partition(".")[0] for name in json.loads(found.stdout)} & HEAVY == set()


def test_the_rooms_do_not_import_each_other() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_every_event_is_replayed_by_a_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    assert [path.name for path in (ROOT / "events").glob("*.json") if path.stem not in tests] == []
