"""What is asked: a plan's request becomes a `Query` with its keys.

    key             the whole request, to the letter
    text_key        the same, with the last user turn in its normal form (case, spacing, punctuation)
    partition       everything but the last user turn: within it, that turn may match by meaning
    solo_partition  the same without the earlier turns, for a last turn that stands by itself

Only the exact key is made unless a `Reader` is given and the caller's policy allows meaning. The tenant is in every
hash; in a namespace that policy shares between tenants, the fact of sharing stands in its place. A namespace that the
request itself names is shared only if it is the one that policy named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from edgewise.chat import ChatRequest
from edgewise.query.canonical import KEY_VERSION, canonical, digest
from edgewise.words import Nearness, Plan, Query, Target, Volatility

SHARED = "shared:"
"""How the tenant of a shared namespace begins. No tenant's name does: a name has no colon."""


REMEMBERED = 1024
NOT_OF_ONE = frozenset({"messages", "encoding_format"})
"""What is not of one input of an embeddings request: it has no messages, and the encoding is how a vector is handed
over. OpenAI's clients ask for base64 where plain requests get numbers; both are the same vector."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What kind of question the last user turn is."""

    nearness: Nearness
    reason: str = ""
    volatility: Volatility = "static"
    alone: bool = False
    """The turn stands by itself: it means the same outside its conversation."""
    asked: str = ""
    """What of the turn is matched by meaning."""


class Reader(Protocol):
    """Reads a request for what it asks. Pure, and cheap: every request passes here."""

    def read(self, request: ChatRequest, *, by_meaning: bool) -> Reading: ...
    def normal(self, text: str) -> str: ...


class ExactAsker:
    """Makes the exact key, and, with a `reader`, the keys by which a turn may match by meaning."""

    __slots__ = ("_known", "_reader")

    def __init__(self, reader: Reader | None = None) -> None:
        self._reader = reader
        self._known: dict[tuple[str, bool], Query] = {}
        """What was read of recent requests; the exact key covers everything that a reading depends on."""

    def query(self, plan: Plan, target: Target) -> Query:
        request, policy = plan.request, plan.cache
        tenant, namespace, scope = _scope(plan, target)
        body = canonical(request.body)
        key = digest((*scope, body))
        if self._reader is None or policy.mode == "off":
            return Query(tenant, namespace, target.name, key)
        by_meaning = policy.mode == "semantic" and request.cache.semantic is not False
        known = self._known.get((key, by_meaning))
        if known is None:
            known = self._read(self._reader, request, scope, body, key, by_meaning=by_meaning)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key, by_meaning] = known
        return known

    def each(self, plan: Plan, target: Target, inputs: list[Any]) -> list[Query]:
        """A query for each of a request's inputs, as if it had been asked for alone; to the letter only."""
        tenant, namespace, scope = _scope(plan, target)
        body = {name: value for name, value in canonical(plan.request.body).items() if name not in NOT_OF_ONE}
        return [Query(tenant, namespace, target.name, digest((*scope, {**body, "input": one}))) for one in inputs]

    def _read(
        self,
        reader: Reader,
        request: ChatRequest,
        scope: tuple[Any, ...],
        body: dict[str, Any],
        key: str,
        *,
        by_meaning: bool,
    ) -> Query:
        reading = reader.read(request, by_meaning=by_meaning)
        text = _last_turn(body["messages"]) if by_meaning and reading.nearness == "semantic" else None
        if text is not None:
            return self._by_meaning(scope, body, key, text, reading)
        _, _, tenant, namespace, target = scope
        nearness: Nearness = "exact" if reading.nearness == "semantic" else reading.nearness
        return Query(
            tenant, namespace, target, key, nearness=nearness, reason=reading.reason, volatility=reading.volatility
        )

    def _by_meaning(self, scope: tuple[Any, ...], body: dict[str, Any], key: str, text: str, reading: Reading) -> Query:
        assert self._reader is not None
        _, _, tenant, namespace, target = scope
        messages: list[dict[str, Any]] = body["messages"]
        before, last = messages[:-1], messages[-1]
        rest = {name: value for name, value in last.items() if name != "content"}
        around = {**body, "messages": before}
        steady = [m for m in before if m["role"] in ("system", "developer")]
        alone = reading.alone and len(steady) < len(before)
        return Query(
            tenant,
            namespace,
            target,
            key,
            text_key=digest((*scope, "text", around, rest, self._reader.normal(text))),
            partition=digest((*scope, "near", around, rest)),
            text=reading.asked or text,
            nearness="semantic",
            reason=reading.reason,
            volatility=reading.volatility,
            solo_partition=digest((*scope, "near", {**around, "messages": steady}, rest)) if alone else None,
        )


def _scope(plan: Plan, target: Target) -> tuple[str, str, tuple[Any, ...]]:
    """Whose entries are meant, in which namespace, and what of that is in every hash."""
    policy = plan.cache
    namespace = plan.request.cache.namespace or policy.namespace
    shared = policy.shared and namespace == policy.namespace
    tenant = SHARED + namespace if shared else plan.principal.tenant
    whose = "shared" if shared else "tenant"
    if policy.guardrail is not None:
        # Not a part of the namespace: a request names that as it likes.
        whose = f"{whose}, read by {policy.guardrail}"
    return tenant, namespace, (KEY_VERSION, whose, tenant, namespace, target.name)


def _last_turn(messages: list[dict[str, Any]]) -> str | None:
    """The text of the last user turn if it ends the request and is one piece of text; None otherwise."""
    last = messages[-1]
    content = last.get("content")
    return content if last.get("role") == "user" and isinstance(content, str) and content else None
