"""The regular work: every chore has its turn, and a failure is told when all have had it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from edgewise.upkeep import Chore, ChoresFailed, Upkeep, keep_up
from tests.functions.conftest import event


class Book:
    """Makes chores, and writes down which have run."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def chore(self, name: str, error: Exception | None = None) -> Chore:
        async def run() -> Mapping[str, Any]:
            self.done.append(name)
            if error is not None:
                raise error
            return {"ran": name}

        return Chore(name, run)


async def test_each_chore_runs_in_its_order_and_says_what_it_did() -> None:
    book = Book()
    told = await keep_up([book.chore("a"), book.chore("b")])
    assert told == {"a": {"ran": "a"}, "b": {"ran": "b"}} and book.done == ["a", "b"]


async def test_one_that_fails_does_not_cost_the_others_their_turn() -> None:
    book = Book()
    with pytest.raises(ChoresFailed, match="b: OSError, d: KeyError"):
        await keep_up([book.chore("a"), book.chore("b", OSError()), book.chore("c"), book.chore("d", KeyError())])
    assert book.done == ["a", "b", "c", "d"]


def test_a_schedules_event_runs_all_and_an_operators_those_that_it_names() -> None:
    book = Book()
    upkeep = Upkeep([book.chore("a"), book.chore("b")])
    assert set(upkeep(event("schedule_upkeep"), None)) == {"a", "b"}
    assert set(upkeep({"chores": ["b"]}, None)) == {"b"}
    upkeep.close()
