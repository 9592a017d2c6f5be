"""What an administrator may send, field by field. A field that is not here cannot be set."""

from __future__ import annotations

import re

from pydantic import Field

from edgewise.policy.desk import DEFAULT_OVERLAP_S, MAX_OVERLAP_S
from edgewise.policy.terms import Budget, Strict, Terms

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LAST_TIME = 32_503_680_000.0
"""The year 3000: later times are milliseconds taken for seconds."""


class NewKey(Strict):
    tenant: str | None = Field(default=None, pattern=rf"^{TENANT.pattern}$")
    name: str = Field(default="", max_length=100)
    terms: Terms = Field(default_factory=Terms)
    expires_at: float | None = Field(default=None, gt=0, lt=LAST_TIME)


class ChangedKey(Strict):
    """Only what is sent is changed. `terms` are replaced as a whole."""

    name: str = Field(default="", max_length=100)
    terms: Terms = Field(default_factory=Terms)
    expires_at: float | None = Field(default=None, gt=0, lt=LAST_TIME)


class Rotation(Strict):
    overlap_s: float = Field(default=DEFAULT_OVERLAP_S, ge=0, le=MAX_OVERLAP_S)


class TenantBudgets(Strict):
    budgets: tuple[Budget, ...] = Field(max_length=12)


class NewBan(Strict):
    whom: str = Field(pattern=r"^(address|key):[A-Za-z0-9._:-]{1,64}$")
    reason: str = Field(default="by hand", max_length=200)
    for_s: float = Field(default=3600, gt=0, le=366 * 86_400)
