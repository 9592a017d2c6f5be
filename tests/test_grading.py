"""A model asked for one word: what is sent, and how sure the word is."""

import math
from typing import Any

import pytest

from edgewise.chat import Answer, completion
from edgewise.grading import THOUGHT_TOKENS, WORD_TOKENS, one_word, yes_share
from edgewise.words import Model


def said(text: str, *likely: tuple[str, float]) -> Answer:
    top = [{"token": token, "logprob": math.log(share)} for token, share in likely]
    told = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": top}]} if likely else None
    message = {"role": "assistant", "content": text}
    choice: dict[str, Any] = {"index": 0, "message": message, "logprobs": told, "finish_reason": "stop"}
    return Answer(completion([choice], id="x", created=1, model="m", usage=None))


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        (said("Yes."), 1.0),
        (said(" no"), 0.0),
        (said("It depends"), None),
        (said(""), None),
        (said("Yes", ("Yes", 0.6), (" no", 0.2), ("maybe", 0.2)), 0.75),
        (said("No", ("maybe", 0.9)), 0.0),
        (Answer({}), None),
    ],
)
def test_a_word_is_a_number_and_anything_else_is_none(answer: Answer, share: float | None) -> None:
    found = yes_share(answer)
    assert found == (None if share is None else pytest.approx(share))


def test_a_reasoning_model_may_think_and_others_are_asked_how_sure_they_are() -> None:
    plain = one_word(Model("p", "m", capabilities=frozenset({"logprobs"})), "?").body
    assert plain["max_tokens"] == WORD_TOKENS and plain["logprobs"] is True
    thinks = one_word(Model("p", "m", capabilities=frozenset({"reasoning", "logprobs"})), "?").body
    assert thinks["max_completion_tokens"] == THOUGHT_TOKENS and not thinks.keys() & {"temperature", "logprobs"}
