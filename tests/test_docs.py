"""What the README and the guides name is there: settings, verbs, parameters, files; their JSON is what is taken."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from edgewise.cache.freshness import Standing
from edgewise.cache.semantic.serving import WITHHELD
from edgewise.cli.main import VERBS
from edgewise.policy.terms import Terms
from edgewise.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
OUTSIDE = {"EDGEWISE_URL", "EDGEWISE_KEY"}
"""Names of the command line's own."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pages
def test_every_setting_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"EDGEWISE_[A-Z_]+[A-Z]", page.read_text()))
    assert named - Settings.names() - OUTSIDE == set()


@pages
def test_every_verb_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"(?<!from )\bedgewise ([a-z]+)\b(?= |`|\n)", "\n".join(commands(page))))
    assert named - VERBS.keys() - {"bench"} == set()


@pages
def test_every_target_of_make_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", page.read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {a or b for a, b in named} <= targets


@pages
def test_every_file_that_is_linked_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pages
def test_every_benchmark_that_is_named_is_there(page: Path) -> None:
    for name in re.findall(r"edgewise bench ([a-z]+)", page.read_text()):
        assert (ROOT / "bench" / f"{name}.py").exists(), name


def test_the_parameters_that_the_guide_lists_are_the_templates() -> None:
    told = (ROOT / "docs" / "guides" / "deploying.md").read_text()
    rows = [line.split("|")[1] for line in told.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named <= set(_parameters())


def test_the_terms_that_the_guide_shows_are_taken() -> None:
    told = (ROOT / "docs" / "guides" / "keys.md").read_text()
    (shown,) = re.findall(r"```json\n(.*?)```", told, re.DOTALL)
    assert Terms.model_validate(json.loads(shown)).repair_json


def test_the_guide_explains_every_reason_of_a_miss_and_no_other() -> None:
    told = (ROOT / "docs" / "guides" / "cache.md").read_text()
    tables = re.findall(r"^\| miss \| why \|\n(?:\|.*\n)+", told, re.MULTILINE)
    rows = [line.split("|")[1] for table in tables for line in table.splitlines()[2:]]
    assert sorted(name for row in rows for name in re.findall(r"`([^`]+)`", row)) == sorted(_miss_reasons())


def _miss_reasons() -> set[str]:
    """What the code can say: the words in `Miss(…)` and `reason=…`, those that the lookups by meaning return, and what
    an entry's age and an account make of it."""
    aged = set(get_args(Standing)) - {"fresh", "fallback"}
    found = {*WITHHELD, *aged}
    package = ROOT / "shared" / "edgewise"
    for path in [*(package / "cache").rglob("*.py"), package / "assemble" / "meaning.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name("Miss"), args=[reason, *_]):
                    found |= _words(reason)
                case ast.Call(func=ast.Name("replace")):
                    found |= _words(*(named.value for named in node.keywords if named.arg == "reason"))
                case ast.FunctionDef("find" | "_decide" | "_bypass") | ast.AsyncFunctionDef("find" | "_decide"):
                    found |= _words(
                        *(told.value for told in ast.walk(node) if isinstance(told, ast.Return) and told.value)
                    )
    prefixes = {word for word in found if word.endswith("-")}
    return (found - prefixes) | {prefix + word for prefix in prefixes for word in {*aged, "purged"}}


def _words(*places: ast.expr) -> set[str]:
    """The texts that stand there as values: not those that something is compared with or looked up by."""
    found: set[str] = set()
    for place in places:
        match place:
            case ast.Constant(value=str(word)) if word:
                found.add(word)
            case ast.IfExp(body=yes, orelse=no):
                found |= _words(yes, no)
            case ast.BoolOp(values=values):
                found |= _words(*values)
            case ast.BinOp(left=left, right=right):
                found |= _words(left, right)
    return found


def commands(page: Path) -> list[str]:
    """What a reader would type: indented lines, and what stands between backticks."""
    text = page.read_text()
    return [*re.findall(r"^    (.*)$", text, re.MULTILINE), *re.findall(r"`([^`\n]+)`", text)]


def _parameters() -> list[str]:
    class Loose(yaml.SafeLoader):
        """CloudFormation's tags are of no interest here."""

    Loose.add_multi_constructor("!", lambda loader, suffix, node: None)
    found: list[str] = list(yaml.load((ROOT / "template.yaml").read_text(), Loose)["Parameters"])
    return found
