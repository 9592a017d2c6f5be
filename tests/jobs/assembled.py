"""The worker as it is assembled, in a process that forks one whenever it is told to, and that one may die.

An answer whose metadata says `die` kills the worker that makes it (SIGKILL, by its own hand, at a step that no signal
from outside would hit twice), once: at 'text' when some of its text is told, at 'paid' when the provider's answer is
written down, at 'told' when its end is told but nothing else knows, at 'kept' before its message is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewise.assemble.house import build
from edgewise.assemble.jobs import desk_of, worker_of
from edgewise.jobs.answers.log import ends
from edgewise.jobs.room import Options
from edgewise.settings import Settings
from tests.jobs.stack import pump

OPTIONS = Options(lease_s=3)


class Mortal:
    """A shelf, as far as the worker's steps go through it."""

    def __init__(self, shelf: Any, graves: Path) -> None:
        self._shelf, self._graves = shelf, graves

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shelf, name)

    async def _die(self, id: str, step: str) -> None:
        kept = await self._shelf.get(id)
        grave = self._graves / f"{id}-{step}"
        if kept is not None and (kept.wire.get("metadata") or {}).get("die") == step and not grave.exists():
            grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    async def tell(self, id: str, events: Any, expires_at: int) -> bool:
        done: bool = await self._shelf.tell(id, events, expires_at)
        await self._die(id, "told" if ends(events[-1]) else "text")
        return done

    async def put_call(self, id: str, key: str, call: Any) -> None:
        await self._shelf.put_call(id, key, call)
        await self._die(id, "paid")

    async def end(self, id: str, made: Any, expires_at: int | None = None) -> bool:
        done: bool = await self._shelf.end(id, made, expires_at)
        await self._die(id, "kept")
        return done


async def life(settings: Settings, graves: Path) -> None:
    """One worker's life; it does not end by itself."""
    house = build(settings)
    desk = desk_of(house)
    desk.room.options = OPTIONS
    mortal: Any = Mortal(desk.shelf, graves)
    house.desk = replace(desk, shelf=mortal)
    assert settings.jobs_queue_url
    await pump(house.aws, settings.jobs_queue_url, worker_of(house).handle, most=1)


def main() -> None:
    """Fork a worker for each line on standard input, and say its process id."""
    settings, graves = Settings.model_validate_json(sys.argv[1]), Path(sys.argv[2])
    # Here, so that a life is cheap: importing and building it all takes longer than most of them last.
    house = build(settings)
    worker_of(house)
    for service in ("sqs", "s3", "dynamodb"):
        house.aws.client(service)
    children: set[int] = set()
    for _ in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            asyncio.run(life(settings, graves))
            os._exit(0)
        children.add(child)
        print(child, flush=True)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
