"""Scheduled: the rooms' regular work."""

from __future__ import annotations

import os

from edgewise.assemble import chores
from edgewise.settings import Settings
from edgewise.upkeep import Upkeep

handler = Upkeep(chores(Settings.from_env(os.environ)))
