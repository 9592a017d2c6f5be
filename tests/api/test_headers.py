"""What the headers of an answer tell."""

from __future__ import annotations

from edgewise.api.headers import of_served
from edgewise.clock import FakeClock
from edgewise.served import Served
from edgewise.words import Attempt, Entry, Hit, Live, Model
from tests.fakes import saying


def test_confidence_is_told_with_where_it_comes_from() -> None:
    model = Model("fake", "m")
    served = Served("req_1", False, 0.0, live=Live(model, confidence=0.75, confidence_source="agreement"))
    told = of_served(served, FakeClock())
    assert (told["x-edgewise-confidence"], told["x-edgewise-confidence-source"]) == ("0.750", "agreement")


def test_a_stale_answer_for_a_provider_that_failed_tells_what_was_tried() -> None:
    entry = Entry("k", saying("old"), 0, 1, 2, "m", "fake")
    tried = [Attempt(Model("fake", "m"), status=504, error="upstream_timeout")]
    served = Served("req_1", False, 0.0, verdict=Hit(entry, "stale"), attempts=tried)
    told = of_served(served, FakeClock())
    assert (told["x-edgewise-attempts"], told["x-edgewise-cost-usd"]) == ("1", "unknown")
    served.attempts = []
    told = of_served(served, FakeClock())
    assert (told["x-edgewise-attempts"], told["x-edgewise-cost-usd"]) == ("0", "0")
