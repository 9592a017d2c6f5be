"""No two requests that may be answered differently share an entry: every field of OpenAI's description, to its leaves.

The fields are those of the OpenAI client's own types, so one that is new there fails here until it is thought of.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from edgewise.api.chat import taken
from edgewise.api.door import Knock
from edgewise.query.asker import ExactAsker
from edgewise.query.canonical import UNHEARD
from edgewise.words import CachePolicy, Credentials, Plan, Principal, Query
from tests.api.test_fields import FULL
from tests.query.test_canonical import TARGET, AnyReader

DELIVERY = {"stream", "stream_options"}
"""How an answer is handed over: a stream and a whole answer share an entry."""
BODY: dict[str, Any] = {
    **FULL,
    "messages": [*FULL["messages"], {"role": "user", "content": "And the last turn?", "name": "bob"}],
    "moderation": {"model": "m", "policy": None},
    "prompt_cache_options": {"ttl": "1h", "mode": "implicit"},
}
LAST = len(BODY["messages"]) - 1
Path = tuple[str | int, ...]


def asked(body: dict[str, Any]) -> Query:
    """As the edge reads it, by a key that accepts answers by meaning and a reader that finds any turn fit for it."""
    request = taken(copy.deepcopy(body), Knock(Credentials(None, "")))
    return ExactAsker(AnyReader()).query(Plan(Principal("t", "k"), request, cache=CachePolicy(mode="semantic")), TARGET)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value inside, with the way to it."""
    if path:
        yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in inner:
        yield from leaves(each, (*path, step))


def others(value: Any) -> Iterator[Any]:
    """Values near to it."""
    match value:
        case bool():
            yield not value
        case int() | float():
            yield from (value + 1, value - 0.25)
        case str():
            yield from (value + "x", " " + value)
        case None:
            yield "x"
        case list():
            yield from (value[:-1], [*value, value[-1]])
            if len(value) > 1:
                yield value[::-1]
        case dict():
            yield {**value, "unheard_of": 1}
            yield from (
                {name: each for name, each in value.items() if name != left} for left in value if left != "role"
            )


def changed(path: Path, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(BODY)
    at: Any = body
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return body


def test_every_field_of_the_description_is_tried() -> None:
    assert CompletionCreateParamsBase.__annotations__.keys() <= BODY.keys()


@pytest.mark.parametrize("field", sorted(BODY.keys() - {"model", *DELIVERY}))
def test_a_field_that_may_change_the_answer_sets_entries_apart(field: str) -> None:
    """Its key always; what matches by meaning too, unless it is the text of the last turn itself."""
    one = asked(BODY)
    for path, value in leaves(BODY[field], (field,)):
        for each in others(value):
            other = asked(changed(path, each))
            if field in UNHEARD:
                assert other == one, (path, each)
                continue
            assert other.key != one.key, (path, each)
            if path == ("messages", LAST, "content"):
                assert other.partition == one.partition
            elif path != ("messages",):
                assert other.partition is None or other.partition != one.partition, (path, each)
                assert other.text_key is None or other.text_key != one.text_key, (path, each)
            if field != "messages":
                assert other.solo_partition not in (None, one.solo_partition), (path, each)


def test_what_was_not_set_may_be_written_out_as_null() -> None:
    question = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    written_out = {name: None for name in BODY if name not in question}
    assert asked({**question, **written_out}) == asked(question)
    assert asked({**question, "unheard_of": None}) != asked(question)


def test_how_it_is_handed_over_does_not_count() -> None:
    for name, value in (("stream", True), ("stream_options", {"include_usage": True}), ("model", "other")):
        assert asked({**BODY, name: value}) == asked(BODY)
