"""Incidents of other gateways, each as the test that would have caught it here.

Sources are the advisories named in each docstring; what is tested is this gateway's own behaviour, over HTTP where it
can be.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from edgewise.api import fields
from edgewise.chat import CacheAsk, ChatRequest
from edgewise.errors import InvalidRequest, UpstreamUnavailable
from edgewise.policy.guards.urls import check_url
from edgewise.policy.opening import open_policy
from edgewise.policy.root import NoRootKey
from edgewise.policy.token import PREFIX, digest, mint
from edgewise.query.asker import ExactAsker
from edgewise.settings import Settings
from edgewise.words import Model, Plan, Principal, Target
from tests.fakes import saying
from tests.policy.house import ROOT, PolicyHouse

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "shared" / "edgewise"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PRODUCT = [path for path in SOURCES if path.relative_to(PACKAGE).parts[0] not in ("cli", "local")]


def calls_in(path: Path) -> set[str]:
    """Dotted names of everything that a module calls."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_supply_chain_few_dependencies_none_of_them_a_gateway_and_no_pth() -> None:
    """PyPI 1.82.7/1.82.8 of another gateway ran a thief at each start of Python, from a `.pth` file."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[<>=\[;]", each)[0].lower() for each in project["dependencies"]}
    assert len(names) <= 15
    assert not names & {"litellm", "openai", "anthropic", "langchain"}
    assert all("<" in each for each in project["dependencies"]), "every range has an end"
    assert not list((CHECKOUT / "shared").rglob("*.pth"))
    for name in names:
        files = importlib.metadata.files(name) or []
        assert not [file for file in files if str(file).endswith(".pth")], name


async def test_ssti_text_of_a_user_is_never_a_template() -> None:
    """CVE-2024-2952, CVE-2026-42203: chat templates and prompts rendered by Jinja."""
    for path in PRODUCT:
        assert "jinja" not in path.read_text(encoding="utf-8").lower(), path
    house = PolicyHouse()
    text = "{{ 7*7 }} ${7*7} {% for x in ().__class__.__subclasses__() %}{{x}}{% endfor %} %(key)s {0.__class__}"
    got = await house.chat(ROOT, text)
    assert text in got.json["choices"][0]["message"]["content"] and "49" not in got.body.decode().replace(text, "")


@pytest.mark.parametrize(
    "field", ["api_base", "base_url", "api_key", "api_version", "callbacks", "extra_headers", "headers", "organization"]
)
async def test_api_base_ssrf_a_client_never_says_where_or_as_whom_we_call(field: str) -> None:
    """CVE-2024-6587: `api_base` in the body sent the provider's key to a stranger."""
    house = PolicyHouse()
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], field: "https://evil.example"}
    got = await house.client().ask("POST", "/v1/chat/completions", body)
    if got.status == 200:
        asked = house.rooms.caller.calls  # type: ignore[attr-defined]
        assert field not in asked[-1].body
    else:
        assert (got.status, got.error["param"]) == (400, field)


@pytest.mark.parametrize(
    "token",
    [
        "' OR '1'='1",
        "ew_live_' UNION SELECT * FROM keys--",
        "ew_live_" + "A" * 39,
        "ew_live_" + "\u0130" * 39,
        "a" * 100_000,
        "\x00",
        "ew_live_*",
        "key#id#root",
        "$(id)",
    ],
)
async def test_pre_auth_injection_a_key_is_only_ever_a_digest(token: str) -> None:
    """CVE-2026-42208: the key's text went into SQL before it was checked, on an error path at that."""
    house = PolicyHouse()
    try:
        token.encode("latin-1")
    except UnicodeEncodeError:
        token = token.encode("utf-8").decode("latin-1")
    got = await house.chat(token)
    assert got.status == 401 and got.error["code"] == "invalid_api_key"
    assert token not in got.body.decode()


async def test_truncated_token_keys_that_share_a_beginning_are_strangers() -> None:
    """CVE-2026-35030: a cache keyed by the first 20 characters of a token."""
    house = PolicyHouse()
    made = (await house.key(tenant="acme"))["key"]
    assert (await house.chat(made)).status == 200
    for other in (made[:-1], made[:20] + mint(lambda n: b"x" * n)[20:], made + "x", made[:-1] + "0", made.swapcase()):
        if other != made:
            assert (await house.chat(other)).status == 401
    assert len(digest(made, b"pepper")) == 64


