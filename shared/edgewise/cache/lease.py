"""One call for many askers, across processes: a lease on the key, and a place to tell what became of it.

Theory of operation. Whoever finds nothing takes the lease on the key by one conditional write, which succeeds when
nobody holds it or the holder's time is up. The others read the lease, with growing, jittered pauses, until it tells:

    kept    the answer is in the store        handed   the answer is here: whole, shared, not worth keeping
    failed  somebody else may lead            alone    it may not be shared: call for yourself

A leader renews its lease while it works. One that is killed says nothing more; its lease runs out, and exactly one of
those who wait takes it. Each taking has a generation, larger than any before it for this key (it starts at the wall
clock's milliseconds, so it grows even when the lease item was lost), and the store refuses an answer of an older
generation than the one it has: a leader that was only frozen cannot overwrite its successor's answer.

The lease's length must be far above the difference between two machines' clocks, which is all that it trusts of time.
Cost: a taking and a telling are one write each; a follower's look is one strongly consistent read.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol

from edgewise.cache.port import StoreError
from edgewise.clock import Clock

News = Literal["", "kept", "handed", "failed", "alone"]
"""What a lease tells; '' while its holder is at work."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease on a key as it stands. `until` is in epoch seconds; `packed` the answer handed on, if any."""

    gen: int
    until: float
    news: News = ""
    packed: bytes | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """This caller leads. `before` is what the lease told last, '' if nothing."""

    gen: int
    before: News = ""


class Leases(Protocol):
    """Leases by scope and key. Raises `StoreError`."""

    async def take(self, scope: str, key: str, now: float, until: float) -> Taken | None:
        """None when somebody else holds it."""
        ...

    async def renew(self, scope: str, key: str, gen: int, until: float) -> bool:
        """False when it is no longer this caller's."""
        ...

    async def tell(self, scope: str, key: str, gen: int, news: News, packed: bytes | None, until: float) -> None:
        """End the lease, if it is still of this generation. What it tells may be forgotten after `until`."""
        ...

    async def read(self, scope: str, key: str) -> Lease | None:
        """The lease as it stands now, strongly consistent."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. `lease_s` is how long a silent leader is believed in; `follow_s` how long a follower waits at most."""

    lease_s: float = 10.0
    follow_s: float = 60.0
    first_look_s: float = 0.05
    longest_pause_s: float = 0.5
    most_renewals_s: float = 900.0


Told = Literal["kept", "failed", "alone"] | bytes
"""What a follower learns: the last news, or the packed answer itself."""


async def follow(leases: Leases, clock: Clock, scope: str, key: str, patience: Patience) -> Told:
    """Wait until the lease on `key` tells something. Raises StoreError."""
    give_up_at = clock.tick() + patience.follow_s
    pause_s = patience.first_look_s
    while clock.tick() < give_up_at:
        lease = await leases.read(scope, key)
        if lease is None or (not lease.news and lease.until <= clock.now()):
            return "failed"
        match lease.news:
            case "handed":
                return lease.packed if lease.packed is not None else "alone"
            case "kept" | "failed" | "alone":
                return lease.news
            case "":
                # Half of the pause is chance, so that followers who came together do not look together.
                await clock.sleep(pause_s * (0.5 + clock.uniform()))
                pause_s = min(pause_s * 1.5, patience.longest_pause_s)
    return "alone"


async def renew_while_leading(leases: Leases, clock: Clock, scope: str, key: str, gen: int, patience: Patience) -> None:
    """Renew the lease three times in its length until cancelled, or until it is lost."""
    end_at = clock.tick() + patience.most_renewals_s
    while clock.tick() < end_at:
        await clock.sleep(patience.lease_s / 3)
        try:
            if not await leases.renew(scope, key, gen, clock.now() + patience.lease_s):
                return
        except StoreError:
            # Two more tries fit into the lease.
            continue


class LocalLeases:
    """Leases in this process: for tests, and the model that others must equal."""

    def __init__(self) -> None:
        self._leases: dict[tuple[str, str], Lease] = {}

    async def take(self, scope: str, key: str, now: float, until: float) -> Taken | None:
        await asyncio.sleep(0)
        old = self._leases.get((scope, key))
        if old is not None and not old.news and old.until >= now:
            return None
        gen = (old.gen if old else int(now * 1000)) + 1
        self._leases[(scope, key)] = Lease(gen, until)
        return Taken(gen, old.news if old else "")

    async def renew(self, scope: str, key: str, gen: int, until: float) -> bool:
        old = self._leases.get((scope, key))
        if old is None or old.gen != gen or old.news:
            return False
        self._leases[(scope, key)] = Lease(gen, until)
        return True

    async def tell(self, scope: str, key: str, gen: int, news: News, packed: bytes | None, until: float) -> None:
        old = self._leases.get((scope, key))
        if old is not None and old.gen == gen:
            self._leases[(scope, key)] = Lease(gen, until, news, packed)

    async def read(self, scope: str, key: str) -> Lease | None:
        await asyncio.sleep(0)
        return self._leases.get((scope, key))
