"""SQS-triggered: one batch of job messages, answered with the ones that failed."""

from __future__ import annotations

import os

from edgewise.assemble import worker
from edgewise.settings import Settings

handler = worker(Settings.from_env(os.environ))
