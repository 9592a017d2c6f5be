"""The warm index: one partition's vectors in this process's memory, searched whole.

Vectors are int8 with a scale each, and their signs are packed into bits and laid out by column, so that Hamming
distances to all rows are a few passes of `np.bitwise_count`; the nearest `RESCORED`, or all of a small index, are
scored from int8. What a search finds of the true five nearest, and how soon, is in docs/decisions/0034-meaning.md. No
build step: adding is one column, removing moves the last row into the gap.

A row knows when it expires: it leaves the index with the first search after that, whatever the store still holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

RESCORED = 64
_AT_ONCE = 16_384
"""Rows whose distances are taken in one pass: what is in between stays in a core's own cache."""


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
        self._further: dict[str, set[str]] = {}
        self._expires = np.empty(capacity, np.float64)
        self._soonest = float("inf")
        self._small = np.empty((capacity, dim), np.int8)
        self._scale = np.empty(capacity, np.float32)
        self._bits = np.empty((dim // 64, capacity), np.uint64)

    def __len__(self) -> int:
        return len(self.rows)

    def fill(self, rows: list[Row], small: Array, scale: Array) -> None:
        """Take in many rows at once, into an empty index, as int8 with a scale each."""
        np = self._np
        self.rows = rows
        self._place = {row.id: at for at, row in enumerate(rows)}
        self._further = {}
        for row in rows:
            if row.id != row.key:
                self._further.setdefault(row.key, set()).add(row.id)
        self._expires = np.array([row.expires_at for row in rows], np.float64)
        self._soonest = float(self._expires.min(initial=float("inf")))
        self._small = np.ascontiguousarray(small)
        self._scale = np.array(scale, np.float32)
        self._bits = np.ascontiguousarray(self._signs(self._small).T)

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
            # Whoever has asked has asked, however often it is put anew.
            self.rows[at] = Row(row.id, row.key, row.text, row.expires_at, row.principals | old.principals)
        if row.id != row.key:
            self._further.setdefault(row.key, set()).add(row.id)
        top = float(np.abs(vector).max()) or 1.0
        self._expires[at] = row.expires_at
        self._soonest = min(self._soonest, row.expires_at)
        self._small[at] = np.round(vector * (127 / top))
        self._scale[at] = top / 127
        self._bits[:, at] = self._signs(self._small[at])

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
        key = self.rows[at].key
        if id != key:
            self._further[key].discard(id)
            if not self._further[key]:
                del self._further[key]
        last = len(self.rows) - 1
        if at != last:
            moved = self.rows[at] = self.rows[last]
            self._place[moved.id] = at
            for each in (self._expires, self._small, self._scale, self._bits.T):
                each[at] = each[last]
        self.rows.pop()

    def drop_key(self, key: str) -> None:
        """Forget every wording of one entry."""
        for wording in self._wordings(key):
            self.drop(wording)

    def until(self, key: str) -> float | None:
        """When the last of the entry's wordings expires; None when none is here."""
        return max((self.rows[self._place[each]].expires_at for each in self._wordings(key)), default=None)

    def _wordings(self, key: str) -> list[str]:
        """The ids of the entry's rows: its key, and those of further wordings."""
        return [each for each in (key, *self._further.get(key, ())) if each in self._place]

    def vector(self, id: str) -> Array:
        """The row's vector. Raises KeyError when there is no such row."""
        at = self._place[id]
        return self._small[at].astype(self._np.float32) * self._scale[at]  # type: ignore[no-any-return]

    def sweep(self, now: float) -> None:
        """Drop what has expired."""
        self._drop_at((self._expires[: len(self.rows)] <= now).nonzero()[0])
        self._soonest = float(self._expires[: len(self.rows)].min(initial=float("inf")))

    def shrink(self, most: int) -> None:
        """Drop what expires soonest, until `most` rows are left."""
        count = len(self.rows)
        if count > most:
            self._drop_at(self._expires[:count].argpartition(count - most)[: count - most])

    def _drop_at(self, places: Array) -> None:
        for wording in [self.rows[at].id for at in places.tolist()]:
            self.drop(wording)

    def nearest(self, vector: Array, k: int, now: float) -> list[Neighbour]:
        if now >= self._soonest:
            self.sweep(now)
        best = self._close(vector, max(RESCORED, 4 * k))
        scores: Array = self._small.take(best, 0) @ vector
        scores *= self._scale.take(best)
        found = []
        # A few looks for the largest cost less than an order of all.
        for _ in range(min(k, len(best))):
            at = int(scores.argmax())
            found.append(Neighbour(self.rows[best[at]], float(scores[at])))
            scores[at] = -2.0
        return found

    def _close(self, vector: Array, most: int) -> Array:
        """The `most` rows whose signs differ least from the vector's, and others that differ as little as the last."""
        np, count, groups = self._np, len(self.rows), 4 * most
        if count <= groups:
            everything: Array = np.arange(count)
            return everything
        words = self._signs(vector)[:, None]
        apart = np.empty(count, np.uint16)
        for start in range(0, count, _AT_ONCE):
            part = slice(start, min(start + _AT_ONCE, count))
            np.add.reduce(np.bitwise_count(self._bits[:, part] ^ words), 0, np.uint16, apart[part])
        # `most` groups have a row no farther than the cut, so at least as many rows are found; without the branches of
        # a partition, which nothing predicts.
        nearest = np.minimum.reduce(apart[: count - count % groups].reshape(-1, groups))
        nearest.sort()
        found: Array = (apart <= nearest[most - 1]).nonzero()[0]
        return found if len(found) <= groups else found[apart[found].argpartition(most)[:most]]

    def _signs(self, vectors: Array) -> Array:
        """Which numbers are positive, as bits, 64 to a word: (…, dim / 64) uint64."""
        signs: Array = self._np.packbits(vectors > 0, axis=-1).view(self._np.uint64)
        return signs

    def _grow(self) -> None:
        np = self._np
        size = max(64, 2 * len(self._expires))
        for name in ("_expires", "_small", "_scale"):
            old = getattr(self, name)
            new = np.empty((size, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
        wide = np.empty((self._bits.shape[0], size), np.uint64)
        wide[:, : self._bits.shape[1]] = self._bits
        self._bits = wide
