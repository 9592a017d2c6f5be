"""Functions that a worker runs as tasks, and what is seen of them from outside."""

from __future__ import annotations

import asyncio
from typing import Any

LOG: list[str] = []


async def double(number: int, *, plus: int = 0) -> int:
    return number * 2 + plus


def plain(text: str) -> str:
    return text.upper()


async def failing(times: int) -> str:
    LOG.append("failing")
    if LOG.count("failing") <= times:
        raise ValueError(f"failure {LOG.count('failing')}")
    return "at last"


async def endless(name: str) -> None:
    LOG.append(name)
    try:
        await asyncio.Event().wait()
    finally:
        LOG.append(f"{name} stopped")


async def noted(name: str, seconds: float = 0.0) -> str:
    LOG.append(f"{name} begins")
    await asyncio.sleep(seconds)
    LOG.append(f"{name} ends")
    return name


def unwritable() -> Any:
    LOG.append("unwritable")
    return object()


def private() -> str:
    """Beside the others, and on nobody's list."""
    raise AssertionError("this is never to run")
