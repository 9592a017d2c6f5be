"""What a key may do, as it is written down: by an administrator on the wire, and in the stored row read back.

Everything has a default that adds nothing: a key with empty terms may ask any model, has no budget, no limits, and
the gateway's own cache policy. Only what is narrower than that is stored. Money is dollars as Decimal here and
integer picodollars in the ledger.

This module costs a few milliseconds to import (pydantic builds its validators), so the room imports it with the first
key, not at start.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Per = Literal["day", "month", "forever"]
PiiMode = Literal["off", "flag", "redact", "refuse"]

SCOPES = frozenset(
    {
        "*",
        "admin",
        "audio",
        "batches",
        "chat",
        "embeddings",
        "feedback",
        "files",
        "messages",
        "models",
        "responses",
        "usage",
    }
)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Budget(Strict):
    """A cap on money in a window of UTC time. `model` narrows it to models that match (`*` is a wildcard)."""

    per: Per
    usd: Decimal = Field(ge=0, le=Decimal(10**9), decimal_places=6)
    soft: float | None = Field(default=None, gt=0, le=1)
    """The share of the cap from which requests are routed cheaper."""
    model: str | None = Field(default=None, min_length=1, max_length=128)


class Limits(Strict):
    """Sliding over a minute; None is no limit."""

    requests_per_minute: int | None = Field(default=None, ge=1, le=10**9)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=10**12)
    in_flight: int | None = Field(default=None, ge=1, le=10**6)


class CacheTerms(Strict):
    """What differs from the gateway's own cache policy."""

    mode: Literal["off", "exact", "semantic"] | None = None
    ttl_s: float | None = Field(default=None, gt=0)
    namespace: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    shared: bool = False
    max_wrong_share: float | None = Field(default=None, gt=0, lt=1)
    store: bool = True


class Guards(Strict):
    pii: PiiMode = "off"
    pii_kinds: tuple[str, ...] = ()
    """Empty: every kind of `edgewise.policy.guards.pii`."""
    injection: Literal["off", "flag", "refuse"] = "flag"
    bedrock_guardrail: str | None = Field(default=None, pattern=r"^[a-z0-9]+:(DRAFT|[1-9][0-9]{0,7})$")
    """`id:version` of a Bedrock guardrail that reads what was said since the model's last turn."""
    guardrail_answers: bool = False
    """It reads answers too: streams are then made whole before their first word goes out."""
    guardrail_masks: bool = False
    """What it anonymises goes on without it; otherwise that is refused like what it blocks."""
    guardrail_down: Literal["refuse", "pass"] = "refuse"
    """What happens while it does not answer."""
    image_urls: Literal["public", "data"] = "public"
    """'data' refuses every image by URL."""
    max_input_tokens: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    max_choices: int | None = Field(default=None, ge=1)
    max_messages: int | None = Field(default=None, ge=1)


class Compress(Strict):
    """Each part is off until it is asked for; see `edgewise.policy.compress`."""

    whitespace: bool = False
    duplicates: bool = False
    history_tokens: int | None = Field(default=None, ge=64)
    examples: int | None = Field(default=None, ge=1, le=64)
    """Keep this many few-shot examples, those most like the question."""


class Terms(Strict):
    """Everything that one key may do."""

    scopes: frozenset[str] = frozenset({"*"})
    models: tuple[str, ...] = ("*",)
    budgets: tuple[Budget, ...] = Field(default=(), max_length=12)
    limits: Limits = Limits.model_construct()
    cache: CacheTerms = CacheTerms.model_construct()
    routing: dict[str, Any] = Field(default_factory=dict)
    guards: Guards = Guards.model_construct()
    compress: Compress | None = None
    repair_json: bool = False
    """Check structured output against its schema, and ask once more when it does not fit."""

    @field_validator("scopes")
    @classmethod
    def _known(cls, scopes: frozenset[str]) -> frozenset[str]:
        if unknown := scopes - SCOPES:
            raise ValueError(f"unknown scopes: {', '.join(sorted(unknown))}")
        return scopes


def matches(pattern: str, name: str) -> bool:
    """Whether `name` fits `pattern`, in which `*` stands for any run of characters. Linear in both.

    >>> matches("openai/*", "openai/gpt-4o"), matches("gpt-*-mini", "gpt-4o-mini"), matches("gpt-4", "gpt-4o")
    (True, True, False)
    """
    parts = pattern.split("*")
    if len(parts) == 1:
        return pattern == name
    if not name.startswith(parts[0]) or len(name) < len(parts[0]) + len(parts[-1]) or not name.endswith(parts[-1]):
        return False
    at, end = len(parts[0]), len(name) - len(parts[-1])
    for part in parts[1:-1]:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


GUARDS_KEPT = (
    "pii",
    "pii_kinds",
    "injection",
    "bedrock_guardrail",
    "guardrail_answers",
    "guardrail_masks",
    "guardrail_down",
    "image_urls",
)
"""Guards that are neither wider nor narrower, only other: who has any hands on the same."""


def escalations(asked: Terms, granted: Terms) -> list[str]:
    """The fields in which `asked` is wider than `granted`: a key never mints what it does not have itself."""
    wide = []
    if not asked.scopes <= granted.scopes | (SCOPES - {"admin"} if "*" in granted.scopes else frozenset()):
        wide.append("scopes")
    if not all(any(_covers(mine, theirs) for mine in granted.models) for theirs in asked.models):
        wide.append("models")
    for mine in granted.budgets:
        if not any(b.per == mine.per and b.model == mine.model and b.usd <= mine.usd for b in asked.budgets):
            wide.append("budgets")
            break
    for name in Limits.model_fields:
        if _wider(getattr(asked.limits, name), getattr(granted.limits, name)):
            wide.append(f"limits.{name}")
    for name in ("max_input_tokens", "max_output_tokens", "max_choices", "max_messages"):
        if _wider(getattr(asked.guards, name), getattr(granted.guards, name)):
            wide.append(f"guards.{name}")
    for name in GUARDS_KEPT:
        if getattr(granted.guards, name) != getattr(asked.guards, name) and granted.guards != Guards():
            wide.append(f"guards.{name}")
    if asked.cache.shared and not granted.cache.shared:
        wide.append("cache.shared")
    return wide


def _covers(mine: str, theirs: str) -> bool:
    return mine == theirs or ("*" not in theirs and matches(mine, theirs)) or mine == "*"


def _wider(asked: int | None, granted: int | None) -> bool:
    return granted is not None and (asked is None or asked > granted)
