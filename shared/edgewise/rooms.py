"""The rooms as the corridor sees them: what each is asked, and nothing of how it does that.

A room implements its port here; `edgewise.flow` is the only caller. Two rules: the cache's port does not raise, and
policy's does whenever it cannot tell.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgewise.background import Background
from edgewise.chat import Answer, ChatRequest
from edgewise.clock import Clock, Deadline
from edgewise.errors import EdgewiseError
from edgewise.words import (
    Attempt,
    Caller,
    Choice,
    Credentials,
    Live,
    Note,
    Plan,
    Principal,
    Query,
    Target,
    Verdict,
)


class Policy(Protocol):
    """May we? Raises an `EdgewiseError` when not; unavailable storage is a refusal."""

    async def identify(self, credentials: Credentials) -> Principal: ...
    async def plan(self, principal: Principal, request: ChatRequest, credentials: Credentials) -> Plan: ...
    async def reserve(self, plan: Plan, choice: Choice) -> Any: ...
    async def mend(self, plan: Plan, answer: Answer, again: Callable[[ChatRequest], Awaitable[Answer]]) -> Answer: ...
    async def settle(self, hold: Any, attempts: list[Attempt]) -> None: ...
    async def close(self, plan: Plan) -> None: ...


class Asker(Protocol):
    """What is asked? Pure."""

    def query(self, plan: Plan, target: Target) -> Query: ...
    def each(self, plan: Plan, target: Target, inputs: list[Any]) -> list[Query]: ...


class Cache(Protocol):
    """Have we it? Never raises: trouble is a miss with a reason."""

    async def look(self, query: Query, plan: Plan) -> Verdict: ...
    async def offer(self, query: Query, plan: Plan, lead: Any, answer: Answer, attempt: Attempt) -> str: ...
    async def give_up(self, query: Query, lead: Any, error: EdgewiseError | None) -> None: ...
    async def look_each(self, queries: Sequence[Query], plan: Plan) -> list[Verdict]: ...
    async def offer_each(self, made: Sequence[tuple[Query, Answer, Attempt]], plan: Plan) -> str: ...


class Router(Protocol):
    """Which model?"""

    def resolve(self, request: ChatRequest, plan: Plan) -> Target: ...
    async def choose(self, request: ChatRequest, plan: Plan, target: Target) -> Choice: ...
    async def carry_out(
        self, choice: Choice, request: ChatRequest, caller: Caller, deadline: Deadline, trail: list[Attempt]
    ) -> Live: ...
    def observe(self, plan: Plan, choice: Choice, trail: list[Attempt], answer: Answer | None) -> None: ...
    def follow_up(self, plan: Plan, choice: Choice, live: Live, request_id: str) -> Choice | None:
        """What is to be asked again of other models, behind the answer, to learn from; None: nothing."""
        ...

    async def compare(
        self, shadow: Choice, plan: Plan, live: Live, caller: Caller, deadline: Deadline, trail: list[Attempt]
    ) -> None: ...


class Record(Protocol):
    """One line per request. Cheap, and it never fails a request."""

    def note(self, note: Note) -> None: ...


@dataclass(slots=True)
class Rooms:
    """Everything the corridor passes through, built by `edgewise.assemble`."""

    policy: Policy
    asker: Asker
    cache: Cache
    router: Router
    caller: Caller
    record: Record
    clock: Clock
    background: Background = field(default_factory=Background)
