"""Limits: requests and tokens per minute, and requests in flight.

Theory of operation. The minute slides: what counts is this calendar minute's count plus the last one's, weighted by
how much of it still lies within sixty seconds. (Cloudflare published this; its error against a true log of times
was 0.003 % of requests.) It needs one counter a minute, taken by one conditional update, so that however many
processes ask at once, the count never passes the limit. Tokens are taken at their estimate before the call, and
corrected by what was used after it.

Requests in flight are a till with leases, so those of a crashed process come back.

Headers are OpenAI's: whole numbers, and durations as Go writes them ('1s', '6m0s').
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgewise.chat import ChatRequest
from edgewise.clock import Clock
from edgewise.errors import RateLimited
from edgewise.policy.texts import tokens_of
from edgewise.policy.tills import Full, Till, Tills, take_swept

if TYPE_CHECKING:
    from edgewise.policy.terms import Limits

MINUTE_S = 60
NO_LIMIT = 10**15
DEFAULT_OUTPUT_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and tokens of one minute."""

    requests: int = 0
    tokens: int = 0


class Minutes(Protocol):
    """Where minutes are counted. Raises `Unavailable`."""

    async def add(self, key: str, minute: int, asked: Counts, room: Counts) -> Counts | None:
        """Add `asked` if neither count is above its `room`; the new counts, or None if it did not fit."""
        ...

    async def read(self, key: str, minute: int) -> Counts: ...


class MemoryMinutes:
    """Minutes of this process alone."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[int, Counts]] = {}

    async def add(self, key: str, minute: int, asked: Counts, room: Counts) -> Counts | None:
        minutes = self._counts.setdefault(key, {})
        for old in [m for m in minutes if m < minute - 1]:
            del minutes[old]
        now = minutes.get(minute, Counts())
        if now.requests > room.requests or now.tokens > room.tokens:
            return None
        minutes[minute] = Counts(now.requests + asked.requests, now.tokens + asked.tokens)
        return minutes[minute]

    async def read(self, key: str, minute: int) -> Counts:
        return self._counts.get(key, {}).get(minute, Counts())


def asked_tokens(request: ChatRequest) -> int:
    """What the request may use: its prompt, and the answers it allows."""
    if "input" in request.body:
        return tokens_of(request)  # to embed a text answers with no tokens
    limit = request.output_limit
    return tokens_of(request) + (limit if limit is not None else DEFAULT_OUTPUT_TOKENS) * request.choices


@dataclass(slots=True)
class Ticket:
    """What an admitted request has taken. `used_tokens` is filled in when it is known."""

    key: str
    limits: Limits
    minute: int
    taken: Counts
    headers: dict[str, str]
    share: float = 1.0
    in_flight: tuple[Till, str] | None = None
    used_tokens: int = 0


class Limiter:
    """Admits requests. `enter` raises RateLimited; `leave` gives back what was not used."""

    def __init__(self, minutes: Minutes, tills: Tills, clock: Clock, *, lease_s: float = 960.0) -> None:
        self._minutes = minutes
        self._tills = tills
        self._clock = clock
        self._lease_s = lease_s
        self._last: dict[str, tuple[int, Counts]] = {}

    async def enter(self, key: str, limits: Limits, tokens: int, share: float = 1.0) -> Ticket:
        """Admit one request that may use `tokens`. Raises RateLimited with its headers, Unavailable.

        share  how much of each limit may be in use when it enters, itself included: work that can wait is refused
               while there is still room for work that can't
        """
        now = self._clock.now()
        minute = int(now // MINUTE_S)
        ticket = Ticket(key, limits, minute, Counts(1, tokens), {}, share)
        if limits.requests_per_minute is not None or limits.tokens_per_minute is not None:
            await self._take_minute(ticket, now)
        if limits.in_flight is not None:
            try:
                ticket.in_flight = await self._take_flight(key, max(1, int(limits.in_flight * share)), now)
            except BaseException:
                await self._give_minute(ticket, Counts(-1, -tokens))
                raise
        return ticket

    async def _take_minute(self, ticket: Ticket, now: float) -> None:
        limits, asked = ticket.limits, ticket.taken
        for most, wanted, what in (
            (limits.requests_per_minute, 1, "requests"),
            (limits.tokens_per_minute, asked.tokens, "tokens"),
        ):
            if most is not None and wanted > most:
                raise RateLimited(
                    f"This request may use {wanted} {what}, more than the limit of {most} a minute.",
                    code="request_exceeds_limit",
                    headers={"x-should-retry": "false"},
                )
        before = await self._before(ticket.key, ticket.minute)
        share = 1 - (now % MINUTE_S) / MINUTE_S
        weighed = Counts(math.ceil(before.requests * share), math.ceil(before.tokens * share))
        most_requests = _part(limits.requests_per_minute, ticket.share, 1)
        most_tokens = _part(limits.tokens_per_minute, ticket.share, asked.tokens)
        room = Counts(
            _room(most_requests, weighed.requests, 1),
            _room(most_tokens, weighed.tokens, asked.tokens),
        )
        count = await self._minutes.add(ticket.key, ticket.minute, asked, room)
        if count is None:
            count = await self._minutes.read(ticket.key, ticket.minute)
            wait_s = max(
                _wait(most_requests, before.requests, count.requests, 1, share),
                _wait(most_tokens, before.tokens, count.tokens, asked.tokens, share),
            )
            raise RateLimited(
                "Too many requests or tokens in the last minute for this key.",
                retry_after_s=math.ceil(wait_s),
                headers=_headers(limits, weighed, count, share),
            )
        ticket.headers = _headers(limits, weighed, count, share)

    async def _before(self, key: str, minute: int) -> Counts:
        """The last minute's counts; they change no more, so they are read once."""
        held = self._last.get(key)
        if held is None or held[0] != minute:
            if len(self._last) >= 10_000:
                self._last.clear()
            held = self._last[key] = (minute, await self._minutes.read(key, minute - 1))
        return held[1]

    async def _take_flight(self, key: str, most: int, now: float) -> tuple[Till, str]:
        till = Till(f"limit#{key}", "flight", most)
        hold = self._clock.token("f")
        outcome = await take_swept(self._tills, [till], [1], hold, now, now + self._lease_s)
        if isinstance(outcome, Full):
            raise RateLimited(
                f"{outcome.used} requests of this key are in flight, and {most} may be.",
                retry_after_s=1,
                code="too_many_in_flight",
            )
        return till, hold

    async def _give_minute(self, ticket: Ticket, back: Counts) -> None:
        if back != Counts():
            await self._minutes.add(ticket.key, ticket.minute, back, Counts(NO_LIMIT, NO_LIMIT))

    async def leave(self, ticket: Ticket) -> None:
        """The request is over. Raises Unavailable; a flight then comes back when its lease ends."""
        if ticket.in_flight is not None:
            till, hold = ticket.in_flight
            ticket.in_flight = None
            await self._tills.give(till, 1, 0, hold)
        if ticket.limits.tokens_per_minute is not None:
            await self._give_minute(ticket, Counts(0, ticket.used_tokens - ticket.taken.tokens))


