"""The gateway for uvicorn on a laptop, built from the environment that `edgewise dev` has set."""

from __future__ import annotations

import os
from typing import Any


def application() -> Any:
    """The ASGI app; uvicorn calls this once in each of its processes."""
    from edgewise.assemble import gateway
    from edgewise.settings import Settings

    return gateway(Settings.from_env(os.environ))
