"""Embedders: texts to unit vectors, in this process or by a service.

    minilm        English, in process, 5 ms a question      multilingual  Chinese and 14 others, in process, 1 ms
    remote        a service: Amazon Titan, or any OpenAI-compatible /embeddings

Each has an `id` that names its vector space; vectors of two ids are never compared, so the id is part of every
partition. Nothing is loaded before the first text, and nothing is downloaded: weights come with packages of the extra
`semantic`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from edgewise.query.text import language

if TYPE_CHECKING:
    import numpy as np


class EmbedderDown(Exception):
    """A service that embeds did not, or not usably."""


class Embedder(Protocol):
    """One of this process. `dim` is a multiple of 64; `encode` gives (n, dim) float32 rows of unit length. A service's
    is the same, awaited, and its `id` and `dim` are known after its first answer."""

    id: str
    dim: int

    def encode(self, texts: list[str]) -> np.ndarray[Any, Any]: ...


REMEMBERED = 512


class Remembering:
    """An embedder that still knows its last texts: a question that is not found is stored a moment later under the
    same vector. Texts that come in numbers are not asked about again, and are not remembered."""

    def __init__(self, inner: Embedder) -> None:
        self.id, self.dim, self._inner = inner.id, inner.dim, inner
        self._known = lru_cache(REMEMBERED)(self._one)

    def encode(self, texts: list[str]) -> np.ndarray[Any, Any]:
        return self._known(texts[0]) if len(texts) == 1 else self._inner.encode(texts)

    def _one(self, text: str) -> np.ndarray[Any, Any]:
        rows = self._inner.encode([text])
        rows.flags.writeable = False
        return rows


E = TypeVar("E")


class ByLanguage(Generic[E]):
    """English to one embedder, Chinese to another; other languages to none, since no verifier reads them."""

    def __init__(self, english: E | None, chinese: E | None) -> None:
        self._by = {"en": english, "zh": chinese, "other": None}

    @staticmethod
    def shipped() -> ByLanguage[Embedder]:
        """The embedders of the extra `semantic`; they load on their first text."""
        from edgewise.query.embed.minilm import MiniLm
        from edgewise.query.embed.multilingual import Multilingual

        return ByLanguage(Remembering(MiniLm()), Remembering(Multilingual()))

    def of(self, text: str) -> E | None:
        return self._by[language(text)]