def test_truncated_token_tenants_never_share_a_cache_key() -> None:
    """The same advisory's other half: the key names the whole tenant, and all 256 bits are used."""
    target = Target("p/m", (Model("p", "m"),))
    request = ChatRequest({"model": "m", "messages": [{"role": "user", "content": "hi"}]}, cache=CacheAsk())
    keys = [
        ExactAsker().query(Plan(Principal(tenant, "k"), request), target).key
        for tenant in ("acme", "acme2", "a" * 20 + "1", "a" * 20 + "2")
    ]
    assert len(set(keys)) == len(keys) and all(len(key) == 64 for key in keys)


async def test_badhost_the_route_decides_never_the_host_header() -> None:
    """CVE-2026-48710: a Host header that poisons `request.url.path` walked past authentication."""
    house = PolicyHouse()
    for host in ("localhost/healthz?", "example.com/healthz#", "x:80/v1/models\\@", "[::1]/healthz"):
        got = await house.client("wrong").ask("GET", "/admin/keys", headers={"host": host})
        assert got.status == 401, host
    for path in (PACKAGE / "api").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n) == "request.url"], path
    assert tuple(map(int, importlib.metadata.version("starlette").split(".")[:3])) >= (1, 0, 1)


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_commands_no_code_from_outside(path: Path) -> None:
    """CVE-2026-42271, -40217, CVE-2024-10188, -4888, -5751, CVE-2025-0628: endpoints that ran commands or code."""
    banned = {"eval", "exec", "compile", "__import__", "ast.literal_eval", "pickle.loads", "pickle.load", "os.system"}
    found = {name for name in calls_in(path) if name in banned or name.startswith("subprocess.")}
    assert not found


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_delete_no_path_of_a_request_is_ever_a_file(path: Path) -> None:
    """CVE-2024-4888: an id in a request named a file on the server, which was deleted. Here files are objects in a
    bucket, found by the row of their tenant; the product writes and deletes nothing on its own disk."""
    banned = {"os.remove", "os.unlink", "os.rename", "os.rmdir", "shutil.rmtree", "shutil.move", "tempfile.mktemp"}
    calls = calls_in(path)
    assert not calls & banned
    if path.name == "compile.py":
        return  # writes the catalogue when the product is built; nothing that serves imports it
    assert not [name for name in calls if name.endswith((".unlink", ".write_text", ".write_bytes", ".rmdir"))]


@pytest.mark.parametrize(
    "key_id", ["' OR '1'='1", "x' UNION SELECT 1--", "../../etc/passwd", "key#id#root", "*", "%00"]
)
async def test_injection_after_authentication_ids_are_only_ever_compared(key_id: str) -> None:
    """CVE-2024-4890, -5225, CVE-2025-45809: ids of administrators' requests went into SQL."""
    house = PolicyHouse()
    made = await house.key(tenant="acme")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        got = await house.client().ask(method, f"/admin/keys/{quote(key_id, safe='')}{path}")
        assert got.status == 404, (method, key_id, got.status)
    assert (await house.chat(made["key"])).status == 200


async def test_role_bypass_every_administrative_route_wants_the_scope() -> None:
    """CVE-2025-0628, CVE-2024-6825: a viewer's key reached what was an administrator's."""
    house = PolicyHouse()
    plain = (await house.key(tenant="acme", terms={"scopes": ["*"]}))["key"]
    asked = set()
    for route in house.app.router.routes:
        path = getattr(route, "path", "")
        if not path.removeprefix("/v1").startswith("/admin"):
            continue
        for method in (getattr(route, "methods", None) or set()) - {"HEAD"}:
            body: dict[str, Any] | None = {} if method not in ("GET", "DELETE") else None
            got = await house.client(plain).ask(method, re.sub(r"\{[^}]+\}", "x", path), body)
            assert (got.status, got.error["code"]) == (403, "scope_missing"), (method, path)
            asked.add((method, path))
    assert len(asked) >= 20


async def test_callbacks_no_setting_of_a_key_names_code_or_a_place() -> None:
    """CVE-2024-5751, CVE-2024-4889: callbacks and guardrails of a key's configuration were imported and run."""
    house = PolicyHouse()
    for name in ("callbacks", "success_callback", "guardrail_code", "post_call_rules", "custom_handler", "api_base"):
        got = await house.client().ask("POST", "/admin/keys", {"terms": {name: "os.system"}})
        assert (got.status, got.error["param"]) == (400, f"terms.{name}")


