"""The words that the rooms share: plain values, no behaviour beyond reading themselves.

`Principal` who calls · `Plan` what this caller may do · `Model` one model at one provider · `Query` the canonical
request with its keys · `Verdict` = `Hit | Miss` · `Choice` a plan of models · `Attempt` one call to one provider ·
`Note` the one record of a request. Money is `Decimal` US dollars; None means unknown and is never taken for zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from edgewise.chat import Answer, ChatRequest, Chunks, Usage
from edgewise.clock import Deadline
from edgewise.price import Price

Usd = Decimal


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows at the door. `route` is the matched route's template, never a client's URL."""

    token: str | None
    route: str
    address: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Principal:
    """A known caller. `key_id` is public (it appears in records); the key itself is nowhere."""

    tenant: str
    key_id: str
    name: str = ""
    is_root: bool = False
    scopes: frozenset[str] = frozenset({"*"})
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The key's own policy: models, budgets, limits, cache, routing, guards (see `edgewise.policy.keys`)."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How far the cache may go for this caller."""

    mode: Literal["off", "exact", "semantic"] = "exact"
    ttl_s: float | None = None
    namespace: str = "default"
    shared: bool = False
    """True: the namespace is shared between tenants (opt-in)."""
    max_wrong_share: float = 0.02
    store: bool = True
    guardrail: str | None = None
    """What has to have read an answer before this caller is told it; None: nothing."""


