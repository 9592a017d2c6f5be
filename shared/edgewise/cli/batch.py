"""`edgewise batch`: submit a file of requests and watch it; list, fetch, cancel and redrive batches.

Speaks HTTP to `EDGEWISE_URL` with the key in `EDGEWISE_KEY`. A file goes up in one request while it fits in one, and
in parts when it does not.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from edgewise.cli.wire import call, send

app = typer.Typer(no_args_is_help=True, help="Submit and watch batches.")

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
PART_BYTES = 4_000_000
"""A function URL takes 6 MB, in which a binary body travels as base64."""
ENDED = ("completed", "failed", "expired", "cancelled")
_WATCH_S = 1.0


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Requests, one JSON object a line.")],
    endpoint: Annotated[
        str | None, typer.Option(help="The route; read from the file's first line if left out.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a file of requests off as a batch."""
    made = call(
        "POST",
        "/v1/batches",
        {"input_file_id": _upload(file), "endpoint": endpoint or _endpoint(file), "completion_window": "24h"},
    )
    if watch:
        # Whoever stops watching, or is cut off, knows what to come back to.
        typer.echo(made["id"], err=True)
        made = _watched(made, quiet=as_json)
    _tell(made, as_json)
    if made["status"] in ("failed", "expired", "cancelled"):
        raise typer.Exit(1)


@app.command()
def watch(batch_id: str, as_json: AsJson = False) -> None:
    """Stay with a batch until it has ended."""
    _tell(_watched(call("GET", f"/v1/batches/{batch_id}"), quiet=as_json), as_json)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20, as_json: AsJson = False
) -> None:
    """List batches, newest first."""
    found = call("GET", f"/v1/batches?limit={limit}")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column("id", no_wrap=True), "state", "done", "failed", "of", "cost")
    for batch in found["data"]:
        counts = batch["request_counts"]
        table.add_row(
            batch["id"],
            batch["status"],
            str(counts["completed"]),
            str(counts["failed"]),
            str(counts["total"]),
            _cost(batch),
        )
    Console().print(table)


@app.command()
def get(batch_id: str, as_json: AsJson = False) -> None:
    """Show one batch."""
    _tell(call("GET", f"/v1/batches/{batch_id}"), as_json)


@app.command()
def results(
    batch_id: str,
    to: Annotated[Path | None, typer.Option("--to", help="Write here instead of to standard output.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="What failed, instead of what was answered.")] = False,
) -> None:
    """Fetch the answers of a batch that has ended, one JSON object a line."""
    batch = call("GET", f"/v1/batches/{batch_id}")
    name = batch.get("error_file_id" if errors else "output_file_id")
    if name is None:
        typer.echo(f"edgewise: the batch is {batch['status']} and has no such file", err=True)
        raise typer.Exit(1)
    content = send("GET", f"/v1/files/{name}/content")
    if to is not None:
        to.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


@app.command()
def cancel(batch_id: str, as_json: AsJson = False) -> None:
    """Stop a batch; what is done is handed out."""
    _tell(call("POST", f"/v1/batches/{batch_id}/cancel"), as_json)


@app.command()
def redrive(
    batch_id: Annotated[str | None, typer.Argument(help="Run again what failed in this batch, as a new one.")] = None,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Put dead messages back on the queue (root key).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run again what failed."""
    if dead_letters:
        moved = call("POST", "/v1/batches/redrive")
        typer.echo(json.dumps(moved, indent=2) if as_json else f"{moved['moved']} messages are back on the queue.")
    elif batch_id is None:
        typer.echo("edgewise: name a batch, or ask for --dead-letters", err=True)
        raise typer.Exit(2)
    else:
        _tell(call("POST", f"/v1/batches/{batch_id}/redrive"), as_json)


def _endpoint(file: Path) -> str:
    with file.open("rb") as lines:
        try:
            return str(json.loads(lines.readline())["url"])
        except (ValueError, KeyError, TypeError):
            typer.echo(f"edgewise: the first line of {file} names no `url`; give --endpoint", err=True)
    raise typer.Exit(2)


def _upload(file: Path) -> str:
    size = file.stat().st_size
    with file.open("rb") as source:
        if size <= PART_BYTES:
            made = _form("/v1/files", {"purpose": "batch"}, "file", file.name, source.read())
            return str(made["id"])
        asked = {"bytes": size, "filename": file.name, "mime_type": "application/jsonl", "purpose": "batch"}
        upload = call("POST", "/v1/uploads", asked)["id"]
        parts = [_form(f"/v1/uploads/{upload}/parts", {}, "data", "part", piece)["id"] for piece in _pieces(source)]
    done = call("POST", f"/v1/uploads/{upload}/complete", {"part_ids": parts})
    return str(done["file"]["id"])


def _pieces(source: Any) -> Iterator[bytes]:
    while piece := source.read(PART_BYTES):
        yield piece


def _form(path: str, fields: dict[str, str], name: str, filename: str, content: bytes) -> Any:
    """POST a multipart form with one file."""
    boundary = secrets.token_hex(16)
    quoted = filename.replace("\\", "_").replace('"', "_")
    head = "".join(
        f'--{boundary}\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    )
    head += f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"; filename="{quoted}"\r\n'
    head += "content-type: application/octet-stream\r\n\r\n"
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return json.loads(send("POST", path, body, f"multipart/form-data; boundary={boundary}"))


def _watched(batch: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """The batch when it has ended, with a bar meanwhile."""
    if quiet:
        while batch["status"] not in ENDED:
            time.sleep(_WATCH_S)
            batch = call("GET", f"/v1/batches/{batch['id']}")
        return batch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[more]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(batch["status"], total=None, more="")
        while True:
            counts = batch["request_counts"]
            done = counts["completed"] + counts["failed"]
            progress.update(
                bar, description=batch["status"], total=counts["total"] or None, completed=done, more=_more(batch)
            )
            if batch["status"] in ENDED:
                return batch
            time.sleep(_WATCH_S)
            batch = call("GET", f"/v1/batches/{batch['id']}")


def _more(batch: dict[str, Any]) -> str:
    """Failed, cached, what it has cost so far, and what it will have cost if it goes on like this."""
    counts, ours = batch["request_counts"], batch["edgewise"]
    words = [f"{counts['failed']} failed", f"{ours['cached']} cached", _cost(batch)]
    done = counts["completed"] + counts["failed"]
    if 0 < done < counts["total"] and batch["status"] not in ENDED:
        whole = Decimal(ours["cost_usd"]) * counts["total"] / done
        words.append(f"about ${whole:.4f} in all")
    return ", ".join(words)


def _cost(batch: dict[str, Any]) -> str:
    ours = batch["edgewise"]
    unknown = f" + {ours['unpriced']} of unknown price" if ours["unpriced"] else ""
    return f"${Decimal(ours['cost_usd']):.4f}{unknown}"


def _tell(batch: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(batch, indent=2))
        return
    counts = batch["request_counts"]
    typer.echo(f"{batch['id']}  {batch['status']}  {counts['completed']} of {counts['total']} done, {_more(batch)}")
    for error in (batch.get("errors") or {}).get("data", ()):
        where = f"line {error['line']}: " if error["line"] is not None else ""
        typer.echo(f"  {where}{error['code']}: {error['message']}", err=True)
