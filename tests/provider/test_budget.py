"""The retry budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgewise.clock import FakeClock
from edgewise.provider.budget import RetryShare


async def test_what_is_saved_is_spent_and_earned_again(clock: FakeClock) -> None:
    budget = RetryShare(clock, share=0.5, a_second=1, saved=2)
    assert [budget.allow() for _ in range(3)] == [True, True, False]
    budget.began()
    assert not budget.allow()
    budget.began()
    assert budget.allow()
    await clock.advance(1)
    assert budget.allow() and not budget.allow()
    await clock.advance(1000)
    assert [budget.allow() for _ in range(3)] == [True, True, False], "no more is saved than may be"


@given(st.lists(st.booleans(), max_size=300), st.floats(0, 0.5))
def test_retries_never_pass_their_share(calls: list[bool], share: float) -> None:
    """However calls and retries are mixed, at one moment: at most what was saved and a share of the calls."""
    budget, began, allowed = RetryShare(FakeClock(), share=share, saved=3), 0, 0
    for is_retry in calls:
        if is_retry:
            allowed += budget.allow()
        else:
            budget.began()
            began += 1
    assert allowed <= 3 + share * began + 1e-9
