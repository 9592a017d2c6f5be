"""The policy room: may this caller ask this, and with whose money?

In order: the key is known, its scopes cover the route, the request passes the guards, the limits have room, and the
worst case fits the budget. Everything here fails closed: when the room cannot know, the answer is no, by name.

It knows nothing of caches, models or providers. What it must remember of a request until it is settled travels in
`Plan.context`, which no other room reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgewise.chat import Answer, ChatRequest
from edgewise.clock import Clock
from edgewise.errors import EdgewiseError, InvalidRequest, NotAllowed, NotAuthenticated, Unavailable
from edgewise.policy.bans import Bouncer
from edgewise.policy.budgets import Hold, Ledger, Line, lines_of
from edgewise.policy.compress import compress
from edgewise.policy.guards.guard import Guard
from edgewise.policy.keys import KeyRing
from edgewise.policy.limits import Limiter, Ticket, asked_tokens, used_tokens
from edgewise.policy.root import Vault, hash_of
from edgewise.words import (
    USUAL_BOUND,
    Attempt,
    CachePolicy,
    Choice,
    Credentials,
    Late,
    Model,
    Plan,
    Principal,
    Step,
    Usd,
)

if TYPE_CHECKING:
    from edgewise.policy.structured import Again
    from edgewise.policy.terms import Terms

ROOT = Principal(tenant="root", key_id="root", name="root", is_root=True)
ANYONE = Principal(tenant="root", key_id="open", name="anyone on this machine", is_root=True)

NO_KEY = "No API key was given. Send it as 'Authorization: Bearer ew_…'."
# In OpenAI's own words: LiteLLM's client tells a wrong key from a bad request by them.
BAD_KEY = "Incorrect API key provided."

MOST_REMEMBERED = 10_000
NOTHING: Mapping[str, Any] = MappingProxyType({})
GUARDRAIL = Model("bedrock", "guardrail")
CHARS_PER_TOKEN = 6

Signal = Callable[[str, float], None]


@dataclass(slots=True)
class _Pending:
    """What `reserve` hands out and `settle` takes back."""

    hold: Hold | None
    ticket: Ticket | None
    late: Late | None = None
    others: tuple[Line, ...] = ()
    """Budgets of which nothing is held."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The room's parts; `edgewise.policy.opening.open_policy` makes them to fit the settings."""

    ring: KeyRing
    ledger: Ledger
    limiter: Limiter
    bouncer: Bouncer
    guard: Guard


