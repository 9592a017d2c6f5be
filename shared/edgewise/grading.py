"""A model asked for one word, yes or no, and how sure it is of it.

What judges of all kinds share: the matches of the cache by meaning, the answers of cheap models in a cascade. The word
costs a few tokens. Where the model tells log probabilities, the weight of `yes` against `no` is a better number than
the word (Kadavath et al. 2022, "P(True)"); without them it is 1 or 0. What is neither word is no answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgewise.chat import Answer, ChatRequest
from edgewise.words import Model

WORD_TOKENS = 4
THOUGHT_TOKENS = 1024
"""What a reasoning model may think before its word."""
MOST_TOLD = 5


def one_word(model: Model, text: str) -> ChatRequest:
    """The request that puts `text` to `model` and leaves room for one word."""
    body: dict[str, Any] = {"model": model.name, "messages": [{"role": "user", "content": text}]}
    if "reasoning" in model.capabilities:
        return ChatRequest({**body, "max_completion_tokens": THOUGHT_TOKENS})
    if "logprobs" in model.capabilities:
        body |= {"logprobs": True, "top_logprobs": MOST_TOLD}
    return ChatRequest({**body, "max_tokens": WORD_TOKENS, "temperature": 0})


def yes_share(answer: Answer) -> float | None:
    """How much the answer says yes, 0 to 1; None when it says neither yes nor no."""
    word = _word(answer.text)
    if word not in ("yes", "no"):
        return None
    weights = _weights(answer)
    whole = weights.get("yes", 0.0) + weights.get("no", 0.0)
    return weights.get("yes", 0.0) / whole if whole > 0 else float(word == "yes")


def _word(text: str) -> str:
    return text.strip().strip(".!*\"'").lower()


def _weights(answer: Answer) -> dict[str, float]:
    """The probabilities of what the first word might have been, by word."""
    logprobs = answer.choices[0].get("logprobs") if answer.choices else None
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    found: dict[str, float] = {}
    for told in (tokens[0].get("top_logprobs") or ()) if tokens else ():
        word = _word(str(told.get("token", "")))
        found[word] = found.get(word, 0.0) + math.exp(min(0.0, float(told.get("logprob", -100.0))))
    return found