@dataclass(slots=True)
class Late:
    """What a guardrail that is asked for money has cost and noticed, up to now."""

    spent_usd: Usd = Decimal(0)
    flags: tuple[str, ...] = ()
    charged_usd: Usd = Decimal(0)
    """What of it budgets have been charged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What this caller may do with this request. `request` is the request as policy lets it through."""

    principal: Principal
    request: ChatRequest
    cache: CachePolicy = field(default_factory=CachePolicy)
    models: tuple[str, ...] = ("*",)
    """Allowed model names, with `*` as a wildcard."""
    routing: Mapping[str, Any] = field(default_factory=dict)
    """The key's routing policy; the request's own `routing` is laid over it."""
    paces: tuple[tuple[float, float], ...] = ()
    """The caller's budgets, each by (share of the money that is spent or held, share of its window that is gone)."""
    prefer_cheap: bool = False
    """A soft budget limit has been passed: route cheaper."""
    capped: bool = False
    """A budget holds: every call must have a worst case."""
    flags: tuple[str, ...] = ()
    """What the guards noticed, e.g. 'pii:email', 'injection'. Flagged answers are not kept for others."""
    masked: Mapping[str, str] = field(default_factory=dict)
    """Placeholder to original, for redacted text that is restored in the answer."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Response headers that policy adds (`x-ratelimit-*`)."""
    saved_tokens: int = 0
    """About how many tokens of the prompt policy cut, as the key asks."""
    late: Late | None = None
    """What policy finds and pays for this request besides its calls; None where it can't."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """What policy must remember until the request is settled; no other room reads it."""

    @property
    def tenant(self) -> str:
        return self.principal.tenant


Tier = Literal["tiny", "small", "medium", "large", "huge"]
TIERS: tuple[Tier, ...] = ("tiny", "small", "medium", "large", "huge")


@dataclass(frozen=True, slots=True)
class Model:
    """One model at one provider. `name` is `provider/id`, the universal spelling."""

    provider: str
    id: str
    tier: Tier = "medium"
    context_tokens: int | None = None
    output_tokens: int | None = None
    capabilities: frozenset[str] = frozenset({"streaming"})
    """Of: streaming, tools, parallel_tools, vision, audio, json_schema, json_object, logprobs, reasoning, n, seed."""
    price: Price | None = None
    """None: the price is unknown, which is not zero."""
    latency_ms: float | None = None
    """Measured or published median time to the whole of a short answer."""
    quality: float | None = None
    """Prior probability that an answer is good, 0 to 1, from the catalogue."""
    region: str | None = None
    created: int = 0
    owned_by: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.provider}/{self.id}")


USUAL_BOUND = 4096
THINKING_BOUND = 16_384
"""What bounds an answer where neither the client nor the catalogue does: models that think spend tokens on it first."""


def longest_answer(model: Model) -> int:
    """Tokens that an answer of `model` has at most, where its request bounds none and money is capped: never more than
    half of its context, which the question must fit into too."""
    longest = model.output_tokens or (THINKING_BOUND if "reasoning" in model.capabilities else USUAL_BOUND)
    return min(longest, model.context_tokens // 2) if model.context_tokens else longest


@dataclass(frozen=True, slots=True)
class Target:
    """What a requested model name stands for, before one is chosen.

    `name` goes into the cache key: `provider/id`, or for an alias its name with its version, so that a changed
    alias never serves another alias's answers. `models` are the candidates in order of preference.
    """

    name: str
    models: tuple[Model, ...]
    strategy: str | None = None
    """The strategy that the name or its suffix demands; None leaves it to policy."""


Nearness = Literal["semantic", "exact", "skip"]
Volatility = Literal["static", "slow", "daily", "live"]


@dataclass(frozen=True, slots=True)
class Query:
    """The canonical request with its keys.

    key        64 hex digits: SHA-256 over everything that can change the answer
    text_key   the same over normalised text of the last user turn; None when text must match to the letter
    partition  64 hex digits over everything but the last user turn; None when the request is exact only
    text       the last user turn, for matching by meaning; None when `partition` is
    """

    tenant: str
    namespace: str
    target: str
    key: str
    text_key: str | None = None
    partition: str | None = None
    text: str | None = None
    nearness: Nearness = "exact"
    reason: str = ""
    """Why `nearness` is what it is, as one field term: 'code', 'personal', 'tools', 'freshness', …"""
    volatility: Volatility = "static"
    solo_partition: str | None = None
    """The partition outside its conversation, for a last turn that stands by itself; None otherwise."""


TEACHES = "distill"
"""The cache tag by which a request allows its answer to teach a smaller model."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored answer. Times are seconds since the epoch; an entry is served after `fresh_until` only as stale,
    and never after `expires_at`."""

    key: str
    answer: Answer
    created_at: float
    fresh_until: float
    expires_at: float
    model: str
    provider: str
    cost_usd: Usd | None = None
    latency_ms: float = 0.0
    tags: tuple[str, ...] = ()
    text: str | None = None
    principals: tuple[str, ...] = ()
    status: int = 200
    """Other than 200: a deterministic upstream refusal, kept for seconds; `answer` holds the error object."""
    messages: tuple[Mapping[str, Any], ...] | None = None
    """The whole conversation, where its request consented to teach (the tag `TEACHES`); None otherwise."""


HitKind = Literal["exact", "text", "semantic", "stale", "coalesced"]


@dataclass(frozen=True, slots=True)
class Hit:
    entry: Entry
    kind: HitKind
    age_s: float = 0.0
    similarity: float | None = None
    tier: Literal["memory", "store", "flight", "index"] = "memory"
    evidence: Mapping[str, Any] = field(default_factory=dict)
    refresh: Any = None
    """A `Lead` when this caller should renew the stale entry behind the answer; None otherwise."""


@dataclass(frozen=True, slots=True)
class Miss:
    reason: str
    """One field term: 'absent', 'expired', 'no-cache', 'store-error', 'store-slow', 'skip', 'unverified', …"""
    lead: Any = None
    """The single-flight lead that must be fulfilled or given up; None when nobody follows. The cache's own."""
    stale: Entry | None = None
    """An entry that may be served if the provider fails (stale-if-error)."""