class PolicyRoom:
    """Implements `edgewise.rooms.Policy`. `vault` is None only for a server that listens on loopback alone."""

    def __init__(
        self,
        clock: Clock,
        vault: Vault | None,
        desk: Desk,
        *,
        cache_policy: CachePolicy | None = None,
        signal: Signal | None = None,
    ) -> None:
        self.desk = desk
        self.vault = vault
        self._clock = clock
        self._cache = cache_policy or CachePolicy()
        self._signal = signal or _silent
        self._narrowed: dict[str, tuple[Terms, CachePolicy]] = {}

    async def identify(self, credentials: Credentials) -> Principal:
        """Who calls. Raises NotAuthenticated, NotAllowed (scope, ban), Unavailable."""
        token = credentials.token
        if self.vault is None:
            return ANYONE
        secrets = await self.vault.secrets()
        hashed = hash_of(token) if token else b""
        if secrets.is_root(hashed):
            return ROOT
        address = f"address:{credentials.address}" if credentials.address else ""
        if address:
            self.desk.bouncer.check(address)
        if not token:
            raise NotAuthenticated(NO_KEY)
        known = await self.desk.ring.find(token, hashed, secrets.pepper)
        if known is None:
            if address:
                self.desk.bouncer.strike(address, "bad keys")
            raise NotAuthenticated(BAD_KEY)
        self.desk.bouncer.check(f"key:{known.principal.key_id}")
        check_scope(known.principal, credentials.route)
        return known.principal

    async def impersonate(self, tenant: str, key_id: str, route: str) -> Principal:
        """The caller behind work that was taken in earlier: the key as it is now, not as it was then.

        Raises NotAuthenticated when the key has been revoked, has expired or is not the tenant's, NotAllowed when it
        is banned or has no scope for `route`, Unavailable.
        """
        for known in (ROOT, ANYONE):
            if (tenant, key_id) == (known.tenant, known.key_id) and (known is ROOT or self.vault is None):
                return known
        found = await self.desk.ring.by_id(key_id)
        if found is None or found.principal.tenant != tenant:
            raise NotAuthenticated("The API key that this work was submitted with is no longer valid.")
        await self.desk.bouncer.check_now(f"key:{key_id}")
        check_scope(found.principal, route)
        return found.principal

    def is_bound(self, principal: Principal) -> bool:
        """Whether something holds this caller request by request: a limit, a guard beyond the usual, routing or a
        change to what is sent. What models it may use, how long it caches and what it may spend is not of that kind."""
        terms: Terms | None = principal.settings.get("terms")
        if terms is None:
            return False
        free = type(terms)(scopes=terms.scopes, models=terms.models, cache=terms.cache, budgets=terms.budgets)
        return terms != free

    def is_capped(self, principal: Principal) -> bool:
        """Whether a budget bounds what this caller may spend."""
        return bool(lines_of(principal, self._clock.now()))

    async def hold(self, principal: Principal, model: Model, usd: Usd, *, name: str, until: float, share: float) -> str:
        """Hold `usd` for work that takes hours: once under `name`, until `charge` settles it by what comes back ('':
        no budget has to do with the model) or the time is over. It takes at most `share` of a budget, so that others
        find the rest. Raises QuotaExceeded, Unavailable."""
        choice = Choice((Step((model,)),), "batch", "", worst_usd=usd)
        lines = [line.narrowed(share) for line in lines_of(principal, self._clock.now())]
        hold = await self.desk.ledger.reserve(lines, choice, name=name, until=until)
        return hold.receipt() if hold is not None else ""

    async def plan(self, principal: Principal, request: ChatRequest, credentials: Credentials) -> Plan:
        """What the caller may do with this request. Raises what the guards and limits say."""
        terms: Terms | None = principal.settings.get("terms")
        late = Late() if terms is not None and terms.guards.bedrock_guardrail is not None else None
        try:
            return await self._plan(principal, terms, request, credentials, late)
        except BaseException as error:
            if late is not None:
                await self._charge_late(late, lines_of(principal, self._clock.now()))
                if isinstance(error, EdgewiseError):
                    error.spent_usd = late.spent_usd
            raise

    async def _plan(
        self,
        principal: Principal,
        terms: Terms | None,
        request: ChatRequest,
        credentials: Credentials,
        late: Late | None,
    ) -> Plan:
        cached = self._cache_policy(principal, terms, request)
        try:
            checked = await self.desk.guard.check(request, terms.guards if terms is not None else None, late)
        except InvalidRequest:
            self._strike(principal, credentials)
            raise
        request = checked.request
        if terms is None:
            return Plan(principal, request, cache=cached, flags=checked.flags)
        if terms.guards.guardrail_answers:
            request = replace(request, stream=False)
        request, saved = compress(request, terms.compress) if terms.compress is not None else (request, 0)
        lines = lines_of(principal, self._clock.now())
        soft = await self.desk.ledger.is_soft(lines) if lines else False
        limits = terms.limits
        ticket = None
        if not limits.requests_per_minute is limits.tokens_per_minute is limits.in_flight is None:
            share = float(principal.settings.get("share", 1.0))
            ticket = await self.desk.limiter.enter(principal.key_id, limits, asked_tokens(request), share)
        return Plan(
            principal,
            request,
            cache=cached,
            models=terms.models,
            routing=terms.routing,
            paces=self.desk.ledger.paces(lines) if lines else (),
            prefer_cheap=soft,
            capped=bool(lines),
            flags=checked.flags,
            masked=checked.masked,
            headers=_headers(ticket, saved) if ticket is not None or saved else NOTHING,
            saved_tokens=saved,
            late=late,
            context={"lines": lines, "ticket": ticket} if lines or ticket is not None else NOTHING,
        )

    def _cache_policy(self, principal: Principal, terms: Terms | None, request: ChatRequest) -> CachePolicy:
        """The gateway's cache policy, the key's over it, the request's namespace over both."""
        policy = self._cache
        if terms is not None:
            held = self._narrowed.get(principal.key_id)
            if held is None or held[0] is not terms:
                if len(self._narrowed) >= MOST_REMEMBERED:
                    self._narrowed.clear()
                held = self._narrowed[principal.key_id] = (terms, _narrowed(policy, terms))
            policy = held[1]
        if request.cache.namespace is not None and not policy.shared:
            policy = replace(policy, namespace=request.cache.namespace)
        if terms is not None and terms.guards.guardrail_answers:
            # What another key was told has not been read by this key's guardrail.
            policy = replace(policy, guardrail=terms.guards.bedrock_guardrail)
        return policy

    def _strike(self, principal: Principal, credentials: Credentials) -> None:
        """A guard refused: repeated, that is an attack from this key and from this address."""
        if principal.is_root:
            return
        self.desk.bouncer.strike(f"key:{principal.key_id}", "refused by the guards")
        if credentials.address:
            self.desk.bouncer.strike(f"address:{credentials.address}", "refused by the guards")

    async def reserve(self, plan: Plan, choice: Choice) -> Any:
        """Hold the worst case of `choice`. Raises QuotaExceeded, NotAllowed (model, unknown price), Unavailable."""
        check_models(plan, choice)
        lines: tuple[Line, ...] = plan.context.get("lines", ())
        if _repairs(plan) and choice.worst_usd is not None:
            # A structured answer that does not fit is asked for once more, and then it is part of the question.
            choice = replace(choice, worst_usd=choice.worst_usd * 3)
        if plan.late is not None and choice.worst_usd is not None:
            choice = replace(choice, worst_usd=choice.worst_usd + plan.late.spent_usd + _moderation_usd(plan))
        hold = await self.desk.ledger.reserve(lines, choice) if lines else None
        ticket: Ticket | None = plan.context.get("ticket")
        if hold is None and ticket is None and plan.late is None:
            return None
        others = tuple(line for line in lines if hold is None or line not in hold.lines)
        return _Pending(hold, ticket, plan.late, others)

    async def mend(self, plan: Plan, answer: Answer, again: Again) -> Answer:
        """A structured answer checked against its schema and asked for once more, where the key wants that; then
        what its guardrail makes of it. Raises Unavailable, and what `again` raises."""
        if _repairs(plan):
            from edgewise.policy.structured import mended

            answer = await mended(plan.request, answer, again)
        if plan.late is not None:
            guards = plan.principal.settings["terms"].guards
            if guards.guardrail_answers:
                answer = await self.desk.guard.moderator.answer(answer, guards, plan.late)
        return answer

    async def settle(self, hold: Any, attempts: list[Attempt]) -> None:
        """Charge what was used and let go of the rest. Never raises: the answer is already made."""
        if hold is None:
            return
        pending: _Pending = hold
        if pending.ticket is not None:
            pending.ticket.used_tokens = used_tokens(attempts)
        bill = _bill(pending.late)
        if pending.hold is not None:
            await self.desk.ledger.settle(pending.hold, [*attempts, *bill])
        await self.desk.ledger.spend(pending.others, bill)

    def receipt(self, hold: Any) -> str | None:
        """What `charge` needs to settle the money of `hold` in another process; None when none is held."""
        return hold.hold.receipt() if hold is not None and hold.hold is not None else None

    async def charge(self, receipt: str, attempts: list[Attempt]) -> None:
        """Settle a hold whose process may be gone: once over all processes. Raises Unavailable."""
        await self.desk.ledger.charge(receipt, attempts)

    async def budgets(self, who: Principal) -> list[dict[str, object]]:
        """The caller's budgets with what is used of each, for `/v1/usage`. Raises Unavailable."""
        lines = lines_of(who, self._clock.now())
        return await self.desk.ledger.state(lines) if lines else []

    async def _charge_late(self, late: Late, lines: tuple[Line, ...]) -> None:
        """What the guardrail has cost is spent, also where the cache answers or the request is refused."""
        await self.desk.ledger.spend(lines, _bill(late))

    async def close(self, plan: Plan) -> None:
        """The request is over, however it ended. Never raises."""
        if plan.late is not None:
            await self._charge_late(plan.late, plan.context.get("lines", ()))
        ticket: Ticket | None = plan.context.get("ticket")
        if ticket is not None:
            try:
                await self.desk.limiter.leave(ticket)
            except Unavailable:
                self._signal("SettleFailed", 1)


