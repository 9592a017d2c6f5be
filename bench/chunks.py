"""How large chunks are, how many a batch has on the queue, how many messages a worker is given: what each costs whom.

    edgewise bench chunks

On a clock that turns move (no process waits, so a busy machine changes nothing), with as many workers as the template
has and 50 slots each. Lines take very different times, as answers of models do: log-normal with sigma 0.6, 1.2 s on
average. Told are the share of all slots that a lone batch of 6,000 lines keeps busy, and how long 20 batches of ten
lines take beside a large one: the median's end and the last one's. Seeded; the figures are the same on every run.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics

from tests.jobs.shop import WORKERS, Shop

from edgewise.jobs.room import Options

SLOTS = 50
LARGE = 6_000
SMALL = 20
SPREAD = 0.6
SIZES = ((4, 25, 8), (10, 25, 8), (4, 200, 3), (10, 50, 3), (10, 100, 3), (10, 200, 3), (10, 400, 3))
"""Messages a worker, lines a chunk, chunks of a batch on the queue."""


def opened(batch_size: int, chunk_lines: int, window_chunks: int) -> Shop:
    chance = random.Random(1)
    options = Options(chunk_lines=chunk_lines, window_chunks=window_chunks)
    return Shop(options, batch_size=batch_size, line_s=lambda: chance.lognormvariate(0, SPREAD), turn_s=0.1)


async def busy(shop: Shop) -> float:
    """The share of all workers' slots that one batch keeps busy."""
    async with shop.open():
        seconds = await shop.seconds_for(await shop.submit("large", LARGE))
    return LARGE * math.exp(SPREAD**2 / 2) / (WORKERS * SLOTS) / seconds


async def small_ones(shop: Shop) -> list[float]:
    """Seconds until each small batch beside a large one has ended."""
    async with shop.open():
        await shop.submit("large", LARGE)
        await shop.rig.clock.advance(7)
        began = shop.rig.clock.now()
        waiting = {await shop.submit(f"small{n}", 10) for n in range(SMALL)}
        ends: list[float] = []
        while waiting:
            await shop.rig.clock.advance(0.1)
            done = {name for name in waiting if (await shop.rig.batch(name)).ended}
            ends += [shop.rig.clock.now() - began] * len(done)
            waiting -= done
    return ends


def main() -> None:
    for sizes in SIZES:
        share = asyncio.run(busy(opened(*sizes)))
        ends = asyncio.run(small_ones(opened(*sizes)))
        batch_size, lines, window = sizes
        told = f"{share:4.0%} busy; {SMALL} small {statistics.median(ends):.1f} s, the last {max(ends):.1f} s"
        print(f"chunks      {batch_size:2} messages, {window} chunks of {lines:3}: {told}", flush=True)


if __name__ == "__main__":
    main()
