"""How fast the embedded model speaks, by threads, on an idle machine and beside another busy process.

edgewise bench local_model [--threads 1 2] [--tokens 60]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from edgewise.provider.local import Engine, load_engine

SPIN = "while True: pass"


def tokens_a_second(engine: Engine, tokens: int) -> float:
    """Of the generation alone, the prompt's reading left out."""
    times: list[float] = []

    def told(event: str) -> bool:
        if (json.loads(event).get("choices") or [{}])[0].get("delta", {}).get("content"):
            times.append(time.perf_counter())
        return False

    body = {"messages": [{"role": "user", "content": "Tell me about the sea."}], "stream": True, "max_tokens": tokens}
    engine({**body, "temperature": 0.0, "repeat_penalty": 1.1}, told)
    return (len(times) - 1) / (times[-1] - times[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="edgewise bench local_model")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tokens", type=int, default=60)
    options = parser.parse_args()
    for threads in options.threads:
        begun = time.perf_counter()
        engine = load_engine(threads)
        loaded_s = time.perf_counter() - begun
        alone = tokens_a_second(engine, options.tokens)
        with subprocess.Popen([sys.executable, "-c", SPIN]) as busy:
            try:
                beside = tokens_a_second(engine, options.tokens)
            finally:
                busy.kill()
        print(
            f"{threads} thread(s): loaded in {loaded_s:.2f} s; {alone:.0f} tokens/s alone,"
            f" {beside:.1f} beside a busy process"
        )


if __name__ == "__main__":
    main()
