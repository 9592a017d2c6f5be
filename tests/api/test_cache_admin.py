"""The cache in the whole corridor, and its administration over HTTP and from the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from typer.testing import CliRunner

from edgewise.api import cache_admin
from edgewise.api.app import app
from edgewise.api.door import credentials_of
from edgewise.cache.build import near_of, room_of, store_of
from edgewise.cache.options import CacheOptions
from edgewise.cache.room import CacheRoom
from edgewise.cli import cache as verb
from edgewise.cli import costs
from edgewise.clock import FakeClock
from edgewise.settings import Settings
from edgewise.words import Credentials, Principal
from tests.api.client import Client, Got
from tests.fakes import FakePolicy, rooms

ROOT, ADMIN, USER = "ew_root", "ew_admin", "ew_user"


class Policy(FakePolicy):
    """Three keys: root, acme's administrator, and umbrella's ordinary one."""

    async def identify(self, credentials: Credentials) -> Principal:
        if credentials.token == ROOT:
            return Principal("root", "root", is_root=True)
        if credentials.token == ADMIN:
            return Principal("acme", "key_a", scopes=frozenset({"*", "admin"}))
        return Principal("umbrella", "key_u")


class Gateway:
    """The app with a real cache room in front of fakes."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.room = self.fresh_room()
        self.policy = Policy()
        self.app = app(
            rooms(clock=self.clock, policy=self.policy, cache=self.room),
            Settings(),
            cache_admin.routes(lambda: self.room, self.identify, self.clock),
            clock=self.clock,
        )

    def fresh_room(self) -> CacheRoom:
        options = CacheOptions(keep_requests=True)
        return room_of(
            self.clock, options, near_of(self.clock, "lru", 99, 999_999), store_of(self.clock, None, None, 1)
        )

    async def identify(self, request: Request) -> Principal:
        return await self.policy.identify(credentials_of(request))

    async def ask(self, key: str, method: str, path: str, body: Any = None, raw: bytes | None = None) -> Got:
        at, _, query = path.partition("?")
        return await Client(self.app, key).ask(method, at, body, raw=raw, query=query.encode())

    async def chat(self, key: str, text: str, **rest: Any) -> Got:
        return await Client(self.app, key).chat(text, **rest)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def test_hit_and_miss_as_the_client_sees_them(gateway: Gateway) -> None:
    """Asked twice, answered once; the second says that it is a hit, how old, and why it is free."""
    first = await gateway.chat(USER, "hello")
    await gateway.clock.advance(3)
    second = await gateway.chat(USER, "hello")
    assert [got.headers["x-edgewise-cache"] for got in (first, second)] == ["miss", "hit"]
    assert second.headers["age"] == "3"
    assert first.json["choices"] == second.json["choices"]
    assert first.json["id"] != second.json["id"]


async def test_who_may_see_it(gateway: Gateway) -> None:
    """An administrator and root; an ordinary key never, and an administrator only their own tenant."""
    assert (await gateway.ask(USER, "GET", "/admin/cache")).status == 403
    assert (await gateway.ask(ADMIN, "DELETE", "/admin/cache?tenant=umbrella&all=true")).status == 403
    await gateway.chat(USER, "hello")
    for key, removed in ((ADMIN, 0), (ROOT, 1)):
        got = await gateway.ask(key, "DELETE", "/admin/cache?all=true")
        assert (got.status, got.json["removed"]) == (200, removed)


async def test_counters(gateway: Gateway) -> None:
    await gateway.chat(USER, "hello")
    await gateway.chat(USER, "hello")
    told = (await gateway.ask(ROOT, "GET", "/admin/cache")).json
    assert (told["object"], told["hits"], told["misses"], told["hit_rate"]) == (
        "cache",
        {"exact": 1},
        {"absent": 1},
        0.5,
    )
    assert told["memory"]["entries"] == 1


async def test_purging_by_tag(gateway: Gateway) -> None:
    """What was tagged is asked anew, the rest is not."""
    await gateway.chat(USER, "tagged", cache={"tags": ["beta"]})
    await gateway.chat(USER, "plain")
    got = await gateway.ask(ROOT, "DELETE", "/admin/cache?tag=beta&tenant=umbrella")
    assert got.json["removed"] == 1
    await gateway.clock.advance(1)
    assert (await gateway.chat(USER, "tagged")).headers["x-edgewise-cache"] == "miss"
    assert (await gateway.chat(USER, "plain")).headers["x-edgewise-cache"] == "hit"


@pytest.mark.parametrize("query", ["", "?tenant=acme", "?older_than_s=soon", "?older_than_s=-1", "?older_than_s=nan"])
async def test_a_purge_must_be_meant(gateway: Gateway, query: str) -> None:
    """Nothing said, or nonsense, removes nothing."""
    got = await gateway.ask(ROOT, "DELETE", f"/admin/cache{query}")
    assert (got.status, got.error["type"]) == (400, "invalid_request_error")


async def test_export_and_import(gateway: Gateway) -> None:
    """What one deployment exported another serves, without asking anybody."""
    await gateway.chat(USER, "hello")
    lines = (await gateway.ask(ROOT, "GET", "/admin/cache/entries?namespace=default")).body
    assert lines.count(b"\n") == 1
    assert (await gateway.ask(ROOT, "GET", "/admin/cache/entries?namespace=other")).body == b""
    other = Gateway()
    assert (await other.ask(ADMIN, "POST", "/admin/cache/entries", raw=lines)).status == 403
    got = await other.ask(ROOT, "POST", "/admin/cache/entries", raw=lines)
    assert got.json == {"object": "cache.import", "imported": 1, "expired": 0}
    assert (await other.chat(USER, "hello")).headers["x-edgewise-cache"] == "hit"
    bad = await other.ask(ROOT, "POST", "/admin/cache/entries", raw=lines + b"{}\n")
    assert (bad.status, bad.error["message"]) == (400, "Line 2 is not an exported entry.")


