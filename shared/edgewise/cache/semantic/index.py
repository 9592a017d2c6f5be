"""The warm index: one partition's vectors in this process's memory, searched whole.

Up to `DENSE_ROWS` rows one float32 product; above, the signs of the vectors packed into bits and laid out by column,
so that Hamming distances to all rows are a few passes of `np.bitwise_count`, and the nearest `RESCORED` are scored
again from int8. Exact for neighbours near enough to matter, 0.05 ms at 10,000 rows and 1 ms at 100,000 on one core
(docs/decisions/0034-meaning.md). No build step: adding is one column, removing moves the last row into the gap.

A row knows when it expires, and an expired row is never returned, whatever the store still holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DENSE_ROWS = 4_096
RESCORED = 32


@dataclass(frozen=True, slots=True)
class Row:
    """One way of asking for one entry.

    id        of the row: the entry's key, or the key with a suffix for another wording of the same question
    principals  who has asked this; a shared namespace wants several
    """

    id: str
    key: str
    text: str
    expires_at: float
    principals: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A row and its cosine with what was searched for."""

    row: Row
    similarity: float


class Index(Protocol):
    """Rows by vector. Vectors are (d,) float32 of unit length."""

    def put(self, row: Row, vector: Array) -> None:
        """Add the row, or replace the one with its id, whose principals stay."""
        ...

    def drop(self, id: str) -> None: ...
    def nearest(self, vector: Array, k: int, now: float) -> list[Neighbour]:
        """The `k` live rows most similar to `vector`, best first."""
        ...

    def __len__(self) -> int: ...