def _part(most: int | None, share: float, asked: int) -> int | None:
    """The part of a limit that a request may use; what fits into the whole limit fits into it alone."""
    return None if most is None else max(asked, int(most * share))


def _room(most: int | None, weighed: int, asked: int) -> int:
    """How high this minute's own count may be before `asked` is added."""
    return NO_LIMIT if most is None else most - weighed - asked


def _wait(most: int | None, before: int, count: int, asked: int, share: float) -> float:
    """Seconds until `asked` more fits, if nobody else asks."""
    if most is None or math.ceil(before * share) + count + asked <= most:
        return 0.0
    left = share * MINUTE_S
    if count + asked <= most:
        return left - MINUTE_S * (most - count - asked) / before
    return left + MINUTE_S * (1 - (most - asked) / count)


def _headers(limits: Limits, weighed: Counts, count: Counts, share: float) -> dict[str, str]:
    headers = {}
    for most, old, new, what in (
        (limits.requests_per_minute, weighed.requests, count.requests, "requests"),
        (limits.tokens_per_minute, weighed.tokens, count.tokens, "tokens"),
    ):
        if most is None:
            continue
        over_s = share * MINUTE_S + (MINUTE_S if new else 0) if old or new else 0.0
        headers[f"x-ratelimit-limit-{what}"] = str(most)
        headers[f"x-ratelimit-remaining-{what}"] = str(max(0, most - old - new))
        headers[f"x-ratelimit-reset-{what}"] = go_duration(over_s)
    return headers


def go_duration(seconds: float) -> str:
    """As Go's `time.Duration` prints it: '120ms', '1s', '6m0s', '1h0m0s'.

    >>> go_duration(0.12), go_duration(1), go_duration(360)
    ('120ms', '1s', '6m0s')
    """
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds > 0 else "0s"
    whole = math.ceil(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}h{minutes}m{left}s" if hours else f"{minutes}m{left}s" if minutes else f"{left}s"


def used_tokens(attempts: list[Any]) -> int:
    """The tokens that a request's attempts used, where they said so."""
    return sum(attempt.usage.total_tokens for attempt in attempts if attempt.usage is not None)
