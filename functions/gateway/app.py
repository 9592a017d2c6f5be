"""HTTPS function URL, streaming: the gateway as an ASGI app, run by `edgewise.runtime` (see `run`)."""

from __future__ import annotations

import os

from edgewise.assemble import gateway
from edgewise.settings import Settings

app = gateway(Settings.from_env(os.environ))
