"""`edgewise keys`: make, list, rotate and revoke keys of a running gateway.

Speaks HTTP to `EDGEWISE_URL` with the key in `EDGEWISE_KEY` (the root key, or one with the scope 'admin').
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from edgewise.cli.wire import call, object_of, query_of

app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke keys.")

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@app.command()
def create(  # noqa: PLR0917 — options are named on the command line
    name: Annotated[str, typer.Argument(help="What the key is for.")] = "",
    tenant: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model it may use; '*' is a wildcard.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="A route it may use: chat, embeddings, batches, …")] = None,
    per_day: Annotated[str | None, typer.Option(help="Dollars a day.")] = None,
    per_month: Annotated[str | None, typer.Option(help="Dollars a month.")] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens a minute.")] = None,
    terms: Annotated[str | None, typer.Option(help="Everything else, as JSON; see the guide.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it: this once."""
    asked: dict[str, Any] = object_of(terms, "--terms") if terms else {}
    if model:
        asked["models"] = model
    if scope:
        asked["scopes"] = scope
    budgets = [{"per": per, "usd": usd} for per, usd in (("day", per_day), ("month", per_month)) if usd is not None]
    if budgets:
        asked["budgets"] = [*asked.get("budgets", []), *budgets]
    limits = {"requests_per_minute": rpm, "tokens_per_minute": tpm}
    if given := {name: limit for name, limit in limits.items() if limit is not None}:
        asked["limits"] = {**asked.get("limits", {}), **given}
    made = call("POST", "/admin/keys", {"tenant": tenant, "name": name, "terms": asked})
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        typer.echo(f"{made['key']}\n\nThis is {made['id']} of {made['tenant']}. It is not shown again.")


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None, as_json: AsJson = False
) -> None:
    """List keys, without their text."""
    found = call("GET", "/admin/keys" + query_of({"tenant": tenant}))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column("id", no_wrap=True), Column("tenant", overflow="fold"), "name", Column("key", no_wrap=True), "state"
    )
    for key in found["data"]:
        state = "revoked" if key["revoked_at"] else "expires" if key["expires_at"] else "good"
        table.add_row(key["id"], key["tenant"], key["name"], key["hint"], state)
    Console().print(table)


@app.command()
def rotate(
    key_id: str,
    overlap_s: Annotated[float, typer.Option(help="How long the old text still opens.")] = 86_400,
    as_json: AsJson = False,
) -> None:
    """Give a key a new text; the old one opens a while longer."""
    made = call("POST", f"/admin/keys/{key_id}/rotate", {"overlap_s": overlap_s})
    typer.echo(json.dumps(made, indent=2) if as_json else made["key"])


@app.command()
def revoke(key_id: str, as_json: AsJson = False) -> None:
    """Shut a key for good."""
    gone = call("DELETE", f"/admin/keys/{key_id}")
    typer.echo(json.dumps(gone, indent=2) if as_json else f"{gone['id']} no longer opens.")
