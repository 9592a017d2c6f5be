"""Schemathesis against the app's own OpenAPI: no 5xx, no way past authentication, no undocumented status.

Starts the whole gateway over the loopback stand-in for AWS, with the scripted model, and lets Schemathesis (in an
environment of its own, `make schemathesis`) read `/openapi.json` and make up requests: examples, coverage of each
schema's edges, random and stateful ones, valid and not. With `--anonymous` it comes without a key, and then every
answer of a guarded route must be 401.

503 is the one 5xx that may be: it is the documented answer when a part of the stack is not there.

Python 3.11's compiler sometimes refuses Schemathesis' own source when its stack is deep ("AST constructor recursion
depth mismatch"), which Schemathesis counts as an error of the run; an environment of Python 3.12 or newer does not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path

KEY = "ew_root_for_schemathesis"
HERE = Path(__file__).resolve().parents[1]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "ignored_auth",
)


def serve() -> str:
    """The gateway on a free loopback port; its URL."""
    import socket

    import uvicorn

    from edgewise.assemble.edge import gateway
    from edgewise.local.stack import Stack
    from edgewise.settings import Settings

    environment = {
        **Stack.start().environment,
        "EDGEWISE_ROOT_KEY": KEY,
        "EDGEWISE_SCRIPTED_MODEL": "true",
        "EDGEWISE_REQUEST_LOG": "false",
        "EDGEWISE_CACHE_TIMEOUT_S": "2",
        "EDGEWISE_BAN_STRIKES": "1000000",
    }
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(gateway(Settings.from_env(environment)), log_level="warning", server_header=False)
    )
    threading.Thread(target=server.run, args=([listening],), daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(HERE / ".venv" / "schemathesis" / "bin" / "schemathesis"))
    parser.add_argument("--examples", type=int, default=30, help="random requests for each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=240)
    parser.add_argument("--anonymous", action="store_true")
    options = parser.parse_args()
    url = serve()
    words = [options.program, "run", f"{url}/openapi.json", "--url", url, "--seed", str(options.seed)]
    words += [
        "-n",
        str(options.examples),
        "--checks",
        ",".join(CHECKS),
        "--workers",
        "2",
        "--no-color",
        "--max-time",
        str(options.seconds),
    ]
    words += ["--phases", "examples,coverage,fuzzing,stateful", "--suppress-health-check", "all"]
    words += ["--max-redirects", "0", "--generation-deterministic"]
    if not options.anonymous:
        words += ["-H", f"Authorization: Bearer {KEY}"]
    return subprocess.run(words, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
