"""`edgewise cache`: warm, purge, export and import the cache of a running gateway, see what it counts, audit its judge.

Speaks HTTP to `EDGEWISE_URL` with the key in `EDGEWISE_KEY`. Warming fills the cache of that key's tenant; the rest
needs the root key or a key with the scope 'admin'.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from edgewise.cache.warm import batch_files, bodies_of
from edgewise.cli.audit import audit
from edgewise.cli.costs import estimated, say_cost
from edgewise.cli.wire import call, query_of, send
from edgewise.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Warm, purge, export and import the cache; audit its judge.")
app.command()(audit)

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Tenant = Annotated[str | None, typer.Option(help="Whose entries; the root key only.")]
FROM_LOG = "What was asked most yesterday; the gateway must run with EDGEWISE_CACHE_KEEP_REQUESTS=true."
IMPORT_BYTES = 4_000_000
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})


@app.command()
def stats(as_json: AsJson = False) -> None:
    """What the answering process has counted since it started."""
    found = call("GET", "/admin/cache")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    memory = found["memory"]
    typer.echo(f"hit rate {found['hit_rate']:.1%}   in flight {found['in_flight']}")
    typer.echo(f"memory   {memory['entries']} entries, {memory['bytes']:,} bytes, {memory['evictions']} evicted")
    for name in ("hits", "misses", "offers", "trouble"):
        counts = ", ".join(f"{word} {count}" for word, count in sorted(found[name].items(), key=lambda kv: -kv[1]))
        typer.echo(f"{name:<8} {counts or 'none'}")


@app.command()
def purge(  # noqa: PLR0917 - typer makes each an option
    key: Annotated[str | None, typer.Option(help="One entry, by its x-edgewise-cache-key.")] = None,
    tag: Annotated[str | None, typer.Option(help="Entries with this tag.")] = None,
    model: Annotated[str | None, typer.Option(help="Answers of this model.")] = None,
    namespace: Annotated[str | None, typer.Option(help="One namespace.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Namespaces that begin so.")] = None,
    older_than_s: Annotated[float | None, typer.Option(help="Entries older than so many seconds.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All entries.")] = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Void entries at once everywhere, and remove them. What is given narrows it, together."""
    asked = {
        "key": key,
        "tag": tag,
        "model": model,
        "namespace": namespace,
        "prefix": prefix,
        "older_than_s": older_than_s,
        "all": "true" if everything else None,
        "tenant": tenant,
    }
    found = call("DELETE", "/admin/cache" + query_of(asked))
    typer.echo(json.dumps(found, indent=2) if as_json else f"{found['removed']} entries removed")


@app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="Where to write JSON lines; '-' is standard output.")],
    namespace: Annotated[str | None, typer.Option(help="One namespace.")] = None,
    tenant: Tenant = None,
) -> None:
    """Write entries as JSON lines."""
    lines = send("GET", "/admin/cache/entries" + query_of({"namespace": namespace, "tenant": tenant}))
    if str(file) == "-":
        sys.stdout.buffer.write(lines)
        return
    file.write_bytes(lines)
    count = lines.count(b"\n")
    typer.echo(f"{count} entries in {file}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON lines as `export` writes them.")],
) -> None:
    """Bring exported entries in; those that have expired stay out."""
    imported = expired = 0
    for part in _parts(file.read_bytes()):
        found = json.loads(send("POST", "/admin/cache/entries", part, "application/x-ndjson"))
        imported += found["imported"]
        expired += found["expired"]
    typer.echo(f"{imported} entries imported, {expired} had expired")


@app.command()
def warm(
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="Prompts: one a line, or JSON lines.")
    ] = None,
    from_log: Annotated[bool, typer.Option("--from-log", help=FROM_LOG)] = False,
    model: Annotated[str, typer.Option(help="For prompts that name none.")] = "auto",
    most: Annotated[int, typer.Option(help="With --from-log: how many.")] = 100,
    day: Annotated[str | None, typer.Option(help="With --from-log: another day, as 2026-01-31.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    poll_s: Annotated[float, typer.Option(min=0, help="Seconds between looks at the batch.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Fill the cache from a list, through the batch path; what it may cost is said first."""
    bodies = _asked(day, most) if from_log else _listed(file, model)
    if not bodies:
        typer.echo("Nothing to warm: nothing was asked on that day." if from_log else "Nothing to warm.", err=as_json)
        return
    cost = estimated(bodies)
    say_cost(cost, aside=as_json)
    if not yes and not typer.confirm("Go on?", err=as_json):
        raise typer.Exit(1)
    done = _run(bodies, poll_s)
    typer.echo(json.dumps(done) if as_json else f"{done['completed']} answered, {done['failed']} failed")
    if done["failed"]:
        raise typer.Exit(1)


def _asked(day: str | None, most: int) -> list[dict[str, Any]]:
    found = call("GET", "/admin/cache/asked" + query_of({"day": day, "limit": most}))
    return [row["body"] for row in found["data"]]


def _listed(file: Path | None, model: str) -> list[dict[str, Any]]:
    if file is None:
        typer.echo("edgewise: name a file, or say --from-log.", err=True)
        raise typer.Exit(2)
    try:
        return bodies_of(file.read_bytes(), model)
    except InvalidRequest as error:
        typer.echo(f"edgewise: {file}: {error.message}", err=True)
        raise typer.Exit(2) from error


def _run(bodies: list[dict[str, Any]], poll_s: float) -> dict[str, int]:
    """Submit the batches and watch them to their end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    completed = failed = 0
    columns = (TextColumn("warming"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # On standard error: what is printed may be somebody's JSON.
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("warming", total=len(bodies))
        for lines, content in batch_files(bodies):
            batch = _submitted(content)
            while batch["status"] not in _OVER:
                time.sleep(poll_s)
                batch = call("GET", f"/v1/batches/{batch['id']}")
                counts = batch.get("request_counts") or {}
                bar.update(task, completed=completed + failed + counts.get("completed", 0) + counts.get("failed", 0))
            for error in (batch.get("errors") or {}).get("data") or ():
                typer.echo(f"edgewise: {batch['id']}: {error.get('message')}", err=True)
            counts = batch.get("request_counts") or {}
            completed += counts.get("completed", 0)
            failed += lines - counts.get("completed", 0)
            bar.update(task, completed=completed + failed)
    return {"completed": completed, "failed": failed}


def _submitted(content: bytes) -> dict[str, Any]:
    boundary = uuid4().hex
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="warm.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    ).encode()
    uploaded = send(
        "POST",
        "/v1/files",
        form + content + f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )
    batch: dict[str, Any] = call(
        "POST",
        "/v1/batches",
        {
            "input_file_id": json.loads(uploaded)["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"purpose": "warm"},
        },
    )
    return batch


def _parts(text: bytes) -> list[bytes]:
    """`text` cut at line ends into parts that fit into one request each."""
    parts: list[bytes] = []
    for line in text.split(b"\n"):
        if not line:
            continue
        if parts and len(parts[-1]) + len(line) < IMPORT_BYTES:
            parts[-1] += line + b"\n"
        else:
            parts.append(line + b"\n")
    return parts
