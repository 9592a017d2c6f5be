"""The policy room as the settings describe it: on the state table where there is one, in this process where not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise.aws import Aws
from edgewise.background import Background
from edgewise.clock import Clock
from edgewise.policy.bans import Bouncer, MemoryBans
from edgewise.policy.budgets import Ledger, Signal
from edgewise.policy.guards.guard import Guard
from edgewise.policy.keys import KeyRing, KeyStore, MemoryKeys
from edgewise.policy.limits import Limiter, MemoryMinutes
from edgewise.policy.room import Desk, PolicyRoom
from edgewise.policy.root import FixedVault, NoRootKey, Secrets, Vault
from edgewise.policy.tills import MemoryTills, Tills
from edgewise.settings import Settings
from edgewise.words import CachePolicy

if TYPE_CHECKING:
    from edgewise.policy.bans import BanStore
    from edgewise.policy.guards.moderation import Moderator
    from edgewise.policy.limits import Minutes


def open_policy(
    settings: Settings,
    *,
    clock: Clock,
    aws: Aws,
    background: Background | None = None,
    signal: Signal | None = None,
    loopback: bool = False,
) -> PolicyRoom:
    """The room as the settings describe it.

    background  runs the little work that no request waits for      signal  is told metrics by name
    loopback    the server listens on this machine alone, so it may start without a key
    Raises NoRootKey when there is no key and the server is not on loopback.
    """
    return PolicyRoom(
        clock,
        _vault_of(settings, clock, aws, loopback),
        _desk_of(settings, clock, aws, background or Background(), signal or _silent),
        cache_policy=CachePolicy(mode=settings.cache_mode, ttl_s=settings.cache_ttl_s),
        signal=signal,
    )


def _vault_of(settings: Settings, clock: Clock, aws: Aws, loopback: bool) -> Vault | None:
    if settings.root_key:
        return FixedVault(Secrets.of(settings.root_key, settings.key_pepper))
    if settings.root_key_secret:
        from edgewise.policy.secretsmanager import SecretsManagerVault

        return SecretsManagerVault(aws, settings.root_key_secret, clock)
    if loopback:
        return None
    raise NoRootKey("Set EDGEWISE_ROOT_KEY or EDGEWISE_ROOT_KEY_SECRET: without a root key the gateway stays shut.")


def _desk_of(settings: Settings, clock: Clock, aws: Aws, background: Background, signal: Signal) -> Desk:
    keys: KeyStore
    tills: Tills
    minutes: Minutes
    bans: BanStore
    if settings.state_table:
        from edgewise.aws import Table
        from edgewise.policy.dynamodb import DynamoBans, DynamoKeys, DynamoMinutes
        from edgewise.policy.dynamodb_tills import DynamoTills

        table = Table(aws, settings.state_table)
        keys, tills = DynamoKeys(table, clock), DynamoTills(table, clock)
        minutes, bans = DynamoMinutes(table), DynamoBans(table)
    else:
        keys, tills, minutes, bans = MemoryKeys(), MemoryTills(), MemoryMinutes(), MemoryBans()
    lease_s = settings.hold_lease_s
    return Desk(
        KeyRing(keys, clock, keep_s=settings.key_cache_s),
        Ledger(tills, clock, signal, lease_s=lease_s),
        Limiter(minutes, tills, clock, lease_s=lease_s),
        Bouncer(bans, clock, background.spawn, signal, limit=settings.ban_strikes),
        Guard(lambda: _moderator(aws, signal)),
    )


def _moderator(aws: Aws, signal: Signal) -> Moderator:
    from edgewise.policy.guards.bedrock import BedrockJudge
    from edgewise.policy.guards.moderation import Moderator

    return Moderator(BedrockJudge(aws), signal)


def _silent(_name: str, _value: float) -> None:
    return None
