"""Resident bytes of one entry in the memory tier: the answer as JSON text, as shipped, beside the parsed object.

    edgewise bench cachememory [--entries 5000] [--json FILE]

Each figure comes from a fresh process, from the growth of its resident set.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
from tests.cache.parts import answer_of, kept_of, key_of

from edgewise.cache.build import near_of
from edgewise.cache.memory.policies import shelf
from edgewise.chat import Answer
from edgewise.clock import SystemClock

KINDS = ("text", "objects")
SHAPES = ("one line", "2 kB of text", "8 tool calls", "50 logprobs")


def completion(shape: str, number: int) -> dict[str, Any]:
    if shape == "8 tool calls":
        calls = [
            {
                "id": f"call_{number}_{n}",
                "type": "function",
                "function": {"name": "f", "arguments": f'{{"a": {number}}}'},
            }
            for n in range(8)
        ]
        answer = answer_of(None, "tool_calls", tool_calls=calls)
    else:
        answer = answer_of(f"{number} Paris is the capital of France. " * (50 if shape.startswith("2") else 1))
    found: dict[str, Any] = orjson.loads(orjson.dumps(answer.completion))
    if shape == "50 logprobs":
        tokens = [
            {"token": f"t{number}_{n}", "logprob": -0.1 * n, "bytes": [1, 2], "top_logprobs": []} for n in range(50)
        ]
        found["choices"][0]["logprobs"] = {"content": tokens}
    return found


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def grow(kind: str, shape: str, entries: int) -> dict[str, float]:
    """Bytes an entry of this process."""
    clock = SystemClock()
    near = near_of(clock, "s3-fifo", entries, 1 << 40)
    plain = shelf("s3-fifo", clock, max_entries=entries, max_bytes=1 << 40)
    before = resident()
    for number in range(entries):
        kept = kept_of(key_of(str(number)), clock.now(), 9_999, answer=Answer(completion(shape, number)))
        if kind == "text":
            near.put("acme", kept)
        else:
            plain.put(("acme", kept.entry.key), kept)
    grown = (resident() - before) / entries
    return {"resident": grown, "json": len(orjson.dumps(completion(shape, 1))), "counted": near.stats().bytes / entries}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=5_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "SHAPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, shape = options.one
        print(json.dumps(grow(kind, shape, options.entries)))
        return
    found: dict[str, Any] = {}
    print(f"{'bytes an entry':<16}{'JSON':>10}{'counted':>10}{'text':>10}{'objects':>10}")
    for shape in SHAPES:
        for kind in KINDS:
            words = [sys.executable, "-m", "bench.cachememory", "--one", kind, shape, "--entries", str(options.entries)]
            told = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
            found.setdefault(shape, {})[kind] = told
        text, objects = found[shape]["text"], found[shape]["objects"]
        print(
            f"{shape:<16}{text['json']:>10.0f}{text['counted']:>10.0f}{text['resident']:>10.0f}{objects['resident']:>10.0f}"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