def _bill(late: Late | None) -> list[Attempt]:
    """What the guardrail has cost since it was last charged."""
    if late is None:
        return []
    owed, late.charged_usd = late.spent_usd - late.charged_usd, late.spent_usd
    return [Attempt(GUARDRAIL, role="check", cost_usd=owed)]


def _headers(ticket: Ticket | None, saved_tokens: int) -> dict[str, str]:
    headers = dict(ticket.headers) if ticket else {}
    if saved_tokens:
        headers["x-edgewise-compressed-tokens"] = str(saved_tokens)
    return headers


def _narrowed(own: CachePolicy, terms: Terms) -> CachePolicy:
    """The gateway's cache policy with the key's laid over it."""
    theirs = terms.cache
    named = {name: getattr(theirs, name) for name in ("mode", "ttl_s", "namespace", "max_wrong_share")}
    changes = {name: value for name, value in named.items() if value is not None}
    return replace(own, shared=theirs.shared, store=theirs.store, **changes)


def check_models(plan: Plan, choice: Choice) -> None:
    """Raises NotAllowed when the choice has a model that the key may not use. Routing has left them out already;
    this is the place that answers for it."""
    if "*" in plan.models:
        return
    from edgewise.policy.terms import matches

    for model in choice.models:
        if not any(matches(p, model.name) or matches(p, model.id) or p == plan.request.model for p in plan.models):
            raise NotAllowed("This key may not use that model.", code="model_not_allowed", param="model")


def _moderation_usd(plan: Plan) -> Usd:
    """What it may cost to have the answer judged."""
    guards = plan.principal.settings["terms"].guards
    if not guards.guardrail_answers:
        return Decimal(0)
    from edgewise.policy.guards.bedrock import MOST_UNIT_USD, UNIT_CHARS

    tokens = (plan.request.output_limit or USUAL_BOUND) * plan.request.choices
    return MOST_UNIT_USD * math.ceil(tokens * CHARS_PER_TOKEN / UNIT_CHARS)


def _repairs(plan: Plan) -> bool:
    terms: Terms | None = plan.principal.settings.get("terms")
    return terms is not None and terms.repair_json


@lru_cache(maxsize=256)
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


def _silent(_name: str, _value: float) -> None:
    return None
