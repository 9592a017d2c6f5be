"""The cache room's ports: where entries are kept, who matches by meaning, who may lead.

Rules that every implementation obeys: an entry is never returned once `expires_at` has come, whatever the storage
still holds; a scope never sees another scope's entries; trouble is raised as `StoreError` and becomes a miss in
`edgewise.cache.room`. A scope is `Query.tenant`: a tenant, or a namespace that several tenants share.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edgewise.words import Entry, Hit, Plan, Query


class StoreError(Exception):
    """The store did not answer, or not in a way that can be used."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry and what storage must know of it beyond the entry itself.

    gen        the fence: a put with a lower generation than the stored one is dropped; 0 for no lease
    namespace  for listing and purging
    stored_at  epoch seconds, when it came into this store, if that was later than the answer was made: an import
    """

    entry: Entry
    namespace: str = "default"
    gen: int = 0
    stored_at: float | None = None


class Store(Protocol):
    """Entries by scope and key. `get` may lag behind `put` unless `strong`. Raises `StoreError`."""

    async def get(self, scope: str, key: str, *, strong: bool = False) -> Kept | None: ...
    async def put(self, scope: str, kept: Kept) -> bool:
        """True when it is stored; False when a later generation is there already."""
        ...

    async def delete(self, scope: str, key: str) -> bool:
        """Whether there was one."""
        ...

    async def clear(self, scope: str) -> int:
        """Delete the scope's entries; how many there were."""
        ...

    async def size(self, scope: str) -> int:
        """How many live entries the scope has. Costs a scan: for people, not for requests."""
        ...

    async def link(self, scope: str, text_key: str, key: str, expires_at: float) -> None:
        """Let `text_key` lead to the entry of `key` until `expires_at`."""
        ...

    async def linked(self, scope: str, text_key: str) -> Kept | None:
        """The live entry that `text_key` leads to."""
        ...

    async def get_many(self, scope: str, keys: list[str]) -> dict[str, Kept]:
        """The live entries among `keys`, by key; as if each were got."""
        ...

    async def put_many(self, scope: str, kept: list[Kept]) -> None:
        """Store them, whatever generation is there."""
        ...

    def walk(self, scope: str | None = None) -> AsyncIterator[tuple[str, Kept]]:
        """Every live entry with its scope, in no order, of one scope or of all. Costs a scan."""
        ...


class Meaning(Protocol):
    """Matching by meaning (`edgewise.cache.semantic`). It may raise anything: the room makes a miss of it.

    A hit's entry must have been read again from the store before it is returned: an index may be behind. In a
    namespace that tenants share, enough of them must have asked for it, in whatever words.
    """

    async def find(self, query: Query, plan: Plan) -> Hit | str:
        """A verified hit, or why there is none, as one field term ('unverified', 'absent', …)."""
        ...

    async def add(self, query: Query, plan: Plan, entry: Entry) -> None:
        """Make `entry`, which is stored already, findable by the meaning of `query.text`."""
        ...

    async def remove(self, key: str, partition: str | None) -> None:
        """Forget the entry of `key`; `partition` None means wherever it is."""
        ...

    async def feedback(self, key: str, *, wrong: bool, evidence: Mapping[str, Any]) -> None:
        """A person says whether a hit on `key` was wrong, whose `evidence` this was, if that is known; teaches the
        threshold."""
        ...


class NoMeaning:
    """The null object: nothing is matched by meaning."""

    async def find(self, query: Query, plan: Plan) -> Hit | str:  # noqa: ARG002
        return "absent"

    async def add(self, query: Query, plan: Plan, entry: Entry) -> None:
        pass

    async def remove(self, key: str, partition: str | None) -> None:
        pass

    async def feedback(self, key: str, *, wrong: bool, evidence: Mapping[str, Any]) -> None:
        pass
