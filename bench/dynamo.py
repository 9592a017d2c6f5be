"""CPU of one GetItem (2 KB) and of getting ready: the lean client beside boto3, against the same canned server.

    edgewise bench dynamo [--calls 2000] [--json FILE]

The server is a child process that answers every POST with the same item, so that what is measured is the client.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

SERVER = r"""
import asyncio, json
item = {"Item": {"pk": {"S": "c"}, "sk": {"S": "entry"}, "value": {"B": "QUJD" * 500}}}
body = json.dumps(item).encode()
reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body
async def serve(reader, writer):
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            break
        size = next(int(l.split(b":")[1]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length"))
        await reader.readexactly(size)
        writer.write(reply)
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
CLIENT = r"""
import sys, time
kind, url, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
began = time.process_time()
from edgewise.aws import Aws, AwsOptions
from edgewise.dynamo import Keys, Source
lean = Source(Keys("test", "test")) if kind == "lean" else None
aws = Aws(AwsOptions(region="us-east-1", endpoint_url=url, access_key_id="test", secret_access_key="test", lean=lean))
key = {"pk": {"S": "c"}, "sk": {"S": "entry"}}
ask = lambda: aws._call("dynamodb", "get_item", {"TableName": "t", "Key": key})
ask()
ready = time.process_time() - began
for _ in range(50):
    ask()
began = time.process_time()
for _ in range(calls):
    ask()
print(ready * 1e3, (time.process_time() - began) / calls * 1e6)
aws.close()
"""


def measure(kind: str, url: str, calls: int) -> tuple[float, float]:
    """CPU ms from the first import to the first answer, and CPU µs a call after that."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, kind, url, str(calls)], capture_output=True, text=True, check=True
    )
    ready_ms, call_us = map(float, done.stdout.split())
    return ready_ms, call_us


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        rounds: dict[str, list[tuple[float, float]]] = {"boto3": [], "lean": []}
        for _ in range(options.rounds):
            for kind, found in rounds.items():
                found.append(measure(kind, url, options.calls))
    finally:
        server.kill()
        server.wait()
    result: dict[str, Any] = {"at": time.strftime("%Y-%m-%d"), "calls": options.calls, "rounds": options.rounds}
    for kind, found in rounds.items():
        result[kind] = {"ready_ms": median(r for r, _ in found), "call_us": median(c for _, c in found)}
        print(
            f"{kind:<6} first answer {result[kind]['ready_ms']:6.0f} ms CPU   {result[kind]['call_us']:6.0f} µs a call"
        )
    for figure in ("ready_ms", "call_us"):
        result[f"{figure}_ratio"] = result["boto3"][figure] / result["lean"][figure]
    print(f"boto3/lean: first answer {result['ready_ms_ratio']:.1f}, a call {result['call_us_ratio']:.1f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
