"""Embedders: texts to unit vectors, in this process or by a service.

    minilm        English, in process, 5 ms a question      multilingual  Chinese and 14 others, in process, 1 ms
    bedrock       Amazon Titan                              remote        any OpenAI-compatible /embeddings

Each has an `id` that names its vector space; vectors of two ids are never compared, so the id is part of every
partition. Nothing is loaded before the first text, and nothing is downloaded: weights come with packages of the extra
`semantic`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from edgewise.query.text import language

if TYPE_CHECKING:
    import numpy as np


class Embedder(Protocol):
    """`dim` is a multiple of 64. `encode` gives (n, dim) float32 rows of unit length."""

    id: str
    dim: int

    def encode(self, texts: list[str]) -> np.ndarray[Any, Any]: ...


class ByLanguage:
    """English to one embedder, Chinese to another; other languages to none, since no verifier reads them."""

    def __init__(self, english: Embedder | None, chinese: Embedder | None) -> None:
        self._by = {"en": english, "zh": chinese, "other": None}

    @classmethod
    def shipped(cls) -> ByLanguage:
        """The embedders of the extra `semantic`; they load on their first text."""
        from edgewise.query.embed.minilm import MiniLm
        from edgewise.query.embed.multilingual import Multilingual

        return cls(MiniLm(), Multilingual())

    def of(self, text: str) -> Embedder | None:
        return self._by[language(text)]
