"""A model that labels matches: one word in, one label out, and its calls are on the record."""

from __future__ import annotations

import pytest

from edgewise.assemble.house import build
from edgewise.assemble.judging import ModelJudge
from edgewise.clock import FakeClock
from edgewise.record.room import RecordRoom
from edgewise.settings import Settings
from edgewise.words import Model, Note
from tests import fakes


@pytest.mark.parametrize(("word", "label"), [("yes", True), ("No.", False), ("I think so", None), ("", None)])
async def test_one_word_is_a_label_and_anything_else_is_none(word: str, label: bool | None, clock: FakeClock) -> None:
    record = RecordRoom(clock)
    notes: list[Note] = []
    record.watch(lambda note, _: notes.append(note))
    caller = fakes.FakeCaller(clock, lambda _: fakes.saying(word))
    judge = ModelJudge(Model("scripted", "echo"), caller, clock, record)
    assert (await judge.judge("Capital of Spain?", "Capital of France?", "Paris")).right is label
    assert "Capital of Spain?" in caller.calls[0].messages[0]["content"]
    assert (notes[0].route, notes[0].tenant) == ("judge", "edgewise")


def test_a_judge_that_is_not_there_is_told_at_the_start() -> None:
    with pytest.raises(ValueError, match="EDGEWISE_CACHE_JUDGE_MODEL"):
        build(Settings(root_key="ew_x", cache_judge_model="nobody/knows"))
