"""A judge that should have spoken and has not: what it would have seen is not served."""

from __future__ import annotations

import pytest

from edgewise.cache.semantic.account import CLOSE, MOST, Rehearsed, Served
from edgewise.cache.semantic.shadow import SILENT, Licences, LocalEvidence
from edgewise.clock import FakeClock
from tests.cache.semantic.test_meaning import Oracle


async def serving(licences: Licences, most: int) -> int:
    """How many hits are served before the account rests, without a label."""
    for count in range(most):
        if (await licences.account("n", 0.02)).rest > 0:
            return count
        licences.served("n", 0.02)
    return most


@pytest.mark.parametrize(("paid", "read"), [(0, 1.0), (10_000, CLOSE / MOST)])
async def test_without_labels_serving_rests_after_as_many_as_should_have_come(
    paid: int, read: float, clock: FakeClock
) -> None:
    """Rich or poor, the rest ends with the judge's first word; the hits until then are not paid for."""
    licences = Licences(clock, LocalEvidence(clock, 1e6), Oracle())
    await licences.told("n", 0.02, Served(paid, wrong=False))
    before = await licences.account("n", 0.02)
    assert before.judged == pytest.approx(read)
    assert await serving(licences, 1000) == int(SILENT / read) + 1
    await licences.told("n", 0.02, Rehearsed(wrong=False))
    assert await licences.account("n", 0.02) == before


async def test_a_label_now_and_then_is_enough(clock: FakeClock) -> None:
    licences = Licences(clock, LocalEvidence(clock, 1e6), Oracle())
    for _ in range(20):
        assert await serving(licences, 40) == 40
        await licences.told("n", 0.02, Served(0, wrong=False))


async def test_where_there_is_no_judge_none_is_waited_for(clock: FakeClock) -> None:
    assert await serving(Licences(clock, LocalEvidence(clock, 1e6), None), 2000) == 2000