async def test_sessions_there_are_none_to_outlive_their_key() -> None:
    """CVE-2026-12772, -12795, -12796: sessions that never ended, and routes that forgot to ask for one. Here every
    request shows its key: nothing is set in a browser, and a key that has ended ends at once."""
    house = PolicyHouse()
    made = await house.key(tenant="acme", expires_at=house.clock.now() + 60)
    answers = [await house.chat(made["key"]), await house.client().ask("GET", "/admin/stats")]
    assert [got.status for got in answers] == [200, 200]
    assert not [got for got in answers if "set-cookie" in got.headers]
    await house.clock.advance(61)
    got = await house.client(None).ask("GET", "/v1/usage", headers={"cookie": f"session={made['key']}; token={ROOT}"})
    assert got.status == 401 and (await house.chat(made["key"])).status == 401


@pytest.mark.parametrize(
    "form",
    [
        {"is_root": True},
        {"id": "root"},
        {"tenant": "root"},
        {"terms": {"scopes": ["*", "admin"]}},
        {"terms": {"routes": ["/admin"]}},
        {"user_role": "proxy_admin"},
        {"terms": {"is_root": True}},
    ],
)
async def test_self_escalated_scopes_a_key_cannot_write_its_own_rights(form: dict[str, Any]) -> None:
    """CVE-2026-47101, -47102: a key minted its own allowed routes, and its role was a field of the body."""
    house = PolicyHouse()
    maker = (await house.key(tenant="acme", terms={"scopes": ["chat", "admin"]}))["key"]
    got = await house.client(maker).ask("POST", "/admin/keys", form)
    assert got.status in (400, 403, 404)
    plain = (await house.key(tenant="acme", terms={"scopes": ["chat"]}))["key"]
    assert (await house.client(plain).ask("POST", "/admin/keys", form)).status == 403


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=" + "-" * 100_000,
        "multipart/form-data; boundary=",
        "multipart/form-data",
        'multipart/form-data; boundary="a\\',
        "multipart/form-data; boundary=" + "a;" * 5_000,
    ],
)
async def test_multipart_boundary_is_bounded(content_type: str) -> None:
    """CVE-2024-8984: a long boundary kept the server busy for ever."""
    house = PolicyHouse()
    got = await house.client().ask(
        "POST", "/v1/chat/completions", raw=b"--" + b"-" * 50_000, headers={"content-type": content_type}
    )
    assert got.status in (400, 413, 415)


CANARY = "sk-proj-CANARY" + "x" * 30


async def test_keys_in_logs_a_secret_never_appears_in_any_output() -> None:
    """CVE-2024-9606, CVE-2025-0330, CVE-2025-11203: keys in logs, in error callbacks, in health output."""
    house = PolicyHouse(script=lambda request: saying(f"the answer holds {CANARY}"))
    key = (await house.key(tenant="acme", name="ci"))["key"]
    message = [{"role": "user", "content": CANARY}]
    answers = [
        await house.chat(CANARY),
        await house.chat(key, CANARY, model=CANARY),
        await house.chat(key, CANARY, user=CANARY, metadata={"k": CANARY}),
        await house.chat(key, CANARY, temperature=CANARY),
        await house.chat(key, CANARY, headers={"x-request-id": CANARY, "user-agent": CANARY, "x-edgewise-x": CANARY}),
        await house.client(key).ask("POST", f"/v1/{CANARY}", {"messages": message}),
        await house.client(key).ask("POST", "/v1/chat/completions", raw=CANARY.encode()),
        await house.client(key).ask("GET", "/v1/models/" + CANARY),
        await house.client().ask("POST", "/admin/keys", {CANARY: 1}),
        await house.client().ask("GET", f"/admin/keys/{CANARY}"),
        await house.client(key).ask(
            "POST", "/v1/feedback", {"request_id": house.clock.token("req_"), "score": 1, "comment": CANARY}
        ),
        await house.client(None).ask("GET", "/healthz", headers={"authorization": f"Bearer {CANARY}"}),
    ]
    logged = b"".join(house.lines).decode()
    assert logged and CANARY not in logged and key not in logged and ROOT not in logged
    assert "gen_ai.request.model" in logged
    refused = [got for got in answers if got.status in (401, 500)]
    assert refused
    for got in refused:
        assert CANARY not in got.body.decode() and CANARY not in str(got.headers)
    for got in answers:
        assert ROOT not in got.body.decode() and (key not in got.body.decode())
    health = await house.client(None).ask("GET", "/healthz")
    assert health.json == {"status": "ok"}


