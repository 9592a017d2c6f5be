"""Upkeep builds the filters that the gateway reads."""

from __future__ import annotations

from edgewise.assemble.caching import known_keys
from edgewise.assemble.filters import filter_chores, screened
from edgewise.assemble.house import build
from edgewise.aws import Table
from edgewise.clock import FakeClock
from edgewise.settings import Settings


async def test_upkeep_builds_what_the_gateway_reads(
    moto_url: str, state_table: Table, cache_table: Table, bucket: str, queues: tuple[str, str], clock: FakeClock
) -> None:
    """An old identifier that is in the table is found afterwards; one that is not is not even looked for."""
    settings = Settings(
        root_key="ew_root",
        local_aws_url=moto_url,
        state_table=state_table.name,
        cache_table=cache_table.name,
        bucket=bucket,
        jobs_queue_url=queues[0],
        cache_known_keys=True,
    )
    house = build(settings, clock)
    old, gone = clock.token("batch_"), clock.token("batch_")
    await state_table.put({"pk": f"batch#{old}", "sk": "meta"})
    await clock.advance(9_000)
    did = {chore.name: await chore.run() for chore in filter_chores(house)}
    assert did == {"known ids": {"ids": 1}, "known keys": {"keys": 0}}
    await state_table.put({"pk": f"batch#{gone}", "sk": "meta"})
    table = screened(house, state_table)
    assert await table.get(f"batch#{old}", "meta") is not None
    assert await table.get(f"batch#{gone}", "meta") is None
    await house.close()


def test_the_filter_of_keys_is_off_unless_wanted(clock: FakeClock) -> None:
    house = build(Settings(root_key="ew_root"), clock)
    assert known_keys(house.settings, clock, house.aws) is None
    assert filter_chores(house) == []
