"""Purging: by a rule that is obeyed at once everywhere, then by removing what it names.

An entry may be in the memory of any number of processes, which nobody can reach. So a purge is first of all a rule,
"what matches and was created by then is void", kept beside the entries; every process reads the rules again at most
`RELOAD_S` seconds after it last did, before it serves anything. Removing the entries from the store comes second and
only saves space. A rule is forgotten when everything that it could match has expired.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from edgewise.cache.port import Kept, Store
from edgewise.errors import InvalidRequest

RELOAD_S = 5.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What is void: entries created at or before `before` (epoch seconds) that match every field that is set.

    at  when the purge was asked for: what was stored later, by an import, is not meant
    """

    before: float
    scope: str | None = None
    key: str | None = None
    namespace: str | None = None
    prefix: str | None = None
    """Of the namespace."""
    tag: str | None = None
    model: str | None = None
    """`provider/id`, or the id alone."""
    at: float | None = None

    def voids(self, scope: str, kept: Kept) -> bool:
        entry = kept.entry
        return (
            entry.created_at <= self.before
            and (self.at is None or kept.stored_at is None or kept.stored_at <= self.at)
            and self.scope in (None, scope)
            and self.key in (None, entry.key)
            and self.namespace in (None, kept.namespace)
            and (self.prefix is None or kept.namespace.startswith(self.prefix))
            and (self.tag is None or self.tag in entry.tags)
            and self.model in (None, entry.model, f"{entry.provider}/{entry.model}")
        )

    def wire(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def rule_of(now: float, *, older_than_s: float | None = None, everything: bool = False, **fields: str | None) -> Rule:
    """The rule for a purge asked for at `now`. Raises InvalidRequest when nothing narrows it and that is not said."""
    named = {name: value for name, value in fields.items() if value}
    if not named.keys() - {"scope"} and older_than_s is None and not everything:
        raise InvalidRequest("Say what to purge: key, tag, model, namespace, prefix or older_than_s; or all=true.")
    if older_than_s is not None and older_than_s < 0:
        raise InvalidRequest("older_than_s is a number of seconds, 0 or more.", param="older_than_s")
    return Rule(before=now - (older_than_s or 0.0), at=now, **named)


class Rules(Protocol):
    """The rules that all processes share. Raises `StoreError`."""

    async def add(self, rule: Rule, at: float, until: float) -> None: ...
    async def load(self) -> list[Rule]: ...


class LocalRules:
    """Rules of this process alone."""

    def __init__(self) -> None:
        self._rules: list[tuple[Rule, float]] = []

    async def add(self, rule: Rule, at: float, until: float) -> None:
        self._rules = [*((old, end) for old, end in self._rules if end > at), (rule, until)]

    async def load(self) -> list[Rule]:
        return [rule for rule, _ in self._rules]


async def matching(store: Store, rule: Rule) -> AsyncIterator[tuple[str, Kept]]:
    """The stored entries that `rule` voids. One read when it names scope and key, a scan otherwise."""
    if rule.scope is not None and rule.key is not None:
        kept = await store.get(rule.scope, rule.key, strong=True)
        if kept is not None and rule.voids(rule.scope, kept):
            yield rule.scope, kept
        return
    async for scope, kept in store.walk(rule.scope):
        if rule.voids(scope, kept):
            yield scope, kept
