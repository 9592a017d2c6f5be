"""The whole gateway before one upstream, with the default settings: exact cache in memory, a log line a request."""

from __future__ import annotations

import os
from typing import Any

from edgewise.assemble import gateway
from edgewise.settings import Settings, Upstream

KEY = "ew_bench_root_key"


def app() -> Any:
    upstream = Upstream(name="up", base_url=os.environ["BENCH_UPSTREAM"] + "/v1", api_key="sk-upstream")
    return gateway(Settings(root_key=KEY, upstreams=(upstream,)))