async def test_keys_in_logs_an_error_nobody_thought_of_says_nothing() -> None:
    """The same class: the inner text of an exception went to the client."""

    def broken(_: ChatRequest) -> Any:
        raise RuntimeError(f"connection string {CANARY}")

    house = PolicyHouse(script=broken)
    got = await house.chat(ROOT)
    assert got.status == 500 and CANARY not in got.body.decode()
    assert CANARY not in b"".join(house.lines).decode()


async def test_unauthenticated_routes_tell_nothing() -> None:
    """A well-known scanner's template: `/model/info` answered whoever asked when no master key was set."""
    house = PolicyHouse()
    open_paths = {"/healthz", "/readyz", "/openapi.json", "/"}
    seen = set()
    for route in house.app.router.routes:
        path = getattr(route, "path", "")
        methods = getattr(route, "methods", None) or ()
        if path.removeprefix("/v1") in open_paths or not methods:
            continue
        real = re.sub(r"\{[^}]+\}", "x", path)
        for method in methods - {"HEAD"}:
            for key in (None, "ew_wrong"):
                got = await house.client(key).ask(method, real, {} if method not in ("GET", "DELETE") else None)
                assert got.status == 401, (method, path, got.status)
            seen.add(path)
    assert {"/v1/models", "/admin/keys", "/v1/usage", "/admin/stats", "/v1/chat/completions"} <= seen


def test_unauthenticated_without_a_root_key_the_gateway_stays_shut() -> None:
    """The same incident's cause: no key configured meant no key asked."""
    from edgewise.aws import Aws
    from edgewise.clock import FakeClock

    with pytest.raises(NoRootKey):
        open_policy(Settings(), clock=FakeClock(), aws=Aws())


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://[::ffff:169.254.169.254]/",
        "https://example.com\\@169.254.169.254/",
        "https://127.0.0.1:9001/2018-06-01/runtime/invocation/next",
        "gopher://127.0.0.1:6379/",
    ],
)
async def test_image_url_ssrf_nothing_private_is_fetched_or_passed_on(url: str) -> None:
    """CVE-2025-6242, CVE-2026-24779: image URLs into the server's own network, past a check by parser differences."""
    with pytest.raises(InvalidRequest):
        check_url(url)
    house = PolicyHouse()
    part = {"type": "image_url", "image_url": {"url": url}}
    got = await house.client().ask(
        "POST", "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": [part]}]}
    )
    assert (got.status, got.error["code"]) == (400, "url_not_allowed")


async def test_bombs_deep_wide_and_odd_bodies_are_400_and_never_500() -> None:
    """JSON that breaks parsers: depth, digits, NaN, lone surrogates; and schemas that grow when they are read."""
    house = PolicyHouse()
    bombs = [
        b"[" * 100_000,
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        b'{"model": "m", "messages": ' + b"9" * 10_000 + b"}",
        b'{"model": "m", "temperature": NaN, "messages": []}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b"\xff\xfe",
    ]
    for raw in bombs:
        assert (await house.client().ask("POST", "/v1/chat/completions", raw=raw)).status == 400
    message = [{"role": "user", "content": "x"}]
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(40):
        deep = {"type": "object", "properties": {"a": deep}}
    schemas: list[Any] = [
        {"$ref": "https://evil.example/schema.json"},
        {"type": "string", "pattern": "(a+)+$" * 400},
        {"enum": list(range(3_000))},
        {"anyOf": [{"type": "string"}] * 21_000},
        deep,
    ]
    for schema in schemas:
        form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
        body = {"model": "m", "messages": message, "response_format": form}
        got = await house.client().ask("POST", "/v1/chat/completions", body)
        assert got.status == 400, json.dumps(schema)[:80]


def test_a_clients_regular_expression_is_never_run_here() -> None:
    """A pattern in a schema is data: no module compiles what a request brought."""
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("re.compile", "re.match", "re.search"):
                assert 'pattern"]' not in ast.unparse(node) and "schema" not in ast.unparse(node), path


async def test_a_cached_error_is_never_served_as_an_answer() -> None:
    """Another gateway stored an upstream's 500, and served it as a 200."""
    replies = [UpstreamUnavailable("oops"), saying("fine")]
    house = PolicyHouse(script=lambda _: replies.pop(0))
    first, second = await house.chat(ROOT), await house.chat(ROOT)
    assert first.status >= 500 and second.status == 200
    assert second.json["choices"][0]["message"]["content"] == "fine"


def test_a_key_is_known_by_its_checksum_to_secret_scanners() -> None:
    assert mint(lambda n: b"\0" * n).startswith(PREFIX)
    assert fields.CHAT
