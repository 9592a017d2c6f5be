"""`edgewise settings`: every setting by the name it has in the environment, its default and what it is.

Read out of `edgewise/settings.py` as text, so that this list cannot differ from what the gateway reads.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated

import typer

from edgewise import settings as module
from edgewise.settings import FOREIGN, Settings

WITHHELD = "(set)"


@dataclass(frozen=True, slots=True)
class Row:
    """One setting. `value` is what the environment says; a secret's is not told."""

    name: str
    default: str
    value: str | None
    what: str


app = typer.Typer(add_completion=False)


@app.command()
def show(
    word: Annotated[str, typer.Argument(help="Only settings whose name has this in it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the settings."""
    found = [row for row in rows(os.environ) if word.lower() in row.name.lower()]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], indent=2))
        return
    if not found:
        typer.echo(f"edgewise: no setting has {word!r} in its name", err=True)
        raise typer.Exit(1)
    width = min(shutil.get_terminal_size().columns, 100)
    for row in found:
        here = f"  (default {row.default or 'none'})" if row.value else ""
        typer.echo(f"{row.name}={row.value or row.default}{here}")
        typer.echo(textwrap.fill(row.what, width, initial_indent="    ", subsequent_indent="    "))


def wrong(environ: Mapping[str, str]) -> str | None:
    """What no gateway would start with, said in a line; None when the settings are good."""
    from pydantic import ValidationError

    from edgewise.assemble.house import wrong_routing

    try:
        return wrong_routing(Settings.from_env(environ))
    except ValidationError as error:
        first = error.errors()[0]
        return f"the setting `{'.'.join(map(str, first['loc']))}`: {first['msg']}"
    except ValueError as error:
        return f"a setting that should be JSON is not: {error}"


def rows(environ: Mapping[str, str]) -> list[Row]:
    """Every setting in the order of the source."""
    told = _docstrings()
    return [
        Row(
            name := FOREIGN.get(field, f"EDGEWISE_{field.upper()}"),
            "" if of.default in (None, (), {}) else str(of.default),
            WITHHELD if not of.repr and environ.get(name) else environ.get(name),
            told.get(field, ""),
        )
        for field, of in Settings.model_fields.items()
    ]


def _docstrings() -> dict[str, str]:
    """Field to the text under it; pydantic could keep these, at the price of reading the source at every cold start."""
    tree = ast.parse(inspect.getsource(module))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    return {
        field.target.id: " ".join(inspect.cleandoc(text.value.value).split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
