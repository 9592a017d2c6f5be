"""OpenAI's embeddings as calls of Amazon Titan Text Embeddings: one InvokeModel a text.

Source: the InvokeModel reference for `amazon.titan-embed-text-v2:0` (inputText, dimensions, normalize → embedding,
inputTextTokenCount). Other families on Bedrock have other bodies and are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from edgewise.errors import InvalidRequest, ModelNotFound

FAMILY = "amazon.titan-embed-text"


def asked(body: Mapping[str, Any], model_id: str) -> list[dict[str, Any]]:
    """`invoke_model`'s arguments, one for each text. Raises ModelNotFound, InvalidRequest."""
    if not model_id.startswith(FAMILY):
        raise ModelNotFound(f"On Bedrock {FAMILY} embeds; {model_id[:100]!r} does not.", param="model")
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("This model takes text, not tokens.", param="input")
    # The first version knows neither field; the second brings vectors to unit length, as OpenAI's are.
    more = {"normalize": True} if "v2" in model_id else {}
    if body.get("dimensions") is not None:
        more["dimensions"] = body["dimensions"]
    return [{"modelId": model_id, "body": orjson.dumps({"inputText": text, **more}).decode()} for text in texts]


def answer(told: list[dict[str, Any]], model_id: str) -> dict[str, Any]:
    """OpenAI's answer for Titan's, in order. Raises KeyError for one that has no vector."""
    tokens = sum(int(each.get("inputTextTokenCount") or 0) for each in told)
    return {
        "data": [{"embedding": each["embedding"]} for each in told],
        "model": model_id,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