async def test_what_was_asked_most(gateway: Gateway) -> None:
    """Yesterday's questions, of the caller's tenant, most asked first."""
    for text in ("often", "often", "once"):
        await gateway.chat(USER, text)
    await gateway.clock.advance(60)
    await gateway.chat(USER, "often")
    await gateway.clock.advance(86_400)
    got = await gateway.ask(ROOT, "GET", "/admin/cache/asked?tenant=umbrella")
    assert [(row["times"], row["body"]["messages"][0]["content"]) for row in got.json["data"]] == [
        (3, "often"),
        (1, "once"),
    ]
    assert (await gateway.ask(ROOT, "GET", "/admin/cache/asked?limit=0")).status == 400
    gateway.room.popular = None
    assert "KEEP_REQUESTS" in (await gateway.ask(ROOT, "GET", "/admin/cache/asked")).error["message"]


class Shell:
    """The `edgewise cache` command, with the app in place of the network, and batches that are done at once."""

    def __init__(self, gateway: Gateway, patch: pytest.MonkeyPatch) -> None:
        self.gateway = gateway
        self.batches: list[bytes] = []
        patch.setattr(verb, "send", self.send)
        patch.setattr(verb, "call", self.call)
        patch.setattr(costs, "call", self.call)

    def send(self, method: str, path: str, content: bytes | None = None, content_type: str = "") -> bytes:
        if path == "/v1/files":
            assert content is not None
            assert content_type.startswith("multipart/form-data; boundary=")
            self.batches.append(content)
            return b'{"id": "file-1"}'
        got = asyncio.run(self.gateway.ask(ROOT, method, path, raw=content))
        assert got.status == 200, got.body
        return got.body

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if path == "/v1/batches":
            return {"id": "batch_1", "status": "in_progress"}
        if path == "/v1/batches/batch_1":
            lines = self.batches[-1].count(b'"custom_id"')
            return {"id": "batch_1", "status": "completed", "request_counts": {"completed": lines, "failed": 0}}
        if path == "/v1/chat/completions":
            assert body is not None
            assert body["routing"] == {"dry_run": True}
            return {"object": "edgewise.route", "expected": {"cost_usd": "0.001"}, "worst_usd": "0.002"}
        return json.loads(self.send(method, path, json.dumps(body).encode() if body else None))

    def run(self, *words: str, answer: str | None = None) -> str:
        result = CliRunner().invoke(verb.app, list(words), input=answer)
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture
def shell(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(gateway, monkeypatch)


def test_the_command_warms_after_saying_what_it_costs(shell: Shell, tmp_path: Path) -> None:
    """The estimate first, then a question, then the batch path."""
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    told = shell.run("warm", str(tmp_path / "prompts.txt"), "--poll-s", "0", answer="y\n")
    assert "2 requests, about $0.0020, at the most $0.0040 (from a sample of 2)" in told
    assert "2 answered, 0 failed" in told
    assert b'"custom_id":"warm-2"' in shell.batches[0]
    refused = CliRunner().invoke(verb.app, ["warm", str(tmp_path / "prompts.txt")], input="n\n")
    assert (refused.exit_code, len(shell.batches)) == (1, 1)


def test_the_command_warms_what_was_asked(shell: Shell) -> None:
    """From the log of a day."""

    async def some_traffic() -> None:
        for _ in range(2):
            await shell.gateway.chat(ROOT, "popular")
        await shell.gateway.clock.advance(60)
        await shell.gateway.chat(ROOT, "popular")
        await shell.gateway.clock.advance(86_400)

    asyncio.run(some_traffic())
    told = shell.run("warm", "--from-log", "--yes", "--json", "--poll-s", "0")
    assert '{"completed": 1, "failed": 0}' in told
    assert b"popular" in shell.batches[0]


def test_the_command_needs_a_list(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("{\n")
    for words in (["warm"], ["warm", str(tmp_path / "bad.jsonl")]):
        assert CliRunner().invoke(verb.app, words).exit_code == 2


def test_the_command_moves_and_purges(shell: Shell, tmp_path: Path) -> None:
    """Export, purge, import, and the counters afterwards."""
    asyncio.run(shell.gateway.chat(USER, "hello"))
    file = str(tmp_path / "entries.jsonl")
    assert "1 entries in" in shell.run("export", file)
    assert shell.run("purge", "--model", "nobody/none") == "0 entries removed\n"
    assert shell.run("purge", "--all", "--tenant", "umbrella") == "1 entries removed\n"
    asyncio.run(shell.gateway.clock.advance(10))
    assert shell.run("import", file) == "1 entries imported, 0 had expired\n"
    # The purge is still obeyed, but what is imported after it is meant to be there.
    assert asyncio.run(shell.gateway.chat(USER, "hello")).headers["x-edgewise-cache"] == "hit"
    assert "hit rate 50.0%" in shell.run("stats")
    assert json.loads(shell.run("stats", "--json"))["object"] == "cache"
