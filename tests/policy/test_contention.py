"""The benchmark of budgets, small: two processes, one killed while it holds."""

from __future__ import annotations

import pytest
from bench import budget


@pytest.mark.slow
def test_the_cap_holds_and_nothing_leaks_when_a_process_is_killed() -> None:
    assert budget.main(["--processes", "2", "--width", "10", "--cap", "0.40", "--busy-s", "0.1"]) == 0
