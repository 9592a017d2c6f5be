"""HTTPS function URL, buffered: the same app under Mangum, for URLs or regions without response streaming."""

from __future__ import annotations

import os

from edgewise.runtime import unhurried

with unhurried():
    from edgewise.assemble import gateway
    from edgewise.buffered import Buffered
    from edgewise.settings import Settings

    settings = Settings.from_env(os.environ)
    handler = Buffered(gateway(settings), margin_s=settings.deadline_margin_s)
