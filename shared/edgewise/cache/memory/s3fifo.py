"""S3-FIFO: a small queue on trial, a main queue for what was asked again, and a memory of what was turned away.

Theory of operation. Most keys are asked for once. A new key waits in the small queue (a tenth of the shelf); if it
was asked for again by the time its turn comes it moves to the main queue, otherwise it goes and only its name is kept,
in the ghost queue. A name that comes back while it is a ghost enters the main queue at once. In the main queue a key
that was used goes round again, with one use less (three are counted at the most); an unused one goes.

So a scan passes through the small queue alone, which is what LRU and FIFO cannot do, and what is out of fashion leaves
after a few rounds, which LFU cannot do. It needs no move on a hit: a read only counts.
Source: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023, §4.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic

from edgewise.cache.memory.shelf import K

_MOST_USES = 3


class S3Fifo(Generic[K]):
    """small    share of the keys that may be on trial, 0 to 1
    promote  uses since its arrival with which a key passes its trial
    entries  how many keys the shelf may hold: until it is full, those beyond the first share need no trial
    """

    def __init__(self, small: float = 0.1, promote: int = 2, entries: int = 0) -> None:
        self._share = small
        self._promote = promote
        self._first = int(small * entries)
        self._full = False
        self._small: OrderedDict[K, None] = OrderedDict()
        self._main: OrderedDict[K, None] = OrderedDict()
        self._ghosts: OrderedDict[K, None] = OrderedDict()
        self._uses: dict[K, int] = {}

    def added(self, key: K, expires_at: float) -> None:  # noqa: ARG002
        known = self._ghosts.pop(key, self) is None
        early = not self._full and 0 < self._first <= len(self._small)
        (self._main if known or early else self._small)[key] = None
        self._uses[key] = 0

    def read(self, key: K) -> None:
        uses = self._uses[key]
        if uses < _MOST_USES:
            self._uses[key] = uses + 1

    def written(self, key: K, expires_at: float) -> None:  # noqa: ARG002
        self.read(key)

    def removed(self, key: K) -> None:
        del self._uses[key]
        if self._small.pop(key, self) is self:
            del self._main[key]

    def evict(self) -> K:
        self._full = True
        while True:
            # The share is of the keys that are there, not of a fixed number: the bound may be bytes.
            total = len(self._uses)
            main_is_due = len(self._main) > total - int(self._share * total) or not self._small
            key = self._next_of_main() if main_is_due else self._end_trials(total)
            if key is not None:
                del self._uses[key]
                return key

    def _end_trials(self, total: int) -> K | None:
        """The first key on trial that fails; those before it pass. None when all have passed."""
        while self._small:
            key, _ = self._small.popitem(last=False)
            if self._uses[key] < self._promote:
                self._ghosts[key] = None
                while len(self._ghosts) > max(1, int((1 - self._share) * total)):
                    self._ghosts.popitem(last=False)
                return key
            self._main[key] = None
            self._uses[key] = 0
        return None

    def _next_of_main(self) -> K | None:
        """The next key of the main queue if it was not used; otherwise it goes round again."""
        key, _ = self._main.popitem(last=False)
        if self._uses[key] == 0:
            return key
        self._uses[key] -= 1
        self._main[key] = None
        return None
