"""Leading: the one who calls for all, with a flight for followers here and a lease for followers elsewhere.

Trouble with leases never holds a request up: who cannot take one leads with its flight alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from edgewise.cache.codec import unpack
from edgewise.cache.finder import Asked
from edgewise.cache.flight import Flight
from edgewise.cache.lease import Leases, News, follow, renew_while_leading
from edgewise.cache.options import CacheOptions
from edgewise.cache.port import Kept, StoreError
from edgewise.clock import Clock


@dataclass(slots=True)
class Lead:
    """What a leader holds until it offers or gives up. `gen` 0: no lease."""

    asked: Asked
    flight: Flight
    gen: int = 0
    before: News = ""
    renewing: asyncio.Task[None] | None = None
    told: bool = False


class Leading:
    """`leases` None: nobody elsewhere can follow."""

    def __init__(self, clock: Clock, options: CacheOptions, leases: Leases | None, trouble: Counter[str]) -> None:
        self._clock = clock
        self._options = options
        self._leases = leases
        self._trouble = trouble

    async def take(self, asked: Asked, flight: Flight) -> Lead | None:
        """The lead; None when somebody elsewhere has it."""
        if self._leases is None:
            return Lead(asked, flight)
        patience, now = self._options.patience, self._clock.now()
        scope, key = asked.lead_scope, asked.query.key
        try:
            async with asyncio.timeout(self._options.timeout_s * 4):
                taken = await self._leases.take(scope, key, now, now + patience.lease_s)
        except (StoreError, TimeoutError):
            self._trouble["lease-take"] += 1
            return Lead(asked, flight)
        if taken is None:
            return None
        renewing = asyncio.get_running_loop().create_task(
            renew_while_leading(self._leases, self._clock, scope, key, taken.gen, patience)
        )
        return Lead(asked, flight, taken.gen, taken.before, renewing)

    async def follow(self, asked: Asked) -> Literal["kept", "failed", "alone"] | Kept:
        """What became of the call that somebody elsewhere makes. Never raises for trouble: then it is 'alone'."""
        assert self._leases is not None
        try:
            told = await follow(self._leases, self._clock, asked.lead_scope, asked.query.key, self._options.patience)
            return unpack(told) if isinstance(told, bytes) else told
        except StoreError:
            self._trouble["lease-follow"] += 1
            return "alone"

    async def tell(self, lead: Lead, news: News, packed: bytes | None = None) -> None:
        """End the lead. Trouble is counted: the lease runs out by itself."""
        lead.told = True
        if lead.renewing is not None:
            lead.renewing.cancel()
        if self._leases is None or not lead.gen:
            return
        try:
            until = self._clock.now() + self._options.patience.lease_s
            await self._leases.tell(lead.asked.lead_scope, lead.asked.query.key, lead.gen, news, packed, until)
        except StoreError:
            self._trouble["lease-tell"] += 1
