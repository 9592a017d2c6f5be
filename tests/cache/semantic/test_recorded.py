"""What the verifier does on recorded pairs, as a floor under it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench.semcache import Lab, conversations_set, pairs_set, rows_of


@pytest.mark.data
def test_recorded_pairs_and_conversations(data: Path) -> None:
    """Development data: partly in-sample, so the floor is above what unseen pairs will show."""
    lab, folder = Lab(), data / "semcache"
    pairs = pairs_set(lab, rows_of(folder / "fow_pairs_dev.jsonl"))["edgewise@0.02"]
    assert pairs["hit_rate"] >= 0.6 and pairs["traps_served"] <= 0.03
    talks = conversations_set(lab, rows_of(folder / "fow_conversations_dev.jsonl"))["edgewise@0.02"]
    assert talks["hit_rate"] >= 0.3 and talks["traps_served"] <= 0.05
    assert json.dumps(pairs)
