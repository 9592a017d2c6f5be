"""Vectors on OpenAI's wire: inputs apart, answers together, in the encoding that was asked for.

Clients ask for base64 by default (little-endian float32), and LangChain sends token numbers; both are passed on, and
whichever encoding a provider answers in is turned into the one that was asked for. An answer is held in parts, one for
each input: `{"embedding", "tokens", "model"}`, the vector as the provider sent it and the input's share of the tokens
that it counted.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from edgewise.clock import Deadline
from edgewise.errors import InvalidRequest, UpstreamUnavailable
from edgewise.words import Model

Embed = Callable[[Mapping[str, Any], str, Deadline], Awaitable[dict[str, Any]]]
"""OpenAI's embeddings of one model: the request's body and the model's id to the answer's JSON. Raises
`UpstreamError`."""


def inputs_of(given: Any) -> list[Any]:
    """A request's inputs, each as it could be asked for alone: a text, or a list of tokens."""
    return [given] if isinstance(given, str) or isinstance(given[0], int) else list(given)


def most_tokens(given: Any) -> int:
    """No text has more tokens than bytes."""
    if isinstance(given, str):
        return len(given.encode())
    return sum(most_tokens(item) if isinstance(item, str | list) else 1 for item in given)


def parts_of(answer: Mapping[str, Any], inputs: Sequence[Any], model: Model) -> list[dict[str, Any]]:
    """The provider's answer to `inputs`, in parts. Raises UpstreamUnavailable when it is not one vector an input."""
    rows = sorted(answer.get("data") or (), key=lambda row: row.get("index") or 0)
    if len(rows) != len(inputs):
        raise UpstreamUnavailable("The provider's answer is not one vector for each input.", status=502)
    tokens = _shares((answer.get("usage") or {}).get("prompt_tokens") or 0, [most_tokens(one) for one in inputs])
    named = answer.get("model") or model.id
    return [{"embedding": row["embedding"], "tokens": n, "model": named} for row, n in zip(rows, tokens, strict=True)]


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole shares by weight, which add up to it."""
    shares, given, weighed, whole = [], 0, 0, max(1, sum(weights))
    for weight in weights:
        weighed += weight
        shares.append(total * weighed // whole - given)
        given += shares[-1]
    return shares


def together(parts: Sequence[Mapping[str, Any]], encoding: str | None) -> dict[str, Any]:
    """OpenAI's answer, with every key that its description requires. Its usage is that of all parts, kept or new."""
    tokens = sum(part["tokens"] for part in parts)
    as_text = encoding == "base64"
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": number, "embedding": encoded(part["embedding"], as_text=as_text)}
            for number, part in enumerate(parts)
        ],
        "model": parts[0]["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def vectors_of(answer: Mapping[str, Any]) -> list[list[float]]:
    """The vectors of a provider's answer as numbers, in the order of the texts."""
    rows = sorted(answer["data"], key=lambda row: row.get("index") or 0)
    return [cast("list[float]", encoded(row["embedding"], as_text=False)) for row in rows]


def encoded(vector: str | Sequence[float], *, as_text: bool) -> str | list[float]:
    """`vector` as base64 of little-endian float32, or as numbers."""
    if isinstance(vector, str):
        if as_text:
            return vector
        raw = base64.b64decode(vector)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    if as_text:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return [float(number) for number in vector]


def of_encoder(encode: Callable[[list[str]], Awaitable[Sequence[Sequence[float]]]], dimensions: int) -> Embed:
    """An encoder in this process as an `Embed`. Its usage is an estimate, four characters a token."""

    async def embed(body: Mapping[str, Any], model_id: str, _: Deadline) -> dict[str, Any]:
        given = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if not all(isinstance(item, str) for item in given):
            raise InvalidRequest("This model takes text, not tokens.", param="input")
        if body.get("dimensions") not in (None, dimensions):
            raise InvalidRequest(f"This model has {dimensions} dimensions.", param="dimensions")
        vectors = await encode(given)
        tokens = sum(max(1, len(item) // 4) for item in given)
        return {
            "data": [{"embedding": [float(x) for x in vector]} for vector in vectors],
            "model": model_id,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    return embed
