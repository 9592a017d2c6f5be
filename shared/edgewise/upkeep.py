"""Work by the clock: index snapshots, filter rebuilds, roll-ups, learning.

The rooms bring their chores, `edgewise.assemble` lists them, a schedule invokes them all. A chore must be safe to run
twice and in any order, and says in a few numbers what it did. One that fails does not keep the others from running;
the invocation then fails as a whole, so that Lambda counts it and tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Chore:
    """One piece of regular work. `run` returns what it did, as a small JSON object."""

    name: str
    run: Callable[[], Awaitable[Mapping[str, Any]]]


class ChoresFailed(Exception):
    """At least one chore failed; the message names each with its error's type."""


async def keep_up(chores: Sequence[Chore]) -> dict[str, Mapping[str, Any]]:
    """Run every chore, one after the other; what each did. Raises ChoresFailed when all have had their turn."""
    done: dict[str, Mapping[str, Any]] = {}
    failures: list[tuple[str, Exception]] = []
    for chore in chores:
        try:
            done[chore.name] = await chore.run()
        except Exception as error:  # noqa: BLE001 - one chore's failure must not cost the others their turn
            failures.append((chore.name, error))
    if failures:
        told = ", ".join(f"{name}: {type(error).__name__}" for name, error in failures)
        raise ChoresFailed(told) from failures[0][1]
    return done


class Upkeep:
    """The Lambda handler. A scheduled event may name chores: `{"chores": ["rollup"]}`; none named means all."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        self._chores = chores
        self._runner = asyncio.Runner()

    def __call__(self, event: Mapping[str, Any], _context: object) -> dict[str, Mapping[str, Any]]:
        wanted = event.get("chores")
        chosen = [chore for chore in self._chores if wanted is None or chore.name in wanted]
        return self._runner.run(keep_up(chosen))

    def close(self) -> None:
        """End the event loop. Lambda never says when; tests do."""
        self._runner.close()
