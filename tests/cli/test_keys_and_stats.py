"""`edgewise keys` and `edgewise stats` against a gateway on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgewise.cli.main import main
from tests.policy.house import ROOT, PolicyHouse


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[PolicyHouse]:
    """The app behind a plain HTTP server, and the environment that points at it."""
    house = PolicyHouse()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            path, _, query = self.path.partition("?")
            key = (self.headers.get("authorization") or "").removeprefix("Bearer ")
            got = asyncio.run(
                house.client(key).ask(self.command, path, raw=raw, query=query.encode()),
            )
            self.send_response(got.status)
            self.send_header("content-length", str(len(got.body)))
            self.end_headers()
            self.wfile.write(got.body)

        def log_message(self, format: str, *args: object) -> None:
            return None

    for verb in ("GET", "POST", "DELETE"):
        setattr(Handler, f"do_{verb}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("EDGEWISE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("EDGEWISE_KEY", ROOT)
    monkeypatch.setenv("COLUMNS", "200")
    yield house
    server.shutdown()
    server.server_close()
    thread.join()


def run(*words: str) -> int:
    try:
        return main(list(words))
    except SystemExit as done:
        return int(done.code or 0)


def test_a_key_is_made_listed_rotated_and_revoked(house: PolicyHouse, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "create", "ci", "--tenant", "acme", "--per-day", "2.50", "--rpm", "60", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["terms"]["budgets"] == [{"per": "day", "usd": "2.50"}]
    assert run("keys", "list", "--tenant", "acme") == 0
    listed = capsys.readouterr().out
    assert "acme" in listed and made["key"] not in listed
    assert run("keys", "rotate", made["id"]) == 0
    fresh = capsys.readouterr().out.strip()
    assert asyncio.run(house.client(fresh).ask("GET", "/v1/models")).status == 200
    assert run("keys", "revoke", made["id"]) == 0
    assert asyncio.run(house.client(fresh).ask("GET", "/v1/models")).status == 401


def test_a_refusal_is_told_and_ends_with_one(house: PolicyHouse, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "revoke", "key_nothing") == 1
    assert "404: There is no such key." in capsys.readouterr().err


def test_what_is_wrong_on_the_command_line_is_said_in_a_line(
    house: PolicyHouse, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("keys", "create", "x", "--terms", "{bad") == 2
    assert run("models", "set", "a/b", "--row", "[]") == 2
    assert run("keys", "create", "x", "--terms", '{"no_such_term": 1}') == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("edgewise: --terms is not JSON: ")
    assert told[1] == "edgewise: --row is not a JSON object"
    assert "no_such_term" in told[2]
    assert run("stats", "--every-s", "x") == 2
    assert "Traceback" not in capsys.readouterr().err
    for words in (("cache", "warm"), ("cache", "import"), ("route", "replay")):
        assert run(*words, "no-such-file") == 2
        assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("EDGEWISE_KEY", "")
    assert run("keys", "list") == 1
    assert "EDGEWISE_KEY" in capsys.readouterr().err


def test_no_limit_is_left_out_on_the_way(house: PolicyHouse, capsys: pytest.CaptureFixture[str]) -> None:
    """A key is made with all of its limits or not at all: one that is 0 is no wish for none."""
    assert run("keys", "create", "x", "--rpm", "0") == 1
    assert "requests_per_minute" in capsys.readouterr().err
    assert run("keys", "create", "x", "--rpm", "5", "--terms", '{"limits": {"in_flight": 2}}', "--json") == 0
    limits = json.loads(capsys.readouterr().out)["terms"]["limits"]
    assert {name: limit for name, limit in limits.items() if limit} == {"requests_per_minute": 5, "in_flight": 2}


def test_words_of_any_script_get_as_far_as_the_gateway(house: PolicyHouse, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "revoke", "schlüssel 1") == 1
    assert "404" in capsys.readouterr().err
    assert run("keys", "create", "x", "--tenant", "a", "--json") == 0
    capsys.readouterr()
    assert run("keys", "list", "--tenant", "ä&tenant=a", "--json") == 0
    assert json.loads(capsys.readouterr().out)["data"] == []


@pytest.mark.parametrize(
    ("name", "value", "status", "told"),
    [
        ("EDGEWISE_KEY", "ew_…", 2, "EDGEWISE_KEY"),
        ("EDGEWISE_URL", "http://no such host", 1, "does not answer"),
        ("EDGEWISE_URL", "http://127.0.0.1:1", 1, "does not answer"),
    ],
)
def test_an_environment_that_cannot_work_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, status: int, told: str
) -> None:
    monkeypatch.setenv(name, value)
    assert run("keys", "list") == status
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_file_that_cannot_be_written_or_read_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("\n")
    assert run("distill", "export", str(text), str(tmp_path / "no" / "folder")) == 1
    assert capsys.readouterr().err.endswith("folder: No such file or directory\n")
    text.write_text("no JSON\n")
    assert run("distill", "export", str(text), str(tmp_path / "out")) == 2
    assert "line 1 of" in capsys.readouterr().err


def test_a_table_gives_ids_whole(
    house: PolicyHouse, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little room there is: they are what the other commands ask for."""
    monkeypatch.setenv("COLUMNS", "80")
    run(
        "keys", "create", "the evaluation that runs every night", "--tenant", "some-corporation-of-many-words", "--json"
    )
    made = json.loads(capsys.readouterr().out)
    run("keys", "list")
    assert made["id"] in capsys.readouterr().out


def test_a_narrow_terminal_gets_fewer_columns(
    house: PolicyHouse, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    asyncio.run(house.chat(ROOT))
    assert run("stats") == 0
    shown = capsys.readouterr().out
    assert "requests" in shown and "saved" not in shown and "…" not in shown


def test_stats_show_a_line_a_model(house: PolicyHouse, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(house.chat(ROOT))
    assert run("stats") == 0
    assert "P99 ms" in capsys.readouterr().out
    assert run("stats", "--own", "--json") == 0
    assert json.loads(capsys.readouterr().out)["total"]["requests"] == 1
