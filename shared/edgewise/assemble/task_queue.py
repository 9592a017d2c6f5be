"""The task queue on its adapters, for the worker and for whoever submits.

It stands beside the house rather than in it: a program that submits tasks needs the table, the bucket and the queue,
and neither a root key nor a provider.
"""

from __future__ import annotations

from edgewise.assemble.house import aws_of
from edgewise.aws import Aws, Table
from edgewise.clock import Clock, SystemClock
from edgewise.jobs.answers.dynamodb import DynamoShelf
from edgewise.jobs.ports import Meter
from edgewise.jobs.s3 import S3Blobs
from edgewise.jobs.sqs import SqsQueue
from edgewise.jobs.tasks.queued import QueuedTasks
from edgewise.patience import PatientAws
from edgewise.settings import Settings


def task_queue(settings: Settings) -> QueuedTasks:
    """The deployment's task queue. Raises ValueError where there is no table, bucket or queue for it."""
    return tasks_on(settings, SystemClock(), aws_of(settings))


def tasks_on(settings: Settings, clock: Clock, aws: Aws, meter: Meter | None = None) -> QueuedTasks:
    if not (settings.state_table and settings.bucket and settings.jobs_queue_url):
        raise ValueError("Tasks need EDGEWISE_STATE_TABLE, EDGEWISE_BUCKET and EDGEWISE_JOBS_QUEUE_URL.")
    patient = PatientAws(aws, clock)
    shelf = DynamoShelf(Table(patient, settings.state_table), S3Blobs(patient, settings.bucket), clock, "task")
    queue = SqsQueue(patient, settings.jobs_queue_url, settings.dead_letter_queue_url)
    return QueuedTasks(shelf, queue, clock, settings.tasks, max_concurrent=settings.jobs_concurrency, meter=meter)
