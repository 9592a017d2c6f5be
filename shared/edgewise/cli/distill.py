"""`edgewise distill export`: accepted answers of large models as a fine-tuning file. Reads an exported cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from edgewise.cli.route import EVERY, catalog_of
from edgewise.cli.wire import object_of
from edgewise.routing.distill import Counts, Format, lessons, rows
from edgewise.words import TEACHES, TIERS

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Teach small models what large ones answered.")


@app.callback()
def _verbs() -> None:
    """Teach small models what large ones answered."""


@app.command()
def export(
    entries: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What `edgewise cache export` wrote.")],
    out: Annotated[Path, typer.Argument(help="The fine-tuning file to write.")],
    shape: Annotated[str, typer.Option("--format", help="openai or bedrock.")] = "openai",
    least_tier: Annotated[str, typer.Option(help="The smallest tier that may teach.")] = "large",
    consent: Annotated[str, typer.Option(help="The tag by which a request consented.")] = TEACHES,
    system: Annotated[str | None, typer.Option(help="A system message for lessons that have none.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Write accepted answers as JSON lines for fine-tuning; only those whose requests consented by tag."""
    if shape not in ("openai", "bedrock") or least_tier not in TIERS:
        typer.echo("edgewise: --format is openai or bedrock; --least-tier is one of " + ", ".join(TIERS), err=True)
        raise typer.Exit(2)
    counts = Counts()
    # Tiers as this deployment has them: overrides and upstreams of its own are in the environment.
    catalog, _ = catalog_of(EVERY)
    found = lessons(read(entries), catalog, counts, least=least_tier, tag=consent)
    with out.open("w", encoding="utf-8") as file:
        for row in rows(found, cast(Format, shape), system):
            file.write(row + "\n")
    if as_json:
        typer.echo(json.dumps({"written": counts.taken, "left_out": counts.left}))
        return
    left = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.left.items())) or "none"
    typer.echo(f"{counts.taken} lessons in {out}; left out: {left}")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Exported entries, line by line; split on newlines only, for text may hold other separators."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield object_of(line, f"line {number} of {path}")
