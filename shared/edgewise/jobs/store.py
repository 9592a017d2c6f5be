"""The batches' store, as a protocol: every change is conditional, so that doing a thing twice does it once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgewise.jobs.batch import Batch, Result, Status, Tally
from edgewise.jobs.paid import PaidCall


@dataclass(frozen=True, slots=True)
class Claimed:
    """The chunk is ours for the lease.

    claims   how often it has been claimed since it was last given back in good order: 1 is the first time
    fresh    nobody has ever claimed it before, so none of its lines has a result
    strikes  how often each line was under way when a worker died; see `work.py`
    """

    claims: int
    fresh: bool
    strikes: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Held:
    """Another worker has it until then (seconds since the epoch), if it does not hold on."""

    until: float


@dataclass(frozen=True, slots=True)
class Done:
    """Its lines have ended; `tally` are its counts, which its batch may not have been told yet."""

    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class Worked:
    """What is known of a chunk's lines: results by line, paid calls by line and key."""

    results: dict[int, Result] = field(default_factory=dict)
    calls: dict[tuple[int, str], PaidCall] = field(default_factory=dict)


class Batches(Protocol):
    async def create(self, batch: Batch) -> bool: ...
    async def get(self, id: str) -> Batch | None: ...
    async def page(self, tenant: str, after: Batch | None, limit: int) -> list[Batch]: ...
    def active(self) -> AsyncIterator[str]: ...
    async def retire(self, id: str) -> None: ...
    async def move(self, id: str, to: Status, **changes: Any) -> Batch | None: ...
    async def note(self, id: str, **changes: Any) -> None: ...
    async def claim(self, id: str, chunk: int, owner: str, lease_s: float) -> Claimed | Held | Done: ...
    async def suspect(self, id: str, chunk: int, lines: list[int], strikes: Mapping[int, int]) -> None: ...
    async def renew(self, id: str, chunk: int, owner: str, lease_s: float, done: tuple[int, int]) -> bool: ...
    async def release(self, id: str, chunk: int, owner: str) -> None: ...
    async def worked(self, id: str, chunk: int, *, calls: bool) -> Worked: ...
    async def results(self, id: str, lines: list[tuple[int, int]]) -> list[Result]: ...
    async def put_result(self, id: str, chunk: int, result: Result) -> bool: ...
    async def put_call(self, id: str, chunk: int, line: int, key: str, call: PaidCall) -> None: ...
    async def finish_chunk(self, id: str, chunk: int, tally: Tally) -> None: ...
    async def count(self, id: str, chunk: int, tally: Tally) -> Batch | None: ...
    async def held_chunks(self, id: str) -> int: ...
