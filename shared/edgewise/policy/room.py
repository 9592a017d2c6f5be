"""The policy room: may this caller ask this, and with whose money?

In order: the key is known, its scopes cover the route, the request passes the guards, the limits have room, and the
worst case fits the budget. Everything here fails closed: when the room cannot know, the answer is no, by name.

It knows nothing of caches, models or providers. What it must remember of a request until it is settled travels in
`Plan.context`, which no other room reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgewise.aws import Aws
from edgewise.chat import ChatRequest
from edgewise.clock import Clock
from edgewise.errors import NotAllowed, NotAuthenticated
from edgewise.policy.root import FixedVault, NoRootKey, Secrets, Vault
from edgewise.settings import Settings
from edgewise.words import Attempt, CachePolicy, Choice, Credentials, Plan, Principal

ROOT = Principal(tenant="root", key_id="root", name="root", is_root=True)
ANYONE = Principal(tenant="root", key_id="open", name="anyone on this machine", is_root=True)

NO_KEY = "No API key was given. Send it as 'Authorization: Bearer ew_…'."
BAD_KEY = "The API key is not valid."


class PolicyRoom:
    """Implements `edgewise.flow.Policy`. `vault` is None only for a server that listens on loopback alone."""

    def __init__(self, clock: Clock, vault: Vault | None, *, cache: CachePolicy | None = None) -> None:
        self._clock = clock
        self._vault = vault
        self._cache = cache or CachePolicy()

    async def identify(self, credentials: Credentials) -> Principal:
        """Who calls. Raises NotAuthenticated, NotAllowed (scope), Unavailable."""
        token = credentials.token
        if self._vault is None:
            return ANYONE
        if not token:
            raise NotAuthenticated(NO_KEY)
        secrets = await self._vault.secrets()
        if secrets.is_root(token):
            return ROOT
        raise NotAuthenticated(BAD_KEY)

    async def plan(self, principal: Principal, request: ChatRequest, credentials: Credentials) -> Plan:  # noqa: ARG002
        """What the caller may do with this request. Raises what the guards and limits say."""
        cache = self._cache
        if request.cache.namespace is not None:
            cache = replace(cache, namespace=request.cache.namespace)
        return Plan(principal, request, cache=cache)

    async def reserve(self, plan: Plan, choice: Choice) -> Any:  # noqa: ARG002
        """Hold the worst case of `choice`; None when no budget applies."""
        return None

    async def settle(self, hold: Any, attempts: list[Attempt]) -> None:
        """Charge what was used and let go of the rest. Never raises: the answer is already made."""

    async def close(self, plan: Plan) -> None:
        """The request is over, however it ended."""


def scope_of(route: str) -> str:
    """The scope that a route asks for: its first word after `/v1`. '/v1/chat/completions' → 'chat'."""
    words = route.strip("/").split("/")
    if words and words[0] == "v1":
        words = words[1:]
    return words[0] if words else ""


def check_scope(principal: Principal, route: str) -> None:
    """Raises NotAllowed. '*' covers everything but administration, which must be granted by name."""
    if principal.is_root:
        return
    scope = scope_of(route)
    if scope in principal.scopes or ("*" in principal.scopes and scope != "admin"):
        return
    raise NotAllowed(f"This key has no '{scope}' scope.", code="scope_missing")


def open_policy(settings: Settings, *, clock: Clock, aws: Aws, loopback: bool = False) -> PolicyRoom:
    """The room as the settings describe it.

    loopback  the server listens on this machine alone, so it may start without a key
    Raises NoRootKey when there is no key and the server is not on loopback.
    """
    vault: Vault | None
    if settings.root_key:
        vault = FixedVault(Secrets.of(settings.root_key, settings.key_pepper))
    elif settings.root_key_secret:
        from edgewise.policy.secretsmanager import SecretsManagerVault

        vault = SecretsManagerVault(aws, settings.root_key_secret, clock)
    elif loopback:
        vault = None
    else:
        raise NoRootKey("Set EDGEWISE_ROOT_KEY or EDGEWISE_ROOT_KEY_SECRET: without a root key the gateway stays shut.")
    return PolicyRoom(
        clock,
        vault,
        cache=CachePolicy(mode=settings.cache_mode, ttl_s=settings.cache_ttl_s),
    )
