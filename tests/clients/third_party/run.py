"""Drives a real gateway with clients that other people wrote, each in an environment of its own.

    python -m tests.clients.third_party.run [NAME ...] [--fresh]

An environment is made under `.venv/clients/NAME` when it is first needed, which asks the package registries; the
clients themselves talk to loopback only. One line a client: passed or failed, and what was checked. The exit status
is 1 when a client failed. A stream that the provider cuts must raise in every client: that is checked in each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from edgewise.settings import Settings, Upstream
from tests.clients.conftest import KEY, serving
from tests.clients.third_party.clients import CLIENTS, Client
from tests.upstream import threaded

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[2] / ".venv" / "clients"
MOST_S = 300
PYTEST = (
    "-m", "pytest", "-q", "-c", "/dev/null", "--noconftest", "-p", "no:cacheprovider",
    "--disable-socket", "--allow-unix-socket", "--allow-hosts=127.0.0.1",
    "-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session",
    "-o", "asyncio_default_fixture_loop_scope=session",
)  # fmt: skip


class NotInstalled(Exception):
    """The environment could not be made; the message is the installer's last words."""


def environment(client: Client, *, fresh: bool) -> Path:
    """The folder of the client's environment, made when it is missing or made for other packages."""
    folder = ENVIRONMENTS / client.name
    stamp = folder / ".made-for"
    wanted = hashlib.sha256("\n".join(client.packages).encode()).hexdigest()
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if client.node:
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        _install(["npm", "install", "--no-audit", "--no-fund", "--silent", *client.packages], folder)
    else:
        python = folder / "bin" / "python"
        if not python.exists():
            _install([sys.executable, "-m", "venv", str(folder)], folder)
        _install([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *client.packages], folder)
    stamp.write_text(wanted)
    return folder


def _install(command: list[str], folder: Path) -> None:
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    except FileNotFoundError as error:
        raise NotInstalled(f"{command[0]} is not on this machine") from error
    if ran.returncode:
        raise NotInstalled((ran.stderr or ran.stdout).strip()[-300:])


def command(client: Client, folder: Path) -> list[str]:
    """What drives the client."""
    if client.node:
        # Node finds packages beside the script, so it stands where they are.
        shutil.copy(HERE / "node" / client.driver, folder / client.driver)
        return ["node", client.driver]
    driver = str(HERE / "drivers" / client.driver)
    return [str(folder / "bin" / "python"), *(PYTEST if client.suite else ()), driver]


def drive(client: Client, folder: Path, url: str) -> tuple[bool, str]:
    """(passed, what was checked or what went wrong)."""
    variables = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "HOME": str(folder),
        "EDGEWISE_CLIENT_URL": f"{url}/v1",
        "EDGEWISE_CLIENT_KEY": KEY,
        "NO_PROXY": "127.0.0.1",
        "DO_NOT_TRACK": "1",
        "PYTHONWARNINGS": "ignore",
    }
    ran = subprocess.run(
        command(client, folder),
        cwd=folder if client.node else HERE,
        env=variables,
        capture_output=True,
        text=True,
        timeout=MOST_S,
        check=False,
    )
    lines = ran.stdout.strip().splitlines()
    last = lines[-1] if lines else ""
    if ran.returncode == 0:
        return True, last if client.suite else ", ".join(json.loads(last))
    failures = [line for line in lines if line.startswith("FAILED")] if client.suite else []
    return False, "\n    ".join(failures or (ran.stderr or ran.stdout).strip().splitlines()[-12:])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(client.name for client in CLIENTS))
    parser.add_argument("--fresh", action="store_true", help="make the environments anew")
    options = parser.parse_args()
    unknown = set(options.names) - {client.name for client in CLIENTS}
    if unknown:
        parser.error(f"no client {', '.join(sorted(unknown))}")
    failed = 0
    with threaded() as upstream:
        settings = Settings(
            root_key=KEY,
            scripted_model=True,
            request_log=False,
            max_retries=0,
            upstreams=(Upstream(name="chaos", base_url=upstream.base_url, api_key="sk-upstream"),),
        )
        with serving(settings) as url:
            for client in CLIENTS:
                if options.names and client.name not in options.names:
                    continue
                began = time.monotonic()
                try:
                    passed, told = drive(client, environment(client, fresh=options.fresh), url)
                except (NotInstalled, subprocess.TimeoutExpired) as error:
                    passed, told = False, str(error)
                failed += not passed
                word = "passed" if passed else "FAILED"
                print(f"{client.name:14} {word}  {time.monotonic() - began:5.1f} s  {told}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
