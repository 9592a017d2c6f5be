"""SQS-triggered: one batch of job messages, answered with the ones that failed."""

from __future__ import annotations

import os

from edgewise.assemble import worker
from edgewise.record.powertools import observed
from edgewise.settings import Settings

settings = Settings.from_env(os.environ)
handler = observed(worker(settings), settings)
