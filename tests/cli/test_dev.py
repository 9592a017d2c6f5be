"""`edgewise dev` in a process of its own, driven by the stock client: what the README's first minute does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from openai import AuthenticationError, OpenAI

from edgewise.cli.dev import _place
from edgewise.cli.main import main

QUESTION = "What is the capital of France?"
ENVIRONMENTS = "16"
"""More than there are requests: an environment that works on behind its answer is busy, and with all of them busy the
next request is throttled, as Lambda would."""


@dataclass(frozen=True, slots=True)
class Dev:
    root: str
    key: str
    greeting: str

    def client(self, key: str | None = None) -> OpenAI:
        return OpenAI(
            base_url=f"{self.root}/v1", api_key=key or self.key, max_retries=0, _strict_response_validation=True
        )


@pytest.fixture(scope="module", params=["uvicorn", "lambda"])
def dev(request: pytest.FixtureRequest) -> Iterator[Dev]:
    key = "ew_dev_of_the_test"
    words = ["--lambda", "--concurrency", ENVIRONMENTS] if request.param == "lambda" else ["--no-reload"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgewise.cli.main", "dev", *words],
        env={
            **os.environ,
            "PORT": "0",
            "EDGEWISE_ROOT_KEY": key,
            "EDGEWISE_REQUEST_LOG": "false",
            # Whether an answer is kept is asked here, not how soon a loaded machine finds it.
            "EDGEWISE_CACHE_TIMEOUT_S": "30",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        greeting = ""
        for line in process.stdout:
            greeting += line
            if "Ctrl-C" in line:
                break
        found = re.search(r"base URL   (http://127\.0\.0\.1:\d+)/v1", greeting)
        assert found is not None, "it did not come up"
        yield Dev(found[1], key, greeting)
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        assert process.wait(30) == 0


def test_it_prints_the_url_the_key_and_three_snippets(dev: Dev) -> None:
    assert f"base URL   {dev.root}/v1" in dev.greeting
    assert f"key        {dev.key}" in dev.greeting
    for snippet in ("curl ", "from openai import OpenAI", 'import OpenAI from "openai"', "very small model"):
        assert snippet in dev.greeting


def test_a_real_model_answers_and_the_second_answer_is_the_first(dev: Dev) -> None:
    with dev.client() as client:
        ask = client.chat.completions.with_raw_response
        first = ask.create(model="auto", messages=[{"role": "user", "content": QUESTION}])
        again = ask.create(model="auto", messages=[{"role": "user", "content": QUESTION}])
        assert first.headers["x-edgewise-cache"] == "miss"
        assert again.headers["x-edgewise-cache"] == "hit"
        assert int(again.headers["age"]) >= 0
        text = first.parse().choices[0].message.content
        assert text
        assert again.parse().choices[0].message.content == text
        assert again.parse().id != first.parse().id
        pieces = list(
            client.chat.completions.create(
                model="auto",
                messages=[{"role": "user", "content": QUESTION}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == text
        assert pieces[-1].usage == first.parse().usage


def test_a_live_stream_comes_in_pieces(dev: Dev) -> None:
    with dev.client() as client:
        pieces = list(
            client.chat.completions.create(
                model="local/smollm2-135m", messages=[{"role": "user", "content": "Count to three."}], stream=True,
                max_tokens=24,
            )
        )  # fmt: skip
        assert len(pieces) > 3
        assert pieces[0].choices[0].delta.role == "assistant"
        assert [p.choices[0].finish_reason for p in pieces if p.choices][-1] in ("stop", "length")


def test_the_scripted_model_calls_a_tool(dev: Dev) -> None:
    with dev.client() as client:
        answer = client.chat.completions.create(
            model="scripted/tool",
            messages=[{"role": "user", "content": "What is the weather in Rome?"}],
            tools=[
                {
                    "type": "function",
                    "function": {
                        "name": "weather",
                        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                    },
                }
            ],
        )
        assert answer.choices[0].finish_reason == "tool_calls"
        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].type == "function"
        assert calls[0].function.name == "weather"


def test_a_wrong_key_is_refused(dev: Dev) -> None:
    with dev.client("ew_wrong") as client, pytest.raises(AuthenticationError):
        client.models.list()


def test_the_page_is_there_and_says_what_the_small_model_is(dev: Dev) -> None:
    with urllib.request.urlopen(dev.root) as answer:
        page = answer.read().decode()
    assert "very small model" in page


WRONG = {
    "EDGEWISE_CACHE_MODE=of": "cache_mode",
    "EDGEWISE_SETTINGS={": "JSON",
    'EDGEWISE_ROUTING={"strategy":"foo"}': "`routing`: There is no routing strategy 'foo'; there are simple, ",
    'EDGEWISE_ALIASES={"fast":{"models":["auto"],"prefr":"cheap"}}': "`aliases.fast`: There is no routing option",
    "PORT=http": "no port",
    "PORT=65536": "no port",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_it_cannot_start_with_is_said_at_once(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(*wrong.split("="))
    with pytest.raises(SystemExit, match="2"):
        sys.exit(main(["dev"]))
    assert WRONG[wrong] in capsys.readouterr().err.splitlines()[-1]


def test_a_place_that_cannot_be_had_is_named_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["dev", "--port", str(taken.getsockname()[1])]) == 1
    assert "already in use" in capsys.readouterr().err


def test_the_port_is_held_from_the_moment_it_is_named() -> None:
    """The stand-in for AWS starts first, and takes ports of its own."""
    with _place("127.0.0.1", 0) as place, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(place.getsockname())
