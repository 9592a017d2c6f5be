"""`edgewise models`: correct what a running gateway knows of its models: prices, tiers, limits, who `auto` may pick.

Speaks HTTP to `EDGEWISE_URL` with the root key in `EDGEWISE_KEY`. A change reaches every process within a minute.
"""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from edgewise.cli.wire import call, object_of

app = typer.Typer(no_args_is_help=True, help="Correct prices and other facts of models.")

Name = Annotated[str, typer.Argument(help="`provider/id`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every change that is in force."""
    found = call("GET", "/admin/models")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for change in found["data"]:
        typer.echo(f"{change['model']}  {json.dumps(change['row'])}")


@app.command("set")
def set_(
    name: Name,
    price_in: Annotated[str | None, typer.Option(help="Dollars a million input tokens.")] = None,
    price_out: Annotated[str | None, typer.Option(help="Dollars a million output tokens.")] = None,
    tier: Annotated[str | None, typer.Option(help="tiny, small, medium, large or huge.")] = None,
    quality: Annotated[float | None, typer.Option(help="Share of good answers, 0 to 1.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens that it takes.")] = None,
    auto: Annotated[bool | None, typer.Option(help="Whether `auto` may pick it.")] = None,
    row: Annotated[str | None, typer.Option(help="Any other fields of a catalogue row, as JSON.")] = None,
) -> None:
    """Change a model, in place of an earlier change."""
    asked: dict[str, Any] = object_of(row, "--row") if row else {}
    if (price_in is None) != (price_out is None):
        typer.echo("edgewise: give both --price-in and --price-out", err=True)
        raise typer.Exit(2)
    if price_in is not None:
        asked["price"] = {"i": price_in, "o": price_out}
    named = {"tier": tier, "quality": quality, "context": context, "auto": auto}
    asked |= {field: value for field, value in named.items() if value is not None}
    made = call("PUT", f"/admin/models/{quote(name, safe='/')}", asked)
    typer.echo(f"{made['model']}  {json.dumps(made['row'])}")


@app.command()
def unset(name: Name) -> None:
    """Take a change back: the model is as it was compiled and set."""
    call("DELETE", f"/admin/models/{quote(name, safe='/')}")
    typer.echo(f"{name} is as it was.")
