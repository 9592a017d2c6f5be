"""A policy room over memory, with a clock that a test moves."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from edgewise.background import Background
from edgewise.chat import ChatRequest
from edgewise.clock import FakeClock
from edgewise.policy.bans import Bouncer, MemoryBans
from edgewise.policy.budgets import Ledger
from edgewise.policy.guards.guard import Guard
from edgewise.policy.keys import KeyRing, KeyRow, MemoryKeys, TenantRow
from edgewise.policy.limits import Limiter, MemoryMinutes
from edgewise.policy.room import Desk, PolicyRoom
from edgewise.policy.root import FixedVault, Secrets
from edgewise.policy.terms import Terms
from edgewise.policy.tills import MemoryTills, Tills
from edgewise.policy.token import digest, mint
from edgewise.price import Price
from edgewise.words import Attempt, Choice, Credentials, Model, Plan, Step

ROOT = "ew_root_3c1f9a"
CHAT = "/v1/chat/completions"
SECRETS = Secrets.of(ROOT)
MINI = Model("openai", "gpt-4o-mini", price=Price(Decimal("0.15"), Decimal("0.6")))
BIG = Model("anthropic", "claude-big", price=Price(Decimal(3), Decimal(15)))


def choice(worst: str | None = "0.01", *models: Model) -> Choice:
    usd = None if worst is None else Decimal(worst)
    return Choice((Step(models or (MINI,)),), "fixed", "as asked", worst_usd=usd)


def attempt(cost: str | None = "0.004", model: Model = MINI, **rest: Any) -> Attempt:
    return Attempt(model, cost_usd=None if cost is None else Decimal(cost), **rest)


def request(text: str = "Hello", **body: Any) -> ChatRequest:
    return ChatRequest({"model": "auto", "messages": [{"role": "user", "content": text}], **body})


class Rig:
    """The room with its parts in reach."""

    def __init__(self, tills: Tills | None = None) -> None:
        self.clock = FakeClock()
        self.background = Background()
        self.signals: list[tuple[str, float]] = []
        self.keys = MemoryKeys()
        tills = tills or MemoryTills()
        self.ring = KeyRing(self.keys, self.clock)
        self.bouncer = Bouncer(MemoryBans(), self.clock, self.background.spawn, self.signal)
        self.ledger = Ledger(tills, self.clock, self.signal)
        self.room = PolicyRoom(
            self.clock,
            FixedVault(SECRETS),
            Desk(self.ring, self.ledger, Limiter(MemoryMinutes(), tills, self.clock), self.bouncer, Guard()),
            signal=self.signal,
        )
        self._number = 0

    def signal(self, name: str, value: float) -> None:
        self.signals.append((name, value))

    async def key(self, tenant: str = "acme", expires_at: float | None = None, **terms: Any) -> str:
        """A new key's text."""
        self._number += 1
        token = mint(lambda n: self._number.to_bytes(n, "big"))
        row = KeyRow(
            id=f"k_{self._number}",
            tenant=tenant,
            name="test",
            hint=token[-4:],
            digests={digest(token, SECRETS.pepper): None},
            terms=Terms.model_validate(terms),
            created_at=self.clock.now(),
            expires_at=expires_at,
        )
        await self.keys.save(row, new=True)
        return token

    async def tenant(self, tenant: str, *budgets: Any) -> None:
        terms = Terms.model_validate({"budgets": budgets})
        await self.keys.save_tenant(TenantRow(tenant, terms.budgets))

    async def plan(self, token: str, asked: ChatRequest | None = None, address: str = "") -> Plan:
        credentials = Credentials(token, CHAT, address)
        principal = await self.room.identify(credentials)
        return await self.room.plan(principal, asked or request(), credentials)
