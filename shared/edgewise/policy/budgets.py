"""Budgets: money that may be spent by a key, a tenant or on a model, in a day, a month or for ever (UTC).

The worst case of a request is held before the call and settled to what it cost after it, so that no number of
concurrent requests spends more than the cap, provided that the worst case was one. Money is integer picodollars
(10⁻¹² $): a price per million tokens with up to six decimals is a whole number of them per token, so sums are exact.

What is unknown is never taken for free. A choice whose worst price is unknown is refused where a budget applies; an
attempt that did not tell what it cost (it answered without usage, timed out, was cut off) is charged the whole of
what was held. An attempt that the provider turned away says that it cost nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import partial
from typing import TYPE_CHECKING, TypeVar, assert_never

from edgewise.clock import Clock
from edgewise.errors import NotAllowed, QuotaExceeded, Unavailable
from edgewise.policy.tills import Full, Taken, Till, Tills, take_swept
from edgewise.words import Attempt, Choice, Principal, Usd

if TYPE_CHECKING:
    from edgewise.policy.terms import Budget, Per

PICO = 10**12
KEEP_DAYS = 40
SETTLE_TRIES = 4
ENDLESS = 10**30
"""A cap for what is spent already: above all money, and still a number that a table stores exactly."""

Signal = Callable[[str, float], None]
T = TypeVar("T")


def picodollars(usd: Usd) -> int:
    """Dollars as integer picodollars; a fraction of one is rounded up, so that rounding never spends."""
    return int((usd * PICO).to_integral_value(rounding=ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of UTC time by name, and when it begins and ends (seconds since the epoch, None: never)."""

    name: str
    ends_at: float | None
    began_at: float = 0.0


def window_of(per: Per, now: float) -> Window:
    """The day or month that `now` falls in."""
    moment = datetime.fromtimestamp(now, UTC)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    match per:
        case "day":
            return Window(f"{day:%Y-%m-%d}", (day + timedelta(days=1)).timestamp(), day.timestamp())
        case "month":
            following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            return Window(f"{day:%Y-%m}", following.timestamp(), day.replace(day=1).timestamp())
        case "forever":
            return Window("ever", None)
        case _:
            assert_never(per)


@dataclass(frozen=True, slots=True)
class Line:
    """One budget in its present window: the till that holds it, and what to say of it."""

    till: Till
    budget: Budget
    whose: str
    window: Window

    def narrowed(self, share: float) -> Line:
        """The same budget as whoever sees it that may fill `share` of it."""
        return replace(self, till=replace(self.till, cap=int(self.till.cap * share)))


@dataclass(frozen=True, slots=True)
class Hold:
    """What a request holds until it is settled."""

    id: str
    lines: tuple[Line, ...]
    amount: int

    def receipt(self) -> str:
        """What `Ledger.charge` needs of it in another process."""
        tills = [
            [line.till.owner, line.till.name, line.budget.model, picodollars(line.budget.usd)] for line in self.lines
        ]
        return json.dumps([self.id, self.amount, tills])


def lines_of(principal: Principal, now: float) -> tuple[Line, ...]:
    """Every budget that this caller's requests count against."""
    terms = principal.settings.get("terms")
    if terms is None or not (terms.budgets or principal.settings.get("tenant_budgets")):
        return ()
    mine = [(budget, f"key#{principal.key_id}", "This key's budget") for budget in terms.budgets]
    theirs = [(b, "tenant", "Your organisation's budget") for b in principal.settings.get("tenant_budgets", ())]
    lines = []
    for budget, holder, whose in mine + theirs:
        window = window_of(budget.per, now)
        scope = f"{holder}#model#{budget.model}" if budget.model else holder
        keep = int(window.ends_at + KEEP_DAYS * 86_400) if window.ends_at is not None else None
        till = Till(f"budget#{principal.tenant}", f"{scope}#{budget.per}#{window.name}", picodollars(budget.usd), keep)
        lines.append(Line(till, budget, whose, window))
    return tuple(lines)


