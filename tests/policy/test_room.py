"""The door: who gets in, and what the room does when it cannot know."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from edgewise.aws import Aws, AwsError
from edgewise.chat import CacheAsk, ChatRequest
from edgewise.clock import FakeClock
from edgewise.errors import NotAllowed, NotAuthenticated, Unavailable
from edgewise.policy.bans import Ban
from edgewise.policy.opening import open_policy
from edgewise.policy.room import PolicyRoom, scope_of
from edgewise.policy.root import NoRootKey, hash_of
from edgewise.policy.secretsmanager import KEEP_S, SecretsManagerVault
from edgewise.settings import Settings
from edgewise.words import Choice, Credentials
from tests.policy.rig import Rig

ROOT = "ew_root_3c1f9a"
CHAT = "/v1/chat/completions"


def room(clock: FakeClock | None = None) -> PolicyRoom:
    return open_policy(Settings(root_key=ROOT), clock=clock or FakeClock(), aws=Aws())


async def test_the_root_key_opens_and_nothing_else_does() -> None:
    principal = await room().identify(Credentials(ROOT, CHAT))
    assert principal.is_root
    for token in (None, "", "ew_root_3c1f9", ROOT + "x", ROOT.upper(), "\ud800", "é"):
        with pytest.raises(NotAuthenticated) as caught:
            await room().identify(Credentials(token, CHAT))
        assert caught.value.status == 401
        assert caught.value.body()["error"]["code"] == "invalid_api_key"
        assert not token or token not in caught.value.message


async def test_a_wrong_key_is_refused_in_the_words_that_clients_look_for() -> None:
    """LiteLLM's client takes any other words for a bad request."""
    with pytest.raises(NotAuthenticated, match="Incorrect API key provided"):
        await room().identify(Credentials("ew_wrong", CHAT))


def test_without_a_root_key_the_gateway_does_not_start() -> None:
    with pytest.raises(NoRootKey):
        open_policy(Settings(), clock=FakeClock(), aws=Aws())


async def test_on_loopback_it_starts_without_a_key() -> None:
    policy = open_policy(Settings(), clock=FakeClock(), aws=Aws(), loopback=True)
    assert (await policy.identify(Credentials(None, CHAT))).is_root


async def test_a_plan_passes_the_request_through_and_budgets_are_off() -> None:
    policy = room()
    principal = await policy.identify(Credentials(ROOT, CHAT))
    request = ChatRequest({"model": "m", "messages": []}, cache=CacheAsk(namespace="mine"))
    plan = await policy.plan(principal, request, Credentials(ROOT, CHAT))
    assert plan.request is request
    assert plan.cache.namespace == "mine"
    hold = await policy.reserve(plan, Choice((), "fixed", "as asked"))
    await policy.settle(hold, [])
    await policy.close(plan)


def test_scopes_are_the_first_word_of_the_route() -> None:
    assert scope_of("/v1/chat/completions") == "chat"
    assert scope_of("/chat/completions") == "chat"
    assert scope_of("/admin/keys/{id}") == "admin"
    assert scope_of("/") == ""


class SecretsService(Aws):
    """Answers `get_secret_value` from `text`, or fails while it is None."""

    def __init__(self, text: str | None) -> None:
        super().__init__()
        self.text = text
        self.calls = 0

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        assert (service, operation) == ("secretsmanager", "get_secret_value")
        self.calls += 1
        if self.text is None:
            raise AwsError("InternalServiceError", "no")
        return {"SecretString": self.text}


async def test_secrets_are_read_once_and_kept_while_a_refresh_fails() -> None:
    clock, service = FakeClock(), SecretsService('{"root_key": "r1", "pepper": "p"}')
    vault = SecretsManagerVault(service, "name", clock)
    assert (await vault.secrets()).is_root(hash_of("r1"))
    assert (await vault.secrets()).pepper == b"p"
    assert service.calls == 1
    service.text = None
    await clock.advance(KEEP_S + 1)
    assert (await vault.secrets()).is_root(hash_of("r1"))
    service.text = "r2"
    await clock.advance(KEEP_S + 1)
    assert (await vault.secrets()).is_root(hash_of("r2"))


@pytest.mark.parametrize("text", [None, "", "{", '{"root_key": ""}', '{"pepper": "x"}'])
async def test_without_the_secret_nobody_gets_in(text: str | None) -> None:
    policy = open_policy(Settings(root_key_secret="name"), clock=FakeClock(), aws=SecretsService(text))
    with pytest.raises(Unavailable):
        await policy.identify(Credentials("anything", CHAT))


async def test_work_taken_in_earlier_is_done_as_the_key_stands_now(rig: Rig) -> None:
    """A key that was revoked, banned or narrowed after it submitted spends nothing further."""
    await rig.key(scopes=["batches", "chat"])
    held = await rig.room.impersonate("acme", "k_1", CHAT)
    assert (held.tenant, held.key_id) == ("acme", "k_1")
    with pytest.raises(NotAllowed, match="'embeddings' scope"):
        await rig.room.impersonate("acme", "k_1", "/v1/embeddings")
    with pytest.raises(NotAuthenticated):
        await rig.room.impersonate("other", "k_1", CHAT)
    row = await rig.keys.by_id("k_1")
    assert row is not None
    await rig.keys.save(replace(row, revoked_at=rig.clock.now()))
    with pytest.raises(NotAuthenticated):
        await rig.room.impersonate("acme", "k_1", CHAT)


async def test_many_lines_of_a_key_read_it_once_each_and_its_tenant_once_in_a_while(rig: Rig) -> None:
    await rig.key(scopes=["batches", "chat"])
    read: Counter[str] = Counter()

    def counted(name: str) -> Any:
        inner = getattr(rig.keys, name)

        def read_it(asked: str) -> Any:
            read[name] += 1
            return inner(asked)

        return read_it

    rig.keys.by_id, rig.keys.tenant = counted("by_id"), counted("tenant")  # type: ignore[method-assign]
    for _ in range(5):
        await rig.room.impersonate("acme", "k_1", CHAT)
    assert read == {"by_id": 5, "tenant": 1}
    await rig.tenant("acme", {"per": "day", "usd": "1"})
    await rig.clock.advance(10)
    found = await rig.room.impersonate("acme", "k_1", CHAT)
    assert len(found.settings["tenant_budgets"]) == 1, "a change is known after seconds"


async def test_a_worker_that_has_just_started_knows_the_bans(rig: Rig) -> None:
    await rig.key()
    await rig.bouncer.store.put(Ban("key:k_1", "bad keys", rig.clock.now(), rig.clock.now() + 300))
    with pytest.raises(NotAllowed, match="refused"):
        await rig.room.impersonate("acme", "k_1", CHAT)
    rig.clock.time += 301
    assert (await rig.room.impersonate("acme", "k_1", CHAT)).key_id == "k_1"
    assert (await rig.room.impersonate("root", "root", CHAT)).is_root
