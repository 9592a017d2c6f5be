"""What every driver shares: where the gateway is, and a list of what was checked.

A driver runs in its client's own environment, so nothing here may import the gateway.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import traceback
from collections.abc import Callable
from typing import Any

URL = os.environ["EDGEWISE_CLIENT_URL"]
KEY = os.environ["EDGEWISE_CLIENT_KEY"]
MODEL = "scripted/echo"
CUT = "text that will be cut short [[script die=mid-chunk]]"

_checks: list[tuple[str, Callable[[], Any]]] = []


def check(work: Callable[[], Any]) -> Callable[[], Any]:
    """A function whose name is what it checks; it fails by raising."""
    _checks.append((work.__name__.replace("_", " "), work))
    return work


def raises(work: Callable[[], Any], kind: type[BaseException] = Exception) -> BaseException:
    """The error that `work` raises. Fails when it raises none, and lets one of another kind through."""
    try:
        told = work()
    except kind as error:
        return error
    raise AssertionError(f"nothing was raised; it gave {told!r}")


def run() -> None:
    """Every check, in order; the last line printed is the JSON list of their names."""
    for name, work in _checks:
        try:
            if inspect.iscoroutinefunction(work):
                asyncio.run(work())
            else:
                work()
        except BaseException:
            traceback.print_exc()
            raise SystemExit(f"failed: {name}") from None
    print(json.dumps([name for name, _ in _checks]))
