"""A budget of several questions' own, before the budgets of their key.

Where the corridor reserves money for a question, what the choice may cost at the worst is taken out of the purse first,
and what it did not cost comes back when it is settled. So the bound is as hard as a key's own: what is under way and
what is spent never come to more, whatever routing chooses and however many questions run at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from edgewise.chat import Answer, ChatRequest
from edgewise.errors import QuotaExceeded
from edgewise.jobs.tasks.gather import Purse
from edgewise.words import Attempt, Choice, Plan, Usd


@dataclass(slots=True)
class Taken:
    """What one choice has out of the purse, with policy's own hold."""

    amount: Usd
    hold: Any = None


class Pursed:
    """`flow.Policy` for one question; `refused` says that the purse had no room for it."""

    def __init__(self, policy: Any, purse: Purse) -> None:
        self._policy, self._purse = policy, purse
        self._taken = Taken(Decimal(0))
        self.refused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    async def reserve(self, plan: Plan, choice: Choice) -> Taken:
        """Raises QuotaExceeded, also where nobody knows what the choice may cost."""
        worst = choice.worst_usd
        if worst is None or not await self._purse.take(worst):
            self.refused = True
            raise QuotaExceeded("The budget of these questions has no room for this one.")
        taken = self._taken = Taken(worst)
        try:
            taken.hold = await self._policy.reserve(plan, choice)
        except BaseException:
            await self._purse.give(worst)
            raise
        return taken

    async def mend(self, plan: Plan, answer: Answer, again: Callable[[ChatRequest], Awaitable[Answer]]) -> Answer:
        """An answer is mended by asking again, with the answer as a part of the question: at most twice the price."""
        taken = self._taken
        extra = 2 * taken.amount

        async def paid(request: ChatRequest) -> Answer:
            if not self._purse.more(extra):
                return answer
            taken.amount += extra
            return await again(request)

        mended: Answer = await self._policy.mend(plan, answer, paid)
        return mended

    async def settle(self, taken: Taken, attempts: list[Attempt]) -> None:
        """What nobody knows the cost of keeps all that was taken for it."""
        try:
            await self._policy.settle(taken.hold, attempts)
        finally:
            costs = [attempt.cost_usd for attempt in attempts]
            known = sum((cost for cost in costs if cost is not None), Decimal(0))
            await self._purse.give(Decimal(0) if None in costs else max(Decimal(0), taken.amount - known))
