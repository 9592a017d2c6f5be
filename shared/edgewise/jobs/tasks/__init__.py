"""A task queue for Python: the same four verbs over this process and over SQS.

    task = await tasks.submit(summarise, document, priority=5, retry=Retry(tries=3))
    await task.status()              # pending → running → completed | failed | cancelled
    await task.result(timeout_s=30)  # what the function returned; raises what it came to otherwise
    await task.cancel()

`LocalTasks` runs functions in this process; `QueuedTasks` sends their names and JSON arguments through the jobs queue
to a worker that has the same functions. `Batcher` collects single calls into joint ones; `gather` asks independent
prompts at once under one budget.
"""

from edgewise.jobs.tasks.batcher import Batcher
from edgewise.jobs.tasks.gather import gather
from edgewise.jobs.tasks.local import LocalTasks
from edgewise.jobs.tasks.queued import QueuedTasks
from edgewise.jobs.tasks.task import Retry, Task, TaskCancelled, TaskFailed, TaskLost

__all__ = [
    "Batcher",
    "LocalTasks",
    "QueuedTasks",
    "Retry",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskLost",
    "gather",
]
