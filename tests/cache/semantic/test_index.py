"""The warm index agrees with a plain search, forgets what expired, and survives being packed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgewise.cache.semantic import index as module
from edgewise.cache.semantic.index import Row, WarmIndex
from edgewise.cache.semantic.log import Added, Removed, Vouched, apply, pack, unpack

DIM = 64


def vector(seed: int, dim: int = DIM) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return found / np.linalg.norm(found)


def row(name: str, expires_at: float = math.inf, key: str | None = None) -> Row:
    return Row(name, key or name, f"text of {name}", expires_at)


class IndexMachine(RuleBasedStateMachine):
    """Puts, drops and expiry against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.index = WarmIndex(DIM, capacity=2)
        self.model: dict[str, tuple[float, np.ndarray]] = {}
        self.now = 0.0

    @rule(name=st.integers(0, 12), life=st.floats(1, 50), seed=st.integers(0, 99))
    def put(self, name: int, life: float, seed: int) -> None:
        self.index.put(row(str(name), self.now + life), vector(seed))
        self.model[str(name)] = (self.now + life, vector(seed))

    @rule(name=st.integers(0, 12))
    def drop(self, name: int) -> None:
        self.index.drop(str(name))
        self.model.pop(str(name), None)

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        self.index.sweep(self.now)
        self.model = {name: pair for name, pair in self.model.items() if pair[0] > self.now}

    @rule()
    def repack(self) -> None:
        found = unpack(pack(self.index, "c"), DIM, self.now)
        assert found is not None and found[1] == "c"
        self.index = found[0]
        self.model = {name: pair for name, pair in self.model.items() if pair[0] > self.now}

    @invariant()
    def finds_the_live_rows_best_first(self) -> None:
        asked = vector(5)
        found = self.index.nearest(asked, 3, self.now)
        live = {name: float(v @ asked) for name, (until, v) in self.model.items() if until > self.now}
        best = sorted(live.values(), reverse=True)[:3]
        assert [round(each.similarity, 1) for each in found] == pytest.approx([round(s, 1) for s in best], abs=0.11)
        assert all(each.row.id in live for each in found)


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_bits_find_near_neighbours_as_the_dense_search_does() -> None:
    index, dense = WarmIndex(384), {}
    for i in range(600):
        dense[str(i)] = vector(i, 384)
        index.put(row(str(i), 10.0 if i == 7 else math.inf), dense[str(i)])
    for i in range(0, 600, 29):
        near = dense[str(i)] + 0.3 * vector(10_000 + i, 384)
        near /= np.linalg.norm(near)
        assert index.nearest(near, 5, 0.0)[0].row.id == str(i)
    assert all(each.row.id != "7" for each in index.nearest(dense["7"], 5, 11.0))
    index.drop("3")
    assert index.nearest(dense["3"], 1, 0.0)[0].row.id != "3"
    index.put(row("3"), dense["3"])
    assert index.nearest(dense["3"], 1, 0.0)[0].row.id == "3"


@given(
    count=st.integers(257, 2_000),
    kinds=st.integers(1, 2_000),
    k=st.integers(1, 40),
    at_once=st.sampled_from([300, 9999]),
)
@settings(max_examples=40, deadline=None)
def test_what_is_scored_are_the_rows_whose_signs_differ_least(count: int, kinds: int, k: int, at_once: int) -> None:
    """However many rows are alike, and wherever they stand: at least as many as asked for, and never ten times more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE", at_once)
        random = np.random.default_rng(count)
        index, most = WarmIndex(DIM), max(module.RESCORED, 4 * k)
        small = random.integers(-127, 127, (kinds, DIM), dtype=np.int8)[random.integers(0, kinds, count)]
        index.fill([row(str(at)) for at in range(count)], small, np.ones(count, np.float32))
        asked = random.standard_normal(DIM).astype(np.float32)
        apart = ((small > 0) != (asked > 0)).sum(axis=1)
        found = set(index._close(asked, most).tolist())
    cut = np.sort(apart)[min(most, count) - 1]
    assert min(most, count) <= len(found) <= 4 * most
    assert {at for at in range(count) if apart[at] < cut} <= found
    assert len(index.nearest(asked, k, 0.0)) == min(k, count)


def test_nearly_all_of_the_five_nearest_are_found() -> None:
    """Wordings of three hundred questions among each other; what is missed is hardly nearer than what was found."""
    random = np.random.default_rng(0)
    middles = random.standard_normal((300, 384)) + 0.8 * random.standard_normal(384)
    rows = (middles.repeat(10, axis=0) + 0.8 * random.standard_normal((3_000, 384))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = WarmIndex(384)
    scale = np.abs(rows).max(axis=1) / 127
    index.fill([row(str(at)) for at in range(3_000)], np.round(rows / scale[:, None]).astype(np.int8), scale)
    hits = 0
    for asked in rows[::30]:
        exact = rows @ asked
        best = np.argsort(-exact)[:5]
        found = index.nearest(asked, 5, 0.0)
        hits += len({int(each.row.id) for each in found} & set(best.tolist()))
        assert found[-1].similarity > exact[best[-1]] - 0.01
    assert hits / 500 > 0.97


def test_what_has_expired_leaves_with_the_next_search() -> None:
    index = WarmIndex(DIM)
    for n in range(9):
        index.put(row(str(n), expires_at=float(n + 1)), vector(n))
    index.put(row("0", expires_at=5.5), vector(0))
    assert {each.row.id for each in index.nearest(vector(0), 9, 5.0)} == {"0", "5", "6", "7", "8"}
    assert len(index) == 5 and index.until("1") is None and index.until("0") == 5.5


def test_removing_an_entry_removes_every_wording() -> None:
    index = WarmIndex(DIM)
    for change in (Added(row("k"), vector(1)), Added(row("k~2", key="k"), vector(2)), Added(row("j"), vector(3))):
        apply(index, change)
        apply(index, change)
    apply(index, Vouched("j", "someone"))
    apply(index, Removed("k"))
    assert [r.id for r in index.rows] == ["j"] and index.rows[0].principals == {"someone"}
    assert index.until("k") is None


def test_a_snapshot_of_another_make_is_not_read() -> None:
    assert unpack(b"something else", DIM, 0.0) is None
    assert unpack(pack(WarmIndex(DIM), ""), 128, 0.0) is None
