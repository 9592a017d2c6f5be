"""The canonical request and its exact key.

The key is SHA-256 over the canonical JSON of the whole forwarded body, less `UNHEARD`: a short list of fields that
cannot change the answer, each with its reason. A field that nobody has heard of is therefore in the key, and costs a
miss, never a wrong answer. With the body go the key's version, the tenant (or the fact that the namespace is shared),
the namespace, and the name of what the asked model resolved to, which itself carries everything that routing may
choose by. They are the items of one JSON array, so no value can be mistaken for another's neighbour.

Two spellings of one request get one key where their meaning is the same beyond doubt: a number with and without a
zero fraction, text as a string or as its only text part, a default that is the same everywhere (`USUAL`) said or left
out. Any other default is its server's own, so to say it is another request. The order of keys never counts; the order
of arrays does.

This module knows nothing of meaning: what may match by it is `edgewise.query.asker`'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

KEY_VERSION = 2
"""Raised whenever the same request would get another key, or the same key another meaning."""

UNHEARD: dict[str, str] = {
    "model": "the resolved target stands for it: two names of one model are one question",
    "user": "names the end user for abuse reports; the model does not see it",
    "safety_identifier": "the same, by its newer name",
    "metadata": "labels on the provider's stored copy; the model does not see them",
    "store": "asks the provider to keep a copy; the answer is the same",
    "prompt_cache_key": "steers the provider's own prompt cache, which does not change the answer",
    "prompt_cache_retention": "the same",
    "prompt_cache_options": "the same",
    "service_tier": "how soon and at what price, not what",
}

USUAL: dict[str, Any] = {"n": 1, "logprobs": False, "response_format": {"type": "text"}}
"""What leaving the field out says too, at every provider."""

_SORTED = orjson.OPT_SORT_KEYS
_EXACT_FLOAT = float(2**53)


def digest(value: Any) -> str:
    """SHA-256 over `value` as JSON with sorted keys, as 64 hex digits."""
    return sha256(orjson.dumps(value, option=_SORTED)).hexdigest()


def canonical(body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` without what can't change the answer, and with one spelling for what has two."""
    heard: dict[str, Any] = {}
    for name, value in body.items():
        if name in UNHEARD or (name in USUAL and value == USUAL[name]):
            continue
        if type(value) is float:
            heard[name] = _number(value)
        elif name == "messages":
            heard[name] = [_message(message) for message in value]
        else:
            heard[name] = value
    return heard


def _number(value: float) -> float | int:
    """0.0 is 0 and 1.0 is 1. Beyond 2^53 a float no longer says which integer it was, so it stays a float."""
    return int(value) if value.is_integer() and -_EXACT_FLOAT < value < _EXACT_FLOAT else value


def _message(message: Any) -> Any:
    """`message` with its only text part, if that is all it holds, as a string."""
    content = message.get("content")
    if type(content) is list and len(content) == 1:
        part = content[0]
        if type(part) is dict and len(part) == 2 and part.get("type") == "text" and type(part.get("text")) is str:
            return {**message, "content": part["text"]}
    return message
