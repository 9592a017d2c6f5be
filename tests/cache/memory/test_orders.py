"""What each policy does that the others do not."""

from __future__ import annotations

from collections.abc import Iterable

from edgewise.cache.memory.policies import Policy, shelf
from edgewise.clock import FakeClock


def left(policy: Policy, entries: int, steps: Iterable[str]) -> str:
    """The keys that are left after asking for each letter, and putting it when it is not there."""
    cache = shelf(policy, FakeClock(), max_entries=entries, max_bytes=1_000)
    for key in steps:
        if cache.get(key) is None:
            cache.put(key, key)
    return "".join(sorted(key for key, _ in cache.items()))


def test_fifo_forgets_the_oldest_however_much_it_is_read() -> None:
    assert left("fifo", 3, "abcaaad") == "bcd"


def test_lru_forgets_what_was_not_used_for_longest() -> None:
    assert left("lru", 3, "abcaad") == "acd"


def test_lfu_forgets_what_was_used_least_and_the_older_of_equals() -> None:
    assert left("lfu", 3, "aaabbcd") == "abd"
    assert left("lfu", 3, "abcd") == "bcd"


def test_lru_2_lets_a_scan_pass() -> None:
    """What was used twice outlives any number of keys that are used once."""
    assert left("lru-k", 3, "aabbvwxyz") == "abz"


def test_lru_2_remembers_a_key_that_left() -> None:
    """A second use soon after leaving counts as a second use."""
    assert left("lru-k", 2, "xabxcd") == "dx"


def test_s3_fifo_lets_a_scan_pass() -> None:
    """Keys used again stay; the scan goes through the trial queue."""
    assert set("abc") <= set(left("s3-fifo", 10, "aaabbbccc" + "defghijklmnopqrstuvwxyz"))


def test_s3_fifo_takes_a_ghost_straight_to_the_main_queue() -> None:
    """A key that returns soon after it was turned away outlives new ones."""
    assert "a" in left("s3-fifo", 4, "aaabcde" + "a" + "fghi")


async def test_ttl_forgets_what_would_expire_first() -> None:
    """Neither age nor use matters, and a new value counts with its new time."""
    clock = FakeClock()
    cache = shelf("ttl", clock, max_entries=2, max_bytes=100)
    cache.put("long", 1, 1, clock.now() + 100)
    cache.put("short", 2, 1, clock.now() + 10)
    cache.get("short")
    cache.put("middle", 3, 1, clock.now() + 50)
    assert {key for key, _ in cache.items()} == {"long", "middle"}
    cache.put("middle", 4, 1, clock.now() + 500)
    cache.put("other", 5, 1, clock.now() + 200)
    assert {key for key, _ in cache.items()} == {"middle", "other"}