Verdict = Hit | Miss


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a choice is expected to bring; None is unknown."""

    quality: float | None = None
    cost_usd: Usd | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Ask `models` (more than one: at once, to see whether they agree). Keep the answer if `accept` says so.

    accept   the name of an acceptance check in `edgewise.routing.evidence`; None: the answer is final
    at_least the confidence from which the check accepts, 0 to 1
    grader   who grades the answer where nothing free settles it (the model itself: a self-check); None: nobody
    """

    models: tuple[Model, ...]
    accept: str | None = None
    at_least: float = 0.5
    grader: Model | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan of models: steps in order, then fallbacks for failures. `reason` is for people and headers."""

    steps: tuple[Step, ...]
    strategy: str
    reason: str
    expected: Estimate = field(default_factory=Estimate)
    worst_usd: Usd | None = None
    """The dearest this choice can become, every step and whoever may step in counted; None when a price is unknown."""
    fallbacks: tuple[Model, ...] = ()
    on_context: tuple[Model, ...] = ()
    """Who may take a prompt that was too long."""
    on_content: tuple[Model, ...] = ()
    """Who may answer what was refused on content."""
    max_attempts: int = 6
    hedge: bool = False
    """Ask a fallback too when the first is slow."""
    confidence: float | None = None
    features: Mapping[str, Any] = field(default_factory=dict)
    considered: tuple[Mapping[str, Any], ...] = ()
    """Every plan that was scored, for `dry_run` and the log."""

    @property
    def models(self) -> list[Model]:
        """Every model that may be called to carry this out."""
        asked = [model for step in self.steps for model in step.models]
        asked += [step.grader for step in self.steps if step.grader is not None]
        return [*asked, *self.fallbacks, *self.on_context, *self.on_content]


AttemptRole = Literal["answer", "check", "judge", "hedge", "shadow"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to one provider, failed or not; every one is charged."""

    model: Model
    role: AttemptRole = "answer"
    status: int = 200
    error: str | None = None
    latency_ms: float = 0.0
    first_ms: float | None = None
    """Time to the first chunk; None when none came."""
    usage: Usage | None = None
    cost_usd: Usd | None = None


@dataclass(slots=True)
class Live:
    """What a choice brought: a whole answer, or chunks of which the first has arrived."""

    model: Model
    answer: Answer | None = None
    chunks: Chunks | None = None
    confidence: float | None = None
    confidence_source: str | None = None
    reason: str = ""
    stands_in: bool = False
    """Another model's answer, because the one that was asked for failed: not to be kept for long as that one's."""


class Caller(Protocol):
    """Call it, stream it. One model, once: who asks again, or another, is the router's affair.

    Every call that was made, failed or not, is appended to `trail` when it ends.
    """

    async def complete(
        self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]
    ) -> Answer: ...

    async def stream(self, model: Model, request: ChatRequest, deadline: Deadline, trail: list[Attempt]) -> Chunks: ...


@dataclass(frozen=True, slots=True)
class Note:
    """The one record of a request. It never holds text of the request or the answer."""

    request_id: str
    route: str
    at: float
    tenant: str = ""
    key_id: str = ""
    asked_model: str = ""
    model: str = ""
    provider: str = ""
    stream: bool = False
    status: int = 200
    error: str | None = None
    cache: str = "off"
    """'hit', 'miss', 'bypass' or 'off'."""
    cache_kind: str | None = None
    cache_reason: str | None = None
    cache_key: str | None = None
    """The key of the entry that was served or made: 64 hex digits, which tell nothing of the text."""
    similarity: float | None = None
    strategy: str | None = None
    route_reason: str | None = None
    attempts: tuple[Attempt, ...] = ()
    usage: Usage | None = None
    cost_usd: Usd | None = None
    saved_usd: Usd | None = None
    latency_ms: float = 0.0
    first_ms: float | None = None
    overhead_ms: float = 0.0
    finish: str | None = None
    confidence: float | None = None
    confidence_source: str | None = None
    flags: tuple[str, ...] = ()
    saved_tokens: int = 0
    features: Mapping[str, Any] = field(default_factory=dict)
