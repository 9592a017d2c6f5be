"""Any OpenAI-compatible `/embeddings`: OpenAI itself, vLLM, Ollama, text-embeddings-inference.

`encode` blocks for a round trip, so whoever calls it does so on a thread (`remote` is True). The standard library's
client is enough for that, and costs no import. Vectors are brought to unit length: not every server does.
"""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import numpy as np


class RemoteEmbedder:
    """One model behind one base URL (`https://…/v1`). Raises OSError or ValueError when it does not answer well."""

    remote = True

    def __init__(
        self, base_url: str, model: str, dim: int, *, api_key: str | None = None, timeout_s: float = 2.0
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https"):
            raise ValueError("an embedding server is reached by http or https")
        self.dim = dim
        self.id = f"{model}/{dim}"
        self._url = base_url.rstrip("/") + "/embeddings"
        self._model = model
        self._api_key = api_key
        self._timeout_s = timeout_s

    def encode(self, texts: list[str]) -> np.ndarray[Any, Any]:
        import numpy as np

        headers = {"content-type": "application/json"}
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key}"
        body = json.dumps({"model": self._model, "input": texts, "encoding_format": "float"}).encode()
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - the scheme is checked above
        with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
            found = json.load(answer)["data"]
        rows = np.array([row["embedding"] for row in sorted(found, key=lambda row: row["index"])], np.float32)
        if rows.shape != (len(texts), self.dim):
            raise ValueError(f"{self._model} gave vectors of shape {rows.shape}, not {(len(texts), self.dim)}")
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows
