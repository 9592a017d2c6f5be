"""What the README and the guides name is there: settings, verbs, parameters, files; their JSON is what is taken."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

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
