"""The regular work of every room, as chores that a schedule runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.assemble.filters import filter_chores
from edgewise.assemble.house import House, build
from edgewise.settings import Settings
from edgewise.upkeep import Chore


def chores(settings: Settings) -> list[Chore]:
    """What the settings give reason for."""
    return chores_of(build(settings))


def chores_of(house: House) -> list[Chore]:
    """The chores of a house that is built."""
    found = []
    if house.can_work:
        found.append(Chore("batches", _sweep(house)))
    if house.router.table is not None:
        found.append(Chore("learning", _fold(house)))
    return found + filter_chores(house)


def _fold(house: House) -> Any:
    async def run() -> Mapping[str, Any]:
        from edgewise.routing.upkeep import fold

        assert house.router.table is not None
        return await fold(house.router.table())

    return run


def _sweep(house: House) -> Any:
    async def run() -> Mapping[str, Any]:
        from edgewise.assemble.away import remote_of
        from edgewise.assemble.jobs import desk_of
        from edgewise.jobs.upkeep import sweep

        room = desk_of(house).room
        pushed = await sweep(room, remote_of(house, room))
        await house.memory.rollups.flush()
        return {"pushed": pushed}

    return run
