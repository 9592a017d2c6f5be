"""The page at `/`: small, from nowhere else, and readable by everybody."""

from __future__ import annotations

import gzip
import itertools
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette

from edgewise.api import page
from tests.api.client import Client

FOLDER = Path(page.__file__).parents[1] / "console"
TEXTS = {path.name: path.read_text() for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".js")}
MOST_BYTES = 12_000
"""Gzipped, all of it."""


def client() -> Client:
    return Client(Starlette(routes=page.routes()))


async def test_every_file_is_served_under_a_policy_that_lets_in_nothing_else() -> None:
    assert {name for name, _ in page._FILES.values()} == TEXTS.keys()
    for path, (name, kind) in page._FILES.items():
        got = await client().ask("GET", path)
        assert (got.status, got.headers["content-type"], got.body.decode()) == (200, kind, TEXTS[name])
        assert got.headers["content-security-policy"].startswith("default-src 'self'")


def test_nothing_comes_from_elsewhere_and_it_is_small() -> None:
    for name, text in TEXTS.items():
        assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}, name
    # A policy without 'unsafe-inline' ignores these.
    assert not re.search(r"\sstyle=|\son\w+=|<script(?![^>]*src)|<style", TEXTS["index.html"])
    assert len(gzip.compress("".join(TEXTS.values()).encode())) < MOST_BYTES


def test_what_the_programs_look_for_is_on_the_page() -> None:
    ids = set(re.findall(r'\bid="([\w-]+)"', TEXTS["index.html"]))
    for name in ("console.js", "activity.js"):
        assert set(re.findall(r'\bat\("([\w-]+)"\)', TEXTS[name])) <= ids, name
    for reference in re.findall(r'(?:for|list|aria-labelledby|aria-describedby)="([\w-]+)"', TEXTS["index.html"]):
        assert reference in ids


def test_every_field_has_a_label() -> None:
    html = TEXTS["index.html"]
    labelled = set(re.findall(r'<label for="(\w+)"', html))
    for field in re.findall(r'<(?:input|textarea|select)[^>]*\bid="(\w+)"', html):
        assert field in labelled or re.search(rf'<label[^>]*>[^<]*<\w+[^>]*\bid="{field}"', html), field


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(scheme: str) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1; 1.4.11 for a border or a bar: 3 to 1."""
    light, dark = re.findall(r":root \{([^}]*)\}", TEXTS["console.css"])
    colours = dict(re.findall(r"--(\w+): (#\w{6})", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--(\w+): (#\w{6})", dark))
    for front, back in itertools.product(("ink", "soft", "mark", "hit", "bad"), ("paper", "block")):
        assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
    assert contrast(colours["paper"], colours["mark"]) >= 4.5, "a button's text"
    assert contrast(colours["line"], colours["paper"]) >= 3


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours, 1 to 21."""
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