class Ledger:
    """Holds and settles. `signal` is told the metrics `BudgetUsedPct` and `SettleFailed`."""

    def __init__(self, tills: Tills, clock: Clock, signal: Signal | None = None, *, lease_s: float = 960.0) -> None:
        self.tills = tills
        self._clock = clock
        self._signal = signal or _silent
        self._lease_s = lease_s
        self._seen: dict[str, tuple[float, int]] = {}

    async def reserve(
        self, lines: Sequence[Line], choice: Choice, *, name: str | None = None, until: float | None = None
    ) -> Hold | None:
        """Hold the worst case in every budget that the choice touches, once under `name`, as long as a request may live
        or `until`.

        Raises QuotaExceeded (with the reset time), NotAllowed (an unknown price), Unavailable.
        """
        models = {model.name for model in choice.models}
        touched = tuple(line for line in lines if self._touches(line, models))
        if not touched:
            return None
        if choice.worst_usd is None:
            raise NotAllowed(
                "What this may cost at most is unknown (the model's price, or how long the prompt can become), so it "
                "cannot be asked under a budget.",
                code="price_unknown",
            )
        hold = Hold(name or self._clock.token("h"), touched, picodollars(choice.worst_usd))
        now = self._clock.now()
        tills, until = [line.till for line in touched], until or now + self._lease_s
        outcome = await take_swept(self.tills, tills, [hold.amount] * len(tills), hold.id, now, until)
        match outcome:
            case Taken(used=used):
                for line, amount in zip(touched, used, strict=False):
                    self._saw(line, amount)
            case Full(index=index, used=amount):
                self._saw(touched[index], amount)
                raise _refusal(touched[index], amount, hold.amount, now)
            case _:
                assert_never(outcome)
        return hold

    def _touches(self, line: Line, models: set[str]) -> bool:
        pattern = line.budget.model
        return pattern is None or any(self._fits(pattern, model) for model in models)

    def _fits(self, pattern: str, model: str) -> bool:
        from edgewise.policy.terms import matches

        return matches(pattern, model) or matches(pattern, model.partition("/")[2])

    async def settle(self, hold: Hold, attempts: Sequence[Attempt]) -> None:
        """Charge each budget what its models cost. Never raises: what cannot be written stays held until its lease
        ends, and `SettleFailed` tells."""
        await asyncio.gather(
            *(self._settle(hold, line, self._actual(hold.amount, line.budget.model, attempts)) for line in hold.lines)
        )

    def _actual(self, held: int, pattern: str | None, attempts: Sequence[Attempt]) -> int:
        total, known = 0, True
        for attempt in attempts:
            if pattern is not None and not self._fits(pattern, attempt.model.name):
                continue
            if attempt.cost_usd is None:
                known = False
            else:
                total += picodollars(attempt.cost_usd)
        return total if known else max(held, total)

    async def charge(self, receipt: str, attempts: Sequence[Attempt]) -> None:
        """Settle the hold that `receipt` stands for, in a process that may not have taken it. However often and
        wherever it is settled, it counts once. Raises Unavailable."""
        hold, amount, tills = json.loads(receipt)
        for owner, name, model, cap in tills:
            actual = self._actual(amount, model, attempts)
            self._tell(await self.tills.give(Till(owner, name, cap), amount, actual, hold), cap)

    async def spend(self, lines: Sequence[Line], attempts: Sequence[Attempt]) -> None:
        """Charge what is spent already and nothing was held for, once, whatever room there is. Never raises.

        Taken under a name, so that a try whose answer was lost does not count twice; what could not be ended is charged
        all the same, for it is held as long as its window is kept.
        """
        for line in lines:
            if owed := self._actual(0, line.budget.model, attempts):
                hold = Hold(self._clock.token("h"), (line,), owed)
                till, until = replace(line.till, cap=ENDLESS), self._clock.now() + KEEP_DAYS * 86_400
                if await self._insisted(partial(self.tills.take, [till], [owed], hold.id, until)) is not None:
                    await self._settle(hold, line, owed)

    async def _settle(self, hold: Hold, line: Line, actual: int) -> None:
        used = await self._insisted(partial(self.tills.give, line.till, hold.amount, actual, hold.id))
        if used is not None:
            self._saw(line, used)
            self._tell(used, line.till.cap)

    def _tell(self, used: int | None, cap: int) -> None:
        if used is not None and cap > 0:
            self._signal("BudgetUsedPct", min(100.0, 100.0 * used / cap))

    async def _insisted(self, step: Callable[[], Awaitable[T]]) -> T | None:
        """What `step` brings in a few tries; None and a signal when the store does not answer."""
        for tried in range(SETTLE_TRIES):
            try:
                return await step()
            except Unavailable:
                await self._clock.sleep(self._clock.uniform() * 0.1 * 2**tried)
        self._signal("SettleFailed", 1)
        return None

    def _saw(self, line: Line, used: int) -> None:
        if len(self._seen) >= 10_000:
            self._seen.clear()
        self._seen[_key(line)] = (self._clock.tick(), used)

    async def is_soft(self, lines: Sequence[Line], *, keep_s: float = 5.0) -> bool:
        """Whether a budget is past its soft share; read at most every `keep_s` seconds."""
        watched = [line for line in lines if line.budget.soft is not None]
        now = self._clock.tick()
        old = [line for line in watched if self._seen.get(_key(line), (-keep_s, 0))[0] + keep_s <= now]
        if old:
            used = await self.tills.used([line.till for line in old], self._clock.now())
            for line, amount in zip(old, used, strict=True):
                self._saw(line, amount)
        return any(
            self._seen[_key(line)][1] >= line.till.cap * line.budget.soft
            for line in watched
            if line.budget.soft is not None
        )

    def paces(self, lines: Sequence[Line]) -> tuple[tuple[float, float], ...]:
        """(share spent or held, share of the window gone) of each budget that ends, as last seen by this process: the
        stored counter is told with every reservation, so nothing is read for it."""
        now, found = self._clock.now(), []
        for line in lines:
            seen, ends_at = self._seen.get(_key(line)), line.window.ends_at
            if seen is not None and ends_at is not None and line.till.cap > 0:
                gone = (now - line.window.began_at) / (ends_at - line.window.began_at)
                found.append((min(1.0, seen[1] / line.till.cap), min(1.0, max(0.0, gone))))
        return tuple(found)

    async def state(self, lines: Sequence[Line]) -> list[dict[str, object]]:
        """Each budget with what is used of it, for `/v1/usage` and administration. Money as decimal strings."""
        used = await self.tills.used([line.till for line in lines], self._clock.now())
        return [
            {
                "per": line.budget.per,
                "model": line.budget.model,
                "scope": "tenant" if line.till.name.startswith("tenant") else "key",
                "usd": dollars(line.till.cap),
                "used_usd": dollars(amount),
                "resets_at": line.window.ends_at,
            }
            for line, amount in zip(lines, used, strict=True)
        ]


def _key(line: Line) -> str:
    return f"{line.till.owner}\x00{line.till.name}"


def dollars(pico: int) -> str:
    """Picodollars as dollars, in as few digits as are exact."""
    return f"{Decimal(pico) / PICO:f}"


def _refusal(line: Line, used: int, asked: int, now: float) -> QuotaExceeded:
    budget, ends = line.budget, line.window.ends_at
    span = {"day": "a day", "month": "a month", "forever": "in all"}[budget.per]
    which = f" for {budget.model}" if budget.model else ""
    text = (
        f"{line.whose}{which} of ${budget.usd.normalize():f} {span} has no room for this request: "
        f"${_cents(used)} is used or held, and it may cost up to ${_cents(asked)}."
    )
    if ends is None:
        return QuotaExceeded(text)
    resets = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return QuotaExceeded(
        f"{text} It resets at {resets}.",
        retry_after_s=ends - now,
        headers={"x-edgewise-budget-reset": resets},
    )


def _cents(pico: int) -> str:
    return f"{(Decimal(pico) / PICO).quantize(Decimal('0.0001'), rounding=ROUND_CEILING):f}"


def _silent(_name: str, _value: float) -> None:
    return None
