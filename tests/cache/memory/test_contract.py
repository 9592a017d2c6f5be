"""What every policy owes: bounds in entries and bytes, expiry, statistics, safety under threads."""

from __future__ import annotations

import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgewise.cache.memory.policies import POLICIES, Policy, order_of, shelf
from edgewise.cache.memory.shelf import Shelf
from edgewise.clock import FakeClock


@pytest.mark.parametrize("policy", POLICIES)
class TestEveryPolicy:
    def test_keeps_what_it_was_given(self, policy: Policy, clock: FakeClock) -> None:
        """A value is returned as often as it is asked for; an unknown key is None."""
        cache = shelf(policy, clock, max_entries=2, max_bytes=100)
        cache.put("a", 1)
        assert (cache.get("a"), cache.get("a"), cache.get("b")) == (1, 1, None)

    def test_never_holds_more_entries_than_allowed(self, policy: Policy, clock: FakeClock) -> None:
        """The bound in entries holds after every put, and evictions are counted."""
        cache = shelf(policy, clock, max_entries=3, max_bytes=1_000)
        for number in range(10):
            cache.put(number, number, 1)
            assert len(cache) <= 3
        assert cache.stats().evictions == 7

    def test_never_holds_more_bytes_than_allowed(self, policy: Policy, clock: FakeClock) -> None:
        """The bound in bytes holds after every put, also when a value grows in place."""
        cache = shelf(policy, clock, max_entries=100, max_bytes=100)
        for number in range(10):
            cache.put(number, number, 30)
            assert cache.stats().bytes <= 100
        for number in range(10):
            cache.put(number, number, 60)
            assert cache.stats().bytes <= 100

    def test_refuses_what_is_larger_than_the_shelf(self, policy: Policy, clock: FakeClock) -> None:
        """An oversized value is not kept, pushes nothing out, and takes its older value with it."""
        cache = shelf(policy, clock, max_entries=10, max_bytes=100)
        cache.put("small", 1, 10)
        cache.put("grows", 1, 10)
        assert cache.put("grows", 2, 101) is False
        assert (cache.get("grows"), cache.get("small"), cache.stats().refused) == (None, 1, 1)

    async def test_never_returns_what_has_expired(self, policy: Policy, clock: FakeClock) -> None:
        """An entry is there until its time, and at that moment it is not."""
        cache = shelf(policy, clock, max_entries=10, max_bytes=100)
        cache.put("a", 1, expires_at=clock.now() + 10)
        await clock.advance(9.999)
        assert cache.get("a") == 1
        await clock.advance(0.001)
        assert cache.get("a") is None
        assert cache.stats().expirations == 1
        assert (len(cache), cache.stats().bytes) == (0, 0)

    async def test_prunes(self, policy: Policy, clock: FakeClock) -> None:
        """`prune` removes what has expired and nothing else."""
        cache = shelf(policy, clock, max_entries=10, max_bytes=100)
        for number in range(6):
            cache.put(number, number, expires_at=clock.now() + (5 if number % 2 else 50))
        await clock.advance(10)
        assert cache.prune() == 3
        assert sorted(key for key, _ in cache.items()) == [0, 2, 4]

    def test_counts(self, policy: Policy, clock: FakeClock) -> None:
        """Hits, misses and their share; `peek` counts as neither."""
        cache = shelf(policy, clock, max_entries=10, max_bytes=100)
        cache.put("a", 1, 7)
        cache.get("a")
        cache.get("a")
        cache.get("b")
        cache.peek("a")
        stats = cache.stats()
        assert (stats.hits, stats.misses, stats.bytes, stats.entries) == (2, 1, 7, 1)
        assert stats.hit_rate == pytest.approx(2 / 3)

    def test_deletes_and_clears(self, policy: Policy, clock: FakeClock) -> None:
        """A deleted key is gone and may come again; a cleared shelf is as new."""
        cache = shelf(policy, clock, max_entries=3, max_bytes=100)
        for key in "abc":
            cache.put(key, key)
        assert cache.delete("b") is True
        assert cache.delete("b") is False
        cache.put("b", "again")
        assert cache.get("b") == "again"
        cache.clear()
        assert (len(cache), cache.stats().bytes) == (0, 0)
        for number in range(5):
            cache.put(number, number)
        assert len(cache) == 3

    def test_survives_threads(self, policy: Policy, clock: FakeClock) -> None:
        """Eight threads on one shelf never break a bound, lose a byte or see another key's value."""
        cache: Shelf[int, int] = shelf(policy, clock, max_entries=50, max_bytes=400)
        wrong: list[object] = []

        def work(seed: int) -> None:
            for step in range(400):
                key = (seed * 31 + step * 17) % 120
                found = cache.get(key)
                if found not in (None, key):
                    wrong.append((key, found))
                cache.put(key, key, 1 + key % 12)
                if step % 7 == 0:
                    cache.delete((key + 1) % 120)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = cache.stats()
        assert not wrong
        assert stats.entries <= 50
        assert stats.bytes == sum(1 + key % 12 for key, _ in cache.items()) <= 400


_STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "put", "delete", "tick", "prune"]), st.integers(0, 8), st.integers(1, 40)),
    max_size=80,
)


@pytest.mark.parametrize("policy", POLICIES)
@given(steps=_STEPS)
@example(steps=[("put", 1, 1), ("put", 0, 21), ("put", 2, 40), ("put", 1, 40)])
def test_a_shelf_is_a_lossy_dictionary(policy: Policy, steps: list[tuple[str, int, int]]) -> None:
    """Whatever is done, a shelf returns the last value put or nothing, within its bounds, and its bytes add up."""
    clock = FakeClock()
    cache: Shelf[int, int] = shelf(policy, clock, max_entries=4, max_bytes=100)
    model: dict[int, tuple[int, float]] = {}
    for number, (verb, key, amount) in enumerate(steps):
        if verb == "get":
            found = cache.get(key)
            assert found is None or (model[key][0] == found and model[key][1] > clock.now())
        elif verb == "put":
            kept = cache.put(key, number, amount, clock.now() + amount)
            assert kept
            model[key] = (number, clock.now() + amount)
            assert cache.peek(key) == number
        elif verb == "delete":
            cache.delete(key)
            model.pop(key, None)
            assert cache.peek(key) is None
        elif verb == "tick":
            clock.time += amount
        else:
            cache.prune()
        stats = cache.stats()
        assert stats.entries <= 4
        assert stats.bytes <= 100


def test_orders_are_known_by_name() -> None:
    """Every name gives a fresh order."""
    assert len({type(order_of(policy, 10)) for policy in POLICIES}) == len(POLICIES)
