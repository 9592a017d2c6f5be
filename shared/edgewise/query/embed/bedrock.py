"""Amazon Titan Text Embeddings V2 through Bedrock: one call a text, 100 languages, vectors of unit length.

`encode` blocks for a round trip, so whoever calls it does so on a thread (`remote` is True).
Source: the InvokeModel reference for `amazon.titan-embed-text-v2:0` (inputText, dimensions, normalize → embedding).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edgewise.aws import Aws

if TYPE_CHECKING:
    import numpy as np

MODEL = "amazon.titan-embed-text-v2:0"


class Titan:
    """`dim` is 256, 512 or 1024. Raises botocore's errors: whoever matches by meaning makes a miss of them."""

    remote = True

    def __init__(self, aws: Aws, dim: int = 512, model: str = MODEL) -> None:
        self.dim = dim
        self.id = f"{model}/{dim}"
        self._aws = aws
        self._model = model

    def encode(self, texts: list[str]) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.array([self._one(text) for text in texts], np.float32)

    def _one(self, text: str) -> list[float]:
        body = json.dumps({"inputText": text, "dimensions": self.dim, "normalize": True})
        answer = self._aws.client("bedrock-runtime").invoke_model(modelId=self._model, body=body)
        found: list[float] = json.loads(answer["body"].read())["embedding"]
        return found
