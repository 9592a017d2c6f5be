"""Administration: making, changing, rotating and revoking keys, tenants' budgets, bans.

Who may do what is decided here, field by field, never by what a client's body claims: the root key may do all; a key
with the scope 'admin' may act within its own tenant, cannot grant what it does not have, and cannot change itself. An
object of another tenant does not exist for it (404), so that ids tell nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edgewise.clock import Clock
from edgewise.errors import InvalidRequest, NotAllowed, NotFound
from edgewise.policy.bans import Ban
from edgewise.policy.budgets import lines_of
from edgewise.policy.keys import KeyRow, KeyStore, TenantRow, known_of
from edgewise.policy.room import PolicyRoom
from edgewise.policy.terms import Budget, Terms, escalations
from edgewise.policy.token import digest, mint
from edgewise.words import Principal

DEFAULT_OVERLAP_S = 86_400.0
MAX_OVERLAP_S = 30 * 86_400.0


class KeyDesk:
    """The work behind `/admin`. Raises EdgewiseErrors; `random_bytes` is the source of keys."""

    def __init__(
        self, policy: PolicyRoom, clock: Clock, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._random = random_bytes

    @property
    def _store(self) -> KeyStore:
        return self._policy.desk.ring.store

    async def create(
        self, who: Principal, *, tenant: str | None, name: str, terms: Terms, expires_at: float | None
    ) -> tuple[KeyRow, str]:
        """A new key and its text, which is shown this once."""
        tenant = _own_tenant(who, tenant)
        _check_grant(who, terms)
        expires_at = await self._no_later(who, expires_at)
        token, mark = await self._mint()
        row = KeyRow(
            id=self._clock.token("key_"),
            tenant=tenant,
            name=name,
            hint=token[-4:],
            digests={mark: None},
            terms=terms,
            created_at=self._clock.now(),
            created_by=who.key_id,
            expires_at=expires_at,
        )
        await self._store.save(row, new=True)
        self._policy.desk.ring.forget()
        return row, token

    async def _no_later(self, who: Principal, expires_at: float | None) -> float | None:
        """No key outlives the one that made it."""
        if who.is_root:
            return expires_at
        maker = await self._store.by_id(who.key_id)
        if maker is None or maker.expires_at is None:
            return expires_at
        return maker.expires_at if expires_at is None else min(maker.expires_at, expires_at)

    async def _mint(self) -> tuple[str, str]:
        if self._policy.vault is None:
            raise NotAllowed("A gateway without a root key makes no keys.")
        token = mint(self._random)
        return token, digest(token, (await self._policy.vault.secrets()).pepper)

    async def find(self, who: Principal, key_id: str) -> KeyRow:
        """Raises NotFound, for another tenant's key too."""
        row = await self._store.by_id(key_id) if key_id.isascii() and len(key_id) <= 64 else None
        if row is None or not (who.is_root or row.tenant == who.tenant):
            raise NotFound("There is no such key.", param="key_id")
        return row

    async def all(self, who: Principal, tenant: str | None) -> list[KeyRow]:
        wanted = tenant if who.is_root else _own_tenant(who, tenant)
        return await self._store.of_tenant(wanted)

    async def change(self, who: Principal, key_id: str, changes: Mapping[str, Any]) -> KeyRow:
        """Replace `name`, `terms` or `expires_at`."""
        row = await self.find(who, key_id)
        if row.id == who.key_id:
            raise NotAllowed("A key cannot change itself.")
        if "terms" in changes:
            _check_grant(who, changes["terms"])
        if "expires_at" in changes:
            changes = {**changes, "expires_at": await self._no_later(who, changes["expires_at"])}
        return await self._save(replace(row, **changes))

    async def rotate(self, who: Principal, key_id: str, overlap_s: float) -> tuple[KeyRow, str]:
        """A new text for the key; the old one opens for `overlap_s` seconds more. Budgets and id stay."""
        row = await self.find(who, key_id)
        if row.revoked_at is not None:
            raise InvalidRequest("A revoked key cannot be rotated.", param="key_id")
        token, mark = await self._mint()
        now = self._clock.now()
        until = now + overlap_s
        old = {
            digest: until if end is None else min(end, until)
            for digest, end in row.digests.items()
            if end is None or end > now
        }
        return await self._save(replace(row, digests={**old, mark: None}, hint=token[-4:])), token

    async def revoke(self, who: Principal, key_id: str) -> KeyRow:
        """Shut the key for good; other processes follow within seconds."""
        row = await self.find(who, key_id)
        if row.revoked_at is not None:
            return row
        return await self._save(replace(row, revoked_at=self._clock.now()))

    async def _save(self, row: KeyRow) -> KeyRow:
        await self._store.save(row)
        self._policy.desk.ring.forget()
        return row

    async def set_budgets(self, who: Principal, tenant: str, budgets: tuple[Budget, ...]) -> None:
        """What all keys of a tenant may spend together; only the root key says so."""
        _root_only(who)
        await self._store.save_tenant(TenantRow(tenant, budgets))
        self._policy.desk.ring.forget()

    async def budgets_of(self, row: KeyRow) -> list[dict[str, object]]:
        """The key's budgets and its tenant's, with what is used of each."""
        known = known_of(row, await self._store.tenant(row.tenant))
        lines = lines_of(known.principal, self._clock.now())
        return await self._policy.desk.ledger.state(lines) if lines else []

    async def bans(self, who: Principal) -> list[Ban]:
        _root_only(who)
        return await self._policy.desk.bouncer.store.all(self._clock.now())

    async def ban(self, who: Principal, whom: str, reason: str, for_s: float) -> Ban:
        _root_only(who)
        return await self._policy.desk.bouncer.ban(whom, reason, for_s)

    async def lift(self, who: Principal, whom: str) -> None:
        _root_only(who)
        if not await self._policy.desk.bouncer.lift(whom):
            raise NotFound("There is no such ban.", param="whom")


def check_admin(who: Principal) -> None:
    """Raises NotAllowed."""
    if not who.is_root and "admin" not in who.scopes:
        raise NotAllowed("This key has no 'admin' scope.", code="scope_missing")


def _root_only(who: Principal) -> None:
    if not who.is_root:
        raise NotAllowed("Only the root key may do this.")


def _own_tenant(who: Principal, tenant: str | None) -> str:
    if who.is_root:
        return tenant or "default"
    if tenant not in (None, who.tenant):
        raise NotFound("There is no such tenant.", param="tenant")
    return who.tenant


def _check_grant(who: Principal, terms: Terms) -> None:
    if who.is_root:
        return
    if wide := escalations(terms, who.settings["terms"]):
        raise NotAllowed(
            f"A key cannot grant more than it has: {', '.join(wide)}.", code="escalation", param=f"terms.{wide[0]}"
        )
