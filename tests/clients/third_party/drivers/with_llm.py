"""The `llm` command: a person at a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checked import CUT, KEY, MODEL, URL, check, run

FOLDER = Path(tempfile.mkdtemp(prefix="llm-"))
(FOLDER / "extra-openai-models.yaml").write_text(
    f"- model_id: here\n  model_name: {MODEL}\n  api_base: {URL}\n  api_key_name: here\n"
    "  supports_tools: true\n  supports_schema: true\n"
)
(FOLDER / "keys.json").write_text(json.dumps({"here": KEY}))


def llm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("llm")), *words],
        env={**os.environ, "LLM_USER_PATH": str(FOLDER)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def said(*words: str) -> str:
    ran = llm(*words)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@check
def prompt() -> None:
    assert said("-m", "here", "ten green bottles") == "ten green bottles"


@check
def no_stream() -> None:
    assert said("-m", "here", "--no-stream", "nine green bottles") == "nine green bottles"


@check
def system_prompt() -> None:
    assert said("-m", "here", "-s", "Be brief.", "eight") == "eight"


@check
def schema() -> None:
    assert set(json.loads(said("-m", "here", "--schema", "name, age int", "Invent a dog"))) == {"name", "age"}


@check
def conversation() -> None:
    assert said("-m", "here", "-c", "and again") == "and again"


@check
def tools() -> None:
    code = "def multiply(x: int, y: int) -> int:\n    'Multiply two numbers.'\n    return x * y\n"
    told = llm("-m", "here", "--functions", code, "--td", "multiply 6 by 7")
    assert told.returncode == 0 and "42" in told.stderr, told


@check
def usage() -> None:
    assert "Token usage" in llm("-m", "here", "-u", "seven").stderr


@check
def cut_stream_fails() -> None:
    ran = llm("-m", "here", CUT)
    assert ran.returncode != 0, ran.stdout


run()