class WarmIndex:
    """An `Index` in numpy. Not for use by several threads at once."""

    def __init__(self, dim: int, capacity: int = 64) -> None:
        import numpy as np

        if dim % 64:
            raise ValueError("the signs are packed 64 to a word: the dimension must be a multiple of 64")
        self._np = np
        self.dim = dim
        self.rows: list[Row] = []
        self._place: dict[str, int] = {}
        self._by_key: dict[str, set[str]] = {}
        self._expires = np.empty(capacity, np.float64)
        self._soonest = float("inf")
        self._small = np.empty((capacity, dim), np.int8)
        self._scale = np.empty(capacity, np.float32)
        self._dense: Array | None = np.empty((capacity, dim), np.float32)
        self._bits: Array | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def fill(self, rows: list[Row], small: Array, scale: Array) -> None:
        """Take in many rows at once, into an empty index, as int8 with a scale each."""
        np = self._np
        count = len(rows)
        self.rows = rows
        self._place = {row.id: at for at, row in enumerate(rows)}
        self._by_key = {}
        for row in rows:
            self._by_key.setdefault(row.key, set()).add(row.id)
        self._expires = np.array([row.expires_at for row in rows] or [0.0], np.float64)
        self._soonest = float(self._expires.min()) if count else float("inf")
        self._small = np.ascontiguousarray(small) if count else np.empty((1, self.dim), np.int8)
        self._scale = np.array(scale, np.float32) if count else np.empty(1, np.float32)
        self._dense = self._bits = None
        if count <= DENSE_ROWS:
            self._dense = self._small.astype(np.float32) * self._scale[:, None]
        else:
            self._bits = _packed(np, self._small)

    def packed(self) -> tuple[list[Row], Array, Array]:
        """What `fill` takes."""
        count = len(self.rows)
        return self.rows, self._small[:count], self._scale[:count]

    def put(self, row: Row, vector: Array) -> None:
        np = self._np
        at = self._place.get(row.id)
        if at is None:
            at = len(self.rows)
            if at == len(self._expires):
                self._grow()
            self.rows.append(row)
            self._place[row.id] = at
        else:
            old = self.rows[at]
            self._by_key[old.key].discard(row.id)
            # Whoever has asked has asked, however often it is put anew.
            self.rows[at] = Row(row.id, row.key, row.text, row.expires_at, row.principals | old.principals)
        self._by_key.setdefault(row.key, set()).add(row.id)
        top = float(np.abs(vector).max()) or 1.0
        self._expires[at] = row.expires_at
        self._soonest = min(self._soonest, row.expires_at)
        self._small[at] = np.round(vector * (127 / top))
        self._scale[at] = top / 127
        if self._dense is not None:
            self._dense[at] = vector
            if len(self.rows) > DENSE_ROWS:
                self._dense, self._bits = None, _packed(np, self._small)
        elif self._bits is not None:
            self._bits[:, at] = np.packbits(self._small[at] > 0).view(np.uint64)

    def note(self, id: str, principal: str) -> None:
        """Remember that `principal` asks what this row asks."""
        at = self._place.get(id)
        if at is not None:
            row = self.rows[at]
            self.rows[at] = Row(row.id, row.key, row.text, row.expires_at, row.principals | {principal})

    def drop(self, id: str) -> None:
        at = self._place.pop(id, None)
        if at is None:
            return
        row = self.rows[at]
        self._by_key[row.key].discard(id)
        if not self._by_key[row.key]:
            del self._by_key[row.key]
        last = len(self.rows) - 1
        if at != last:
            moved = self.rows[at] = self.rows[last]
            self._place[moved.id] = at
            for each in (self._expires, self._small, self._scale, self._dense):
                if each is not None:
                    each[at] = each[last]
            if self._bits is not None:
                self._bits[:, at] = self._bits[:, last]
        self.rows.pop()

    def drop_key(self, key: str) -> None:
        """Forget every wording of one entry."""
        for wording in list(self._by_key.get(key, ())):
            self.drop(wording)

    def has_key(self, key: str) -> bool:
        """Whether any wording of the entry is here."""
        return key in self._by_key

    def vector(self, id: str) -> Array:
        """The row's vector. Raises KeyError when there is no such row."""
        at = self._place[id]
        return self._small[at].astype(self._np.float32) * self._scale[at]  # type: ignore[no-any-return]

    def sweep(self, now: float) -> int:
        """Drop what has expired; how many rows that were."""
        gone = [row.id for row in self.rows if row.expires_at <= now]
        for wording in gone:
            self.drop(wording)
        self._soonest = min((row.expires_at for row in self.rows), default=float("inf"))
        return len(gone)

    def nearest(self, vector: Array, k: int, now: float) -> list[Neighbour]:
        np, count = self._np, len(self.rows)
        if not count:
            return []
        if self._dense is not None:
            scores = self._dense[:count] @ vector
            scores[self._expires[:count] <= now] = -2.0
            best = np.argpartition(scores, -k)[-k:] if count > k else np.arange(count)
            scores = scores[best]
        else:
            best = self._close(vector, max(RESCORED, 4 * k), now)
            scores = (self._small[best].astype(np.float32) @ vector) * self._scale[best]
        order = np.argsort(-scores)[:k]
        return [Neighbour(self.rows[best[at]], float(scores[at])) for at in order if scores[at] > -2.0]

    def _close(self, vector: Array, most: int, now: float) -> Array:
        """The rows whose signs differ least from the vector's."""
        np, count = self._np, len(self.rows)
        assert self._bits is not None
        words = np.packbits(vector > 0).view(np.uint64)
        apart = np.zeros(count, np.uint16)
        for at, word in enumerate(words):
            apart += np.bitwise_count(self._bits[at, :count] ^ word)
        if now >= self._soonest:
            apart[self._expires[:count] <= now] = 65_535
        found: Array = np.argpartition(apart, min(most, count - 1))[:most]
        return found[self._expires[found] > now]

    def _grow(self) -> None:
        np = self._np
        size = max(64, 2 * len(self._expires))
        for name in ("_expires", "_small", "_scale", "_dense"):
            old = getattr(self, name)
            if old is not None:
                new = np.empty((size, *old.shape[1:]), old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)
        if self._bits is not None:
            wide = np.empty((self._bits.shape[0], size), np.uint64)
            wide[:, : self._bits.shape[1]] = self._bits
            self._bits = wide


def _packed(np: Any, small: Array) -> Array:
    """Signs as bits by column: (dim / 64, rows) uint64."""
    return np.ascontiguousarray(np.packbits(small > 0, axis=1).view(np.uint64).T)  # type: ignore[no-any-return]
