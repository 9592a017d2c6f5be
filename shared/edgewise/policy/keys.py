"""The key ring: from the text a client shows to the principal behind it.

A key is looked up by digest, so no comparison ever sees stored text. What was found, and what was not, is
remembered for seconds: a revoked key works at most that long, and a flood of one unknown key costs one read. Keys
that could never be ours (`token.is_well_formed`) cost none.

The ring does not know where keys are stored (`KeyStore`) nor what routes exist. A store that does not answer is
`Unavailable`: with keys unknown, nobody is let in.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from edgewise.clock import Clock
from edgewise.policy.token import digest, is_well_formed
from edgewise.words import Principal

if TYPE_CHECKING:
    from edgewise.policy.terms import Budget, Terms


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key. `digests` maps a digest to the moment until which it opens (seconds since the epoch, None: no end);
    two of them overlap while a key is rotated. Times are seconds since the epoch."""

    id: str
    tenant: str
    name: str
    hint: str
    """The last four characters of the key, to tell keys apart in a list."""
    digests: Mapping[str, float | None]
    terms: Terms
    created_at: float
    created_by: str = "root"
    expires_at: float | None = None
    revoked_at: float | None = None

    def opens_until(self, with_digest: str) -> float:
        """Until when the key that has this digest is good (seconds since the epoch): in the past, if it is not."""
        if self.revoked_at is not None:
            return 0.0
        until = 0.0
        for stored, end in self.digests.items():
            if hmac.compare_digest(stored, with_digest):
                until = math.inf if end is None else end
        return until if self.expires_at is None else min(until, self.expires_at)


@dataclass(frozen=True, slots=True)
class TenantRow:
    """What holds for all keys of a tenant together."""

    tenant: str
    budgets: tuple[Budget, ...] = ()


class KeyStore(Protocol):
    """Where keys are kept. Raises `Unavailable`."""

    async def by_digest(self, digest: str) -> KeyRow | None: ...
    async def by_id(self, key_id: str) -> KeyRow | None: ...
    async def save(self, row: KeyRow, *, new: bool = False) -> None: ...
    async def of_tenant(self, tenant: str | None) -> list[KeyRow]:
        """The tenant's keys, or everybody's for None, by tenant and id."""
        ...

    async def tenant(self, tenant: str) -> TenantRow | None: ...
    async def save_tenant(self, row: TenantRow) -> None: ...


@dataclass(frozen=True, slots=True)
class Known:
    """A key that opens, with all that holds for it."""

    principal: Principal
    terms: Terms
    tenant_budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class _Held:
    """What was found, or not; `again_at` is when to look anew."""

    again_at: float
    known: Known | None
    opens_until: float


class KeyRing:
    """Finds keys, and remembers for `keep_s` seconds what it found."""

    def __init__(self, store: KeyStore, clock: Clock, *, keep_s: float = 10.0, keep: int = 10_000) -> None:
        self.store = store
        self._clock = clock
        self._keep_s = keep_s
        self._keep = keep
        self._found: dict[bytes, _Held] = {}
        self._tenants: dict[str, tuple[float, TenantRow | None]] = {}

    async def find(self, token: str, hashed: bytes, pepper: bytes) -> Known | None:
        """The key's holder, or None: unknown, expired and revoked look the same from outside.

        hashed  the token's SHA-256, which the caller has anyway; what was found is remembered under it
        """
        held = self._found.get(hashed)
        if held is None or held.again_at <= self._clock.tick():
            if not is_well_formed(token):
                return None
            held = await self._fetch(hashed, digest(token, pepper))
        return held.known if held.opens_until > self._clock.now() else None

    async def _fetch(self, hashed: bytes, mark: str) -> _Held:
        row = await self.store.by_digest(mark)
        again = self._clock.tick() + self._keep_s
        if row is None:
            held = _Held(again, None, 0.0)
        else:
            held = _Held(again, known_of(row, await self.store.tenant(row.tenant)), row.opens_until(mark))
        if len(self._found) >= self._keep:
            self._found.pop(next(iter(self._found)))
        self._found[hashed] = held
        return held

    async def by_id(self, key_id: str) -> Known | None:
        """The holder of the key with this public id; None as for `find`. For work that was taken in earlier, which may
        be many lines: the key is read for each, so that one that is revoked spends nothing more, its tenant is not."""
        row = await self.store.by_id(key_id)
        now = self._clock.now()
        if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            return None
        return known_of(row, await self._tenant(row.tenant))

    async def _tenant(self, tenant: str) -> TenantRow | None:
        again_at, found = self._tenants.get(tenant, (0.0, None))
        if again_at <= self._clock.tick():
            if len(self._tenants) >= self._keep:
                self._tenants.pop(next(iter(self._tenants)))
            found = await self.store.tenant(tenant)
            self._tenants[tenant] = (self._clock.tick() + self._keep_s, found)
        return found

    def forget(self) -> None:
        """Look everything up anew (after a change made through this process)."""
        self._found.clear()
        self._tenants.clear()


def known_of(row: KeyRow, tenant: TenantRow | None) -> Known:
    """The key's holder as the corridor sees it."""
    principal = Principal(
        tenant=row.tenant,
        key_id=row.id,
        name=row.name,
        scopes=row.terms.scopes,
        settings={
            "terms": row.terms,
            "models": row.terms.models,
            "tenant_budgets": tenant.budgets if tenant else (),
        },
    )
    return Known(principal, row.terms, tenant.budgets if tenant else ())


class MemoryKeys:
    """Keys in this process alone: for a laptop without a table, and for tests."""

    def __init__(self) -> None:
        self._rows: dict[str, KeyRow] = {}
        self._tenants: dict[str, TenantRow] = {}

    async def by_digest(self, digest: str) -> KeyRow | None:
        return next((row for row in self._rows.values() if digest in row.digests), None)

    async def by_id(self, key_id: str) -> KeyRow | None:
        return self._rows.get(key_id)

    async def save(self, row: KeyRow, *, new: bool = False) -> None:
        if new and row.id in self._rows:
            raise ValueError("this key id is taken")
        self._rows[row.id] = replace(row)

    async def of_tenant(self, tenant: str | None) -> list[KeyRow]:
        rows = [row for row in self._rows.values() if tenant is None or row.tenant == tenant]
        return sorted(rows, key=lambda row: (row.tenant, row.id))

    async def tenant(self, tenant: str) -> TenantRow | None:
        return self._tenants.get(tenant)

    async def save_tenant(self, row: TenantRow) -> None:
        self._tenants[row.tenant] = row
