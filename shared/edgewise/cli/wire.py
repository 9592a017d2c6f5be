"""How the command line speaks to a running gateway: one call over the standard library's HTTP client."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

import typer

DEFAULT_URL = "http://127.0.0.1:8787"


def call(method: str, path: str, body: Any = None) -> Any:
    """The JSON answer of `method` at `path`. A refusal is printed and ends the command with status 1."""
    return json.loads(send(method, path, None if body is None else json.dumps(body).encode()))


def send(method: str, path: str, content: bytes | None = None, content_type: str = "application/json") -> bytes:
    """The answer's bytes; otherwise as `call`."""
    url = os.environ.get("EDGEWISE_URL", DEFAULT_URL).rstrip("/").removesuffix("/v1")
    if not url.startswith(("http://", "https://")):
        typer.echo(f"edgewise: EDGEWISE_URL is not a URL: {url}", err=True)
        raise typer.Exit(2)
    key = os.environ.get("EDGEWISE_KEY") or os.environ.get("EDGEWISE_ROOT_KEY", "")
    request = urllib.request.Request(  # noqa: S310 — the scheme was checked above
        url + path,
        data=content,
        method=method,
        headers={"authorization": f"Bearer {key}", "content-type": content_type},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            told: bytes = answer.read()
            return told
    except urllib.error.HTTPError as error:
        with error:
            try:
                reason = json.load(error)["error"]["message"]
            except (ValueError, KeyError, TypeError):
                reason = error.reason
        typer.echo(f"edgewise: {error.code}: {reason}", err=True)
    except urllib.error.URLError as error:
        typer.echo(f"edgewise: {url} does not answer: {error.reason}", err=True)
    raise typer.Exit(1)
