"""The tier in this process's memory: entries as they were kept, the answer as JSON text.

Text rather than objects, for three reasons: its length is the bytes that the bound is about, tool calls and logprobs
take a quarter of the memory, and what one request does to the object it got, no other request sees. Parsing it costs
a few microseconds (docs/decisions/0030-memory-tier.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from edgewise.cache.memory.shelf import Shelf, ShelfStats
from edgewise.cache.port import Kept
from edgewise.chat import Answer
from edgewise.words import Entry

_NOTHING = Answer({})
OVERHEAD_BYTES = 1_000
"""What an entry takes beside its answer: two keys, the entry's fields, the shelf's and the order's records."""


@dataclass(frozen=True, slots=True)
class _Held:
    head: Entry
    body: bytes
    namespace: str
    gen: int
    stored_at: float | None


@dataclass(frozen=True, slots=True)
class _Link:
    key: str


class Near:
    """Entries by scope and key, and by the key of their normalised text."""

    def __init__(self, shelf: Shelf[tuple[str, str], _Held | _Link]) -> None:
        self._shelf = shelf

    def get(self, scope: str, key: str) -> Kept | None:
        """The live entry, with an answer of its own."""
        held = self._shelf.get((scope, key))
        if isinstance(held, _Link):
            held = self._shelf.get((scope, held.key))
        if not isinstance(held, _Held):
            return None
        head = held.head
        entry = Entry(
            head.key,
            Answer(orjson.loads(held.body)),
            head.created_at,
            head.fresh_until,
            head.expires_at,
            head.model,
            head.provider,
            head.cost_usd,
            head.latency_ms,
            head.tags,
            head.text,
            head.principals,
            head.status,
        )
        return Kept(entry, held.namespace, held.gen, held.stored_at)

    def has(self, scope: str, key: str) -> bool:
        """Whether the live entry of `key` is here. Nothing is counted."""
        return self._shelf.peek((scope, key)) is not None

    def put(self, scope: str, kept: Kept) -> None:
        entry = kept.entry
        # A copy: what orjson returns keeps its working buffer, 16 kB for 2 kB of text.
        body = bytes(memoryview(orjson.dumps(entry.answer.completion)))
        held = _Held(replace(entry, answer=_NOTHING, messages=None), body, kept.namespace, kept.gen, kept.stored_at)
        self._shelf.put((scope, entry.key), held, len(body) + OVERHEAD_BYTES, entry.expires_at)

    def link(self, scope: str, text_key: str, key: str, expires_at: float) -> None:
        """Let `text_key` lead to the entry of `key`."""
        self._shelf.put((scope, text_key), _Link(key), OVERHEAD_BYTES // 4, expires_at)

    def delete(self, scope: str, key: str) -> None:
        self._shelf.delete((scope, key))

    def stats(self) -> ShelfStats:
        return self._shelf.stats()
