"""Scheduled: the rooms' regular work."""

from __future__ import annotations

import os

from edgewise.assemble import chores
from edgewise.record.powertools import observed
from edgewise.settings import Settings
from edgewise.upkeep import Upkeep

settings = Settings.from_env(os.environ)
upkeep = Upkeep(chores(settings))
handler = observed(upkeep, settings)
