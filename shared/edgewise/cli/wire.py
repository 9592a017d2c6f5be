"""How the command line speaks to a running gateway: one call over the standard library's HTTP client."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPException
from string import punctuation
from typing import Any
from urllib.parse import quote, urlencode

import typer

DEFAULT_URL = "http://127.0.0.1:8787"
TIMEOUT_S = 120
"""Longer than purging or exporting a large table takes between two bytes."""


def object_of(text: str | bytes, option: str) -> dict[str, Any]:
    """A JSON object from the command line or a file. Anything else is told and ends the command with status 2."""
    try:
        found = json.loads(text)
    except ValueError as error:
        typer.echo(f"edgewise: {option} is not JSON: {error}", err=True)
        raise typer.Exit(2) from error
    if not isinstance(found, dict):
        typer.echo(f"edgewise: {option} is not a JSON object", err=True)
        raise typer.Exit(2)
    return found


def query_of(asked: Mapping[str, Any]) -> str:
    """What is given of `asked`, as a URL's query with its question mark; '' when nothing is."""
    given = {name: value for name, value in asked.items() if value is not None}
    return "?" + urlencode(given) if given else ""


def call(method: str, path: str, body: Any = None) -> Any:
    """The JSON answer of `method` at `path`. A refusal is printed and ends the command with status 1."""
    told = send(method, path, None if body is None else json.dumps(body).encode())
    try:
        return json.loads(told)
    except ValueError as error:
        typer.echo("edgewise: what answers at EDGEWISE_URL is no gateway", err=True)
        raise typer.Exit(1) from error


def send(method: str, path: str, content: bytes | None = None, content_type: str = "application/json") -> bytes:
    """The answer's bytes; otherwise as `call`."""
    return answered(method, path, content, content_type)[0]


def answered(
    method: str, path: str, content: bytes | None = None, content_type: str = "application/json"
) -> tuple[bytes, Message]:
    """The answer's bytes and its headers; otherwise as `call`."""
    url = os.environ.get("EDGEWISE_URL", DEFAULT_URL).rstrip("/").removesuffix("/v1")
    if not url.startswith(("http://", "https://")):
        typer.echo(f"edgewise: EDGEWISE_URL is not a URL: {url}", err=True)
        raise typer.Exit(2)
    key = os.environ.get("EDGEWISE_KEY") or os.environ.get("EDGEWISE_ROOT_KEY", "")
    if not (key.isascii() and key.isprintable()):
        typer.echo("edgewise: EDGEWISE_KEY has characters that no key has", err=True)
        raise typer.Exit(2)
    request = urllib.request.Request(  # noqa: S310 — the scheme was checked above
        url + quote(path, safe=punctuation),
        data=content,
        method=method,
        headers={"authorization": f"Bearer {key}", "content-type": content_type},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            try:
                told_why = json.load(error)["error"]
                reason = told_why["message"] + (f" ({told_why['param']})" if told_why.get("param") else "")
            except (ValueError, KeyError, TypeError):
                reason = error.reason
        hint = " Set EDGEWISE_KEY to a key of this gateway." if error.code == 401 else ""
        typer.echo(f"edgewise: {error.code}: {reason}{hint}", err=True)
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", error)
        typer.echo(f"edgewise: {url} does not answer: {why}. Is EDGEWISE_URL right?", err=True)
    raise typer.Exit(1)
