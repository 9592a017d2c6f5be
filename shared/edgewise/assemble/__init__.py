"""The composition root: the one place where rooms, adapters and settings become something that runs.

`gateway` the ASGI app · `worker` the handler of queue messages · `chores` the regular work · `tasks` the task queue for
who submits. Each imports what it needs and no more: a cold start pays for every import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from edgewise.assemble.jobs import Handler
    from edgewise.jobs.tasks import QueuedTasks
    from edgewise.settings import Settings
    from edgewise.upkeep import Chore


def gateway(settings: Settings) -> FastAPI:
    """The gateway as an ASGI app. Raises what a setting that cannot work deserves."""
    from edgewise.assemble.edge import gateway as build

    return build(settings)


def worker(settings: Settings) -> Handler:
    """The Lambda handler of SQS events."""
    from edgewise.assemble.jobs import worker as build

    return build(settings)


def chores(settings: Settings) -> list[Chore]:
    """The regular work of every room."""
    from edgewise.assemble.upkeep import chores as build

    return build(settings)


def tasks(settings: Settings) -> QueuedTasks:
    """The deployment's task queue. Raises ValueError where there is no table, bucket or queue for it."""
    from edgewise.assemble.task_queue import task_queue

    return task_queue(settings)
