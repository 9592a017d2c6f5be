"""`edgewise stats`: what was asked, what it cost, how fast it was. `--watch` keeps looking."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgewise.cli.wire import call, query_of

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = (
    "model",
    "requests",
    "qps",
    "in flight",
    "errors",
    "hits",
    "P50 ms",
    "P95 ms",
    "P99 ms",
    "tokens",
    "cost $",
    "$ per 1k",
    "saved $",
)
LEFT_OUT = {"in flight", "tokens", "$ per 1k", "saved $"}
"""Of a terminal that has no room for all; `--json` has everything."""
NEEDED = 110
"""Characters a line that all columns take."""


app = typer.Typer(add_completion=False)


@app.command()
def stats(
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds.")] = False,
    own: Annotated[bool, typer.Option("--own", help="Only this key's usage; needs no administration.")] = False,
    span: Annotated[str, typer.Option(help="'minute' or 'hour'.")] = "minute",
    tenant: Annotated[str | None, typer.Option(help="One tenant's.")] = None,
    every_s: Annotated[float, typer.Option(min=0.1, help="How often to look.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Show the last sixty minutes or hours."""
    asked = query_of({"span": span, "tenant": None if own else tenant})
    path = ("/v1/usage" if own else "/admin/stats") + asked
    if as_json:
        typer.echo(json.dumps(call("GET", path), indent=2))
        return
    from rich.console import Console

    console = Console()
    if not (watch and console.is_terminal):
        console.print(table_of(call("GET", path), console.width))
        while watch:
            time.sleep(every_s)
            console.print(table_of(call("GET", path), console.width))
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(table_of(call("GET", path), console.width), refresh=True)
            time.sleep(every_s)


def table_of(told: dict[str, Any], width: int = NEEDED) -> Table:
    """One line for all, and one a model; fewer columns where `width` characters do not hold all."""
    from rich.table import Table

    table = Table(title=f"{told['tenant']}, by {told['span']}")
    if width < NEEDED:
        table.box, table.padding = None, (0, 2, 0, 0)
    columns = [name for name in COLUMNS if width >= NEEDED or name not in LEFT_OUT]
    for name in columns:
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    for row in [{"model": "all", **told["total"]}, *told["by_model"]]:
        latency = row["latency_ms"]
        cells = (
            row["model"] or "(none)",
            str(row["requests"]),
            _short(row["qps"]),
            _short(row["concurrency"]),
            _share(row["error_share"]),
            _share(row["hit_share"]),
            *(_short(latency[name]) for name in ("p50", "p95", "p99")),
            str(row["tokens_in"] + row["tokens_out"]),
            row["cost_usd"],
            row["usd_per_1k_tokens"] or "–",
            row["saved_usd"],
        )
        cell_of = dict(zip(COLUMNS, cells, strict=True))
        table.add_row(*(cell_of[name] for name in columns))
    return table


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
