"""Makes a background answer out of what was written down of its request: the worker's side of `background.py`.

A response is told while it is made, from the provider's stream to the answer's log. One of a fixed form (JSON) is
told when it is whole, unless its client asked for a stream: half an object is of no use, and a whole one can be
mended. Chat answers are not told: they are polled for.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from edgewise.api.chat import told
from edgewise.api.lines import Lines
from edgewise.api.responses_ask import messages_of
from edgewise.api.responses_tell import Telling
from edgewise.chat import Answer, CacheAsk, ChatRequest, unfold
from edgewise.clock import Clock
from edgewise.errors import EdgewiseError, InvalidRequest, Unavailable, UpstreamTimeout
from edgewise.jobs.answers.kept import Kept, Made
from edgewise.jobs.answers.log import Event, Log, Retold, Spool
from edgewise.jobs.ports import Ask, Calls
from edgewise.words import Principal

TRIES = 3
LONGEST_WAIT_S = 60.0
WATCHED_S = 0.5
"""How long an event may wait to be told when the client said that it would watch."""
UNWATCHED_S = 2.0
"""The same when it did not: it may come to watch all the same, but most poll, and every write is paid for."""
REASONS: dict[str, EdgewiseError] = {
    "timeout": UpstreamTimeout("The answer took too long."),
    "worker_died": Unavailable("The answer could not be made: its worker died each time."),
    "internal_error": Unavailable("The answer could not be made."),
}


class Making:
    """`make` and `refuse` of `edgewise.jobs.answers.work`."""

    def __init__(self, lines: Lines, clock: Clock) -> None:
        self._lines = lines
        self._clock = clock

    async def make(self, kept: Kept, calls: Calls, timeout_s: float, log: Log) -> Made:
        """Run the request for the caller who submitted it; a failure that another try may heal is tried again."""
        assert kept.ask is not None
        request = chat_of(kept.ask["chat"])
        if log.end is not None:
            # The last worker died, or a client left, between the log and the shelf.
            return _made(kept, request, log.end["response"], ())
        ask = Ask(kept.tenant, kept.key_id, kept.url, request.body, f"req_{kept.id}", timeout_s, calls)
        pace_s = pace_of(kept, request)
        for left in range(TRIES - 1, -1, -1):
            try:
                caller = await self._lines.impersonate(kept.tenant, kept.key_id, kept.url)
                if pace_s is not None:
                    return await self._told(kept, ask, caller, request, Spool(log, self._clock, pace_s))
                served, _ = await self._lines.serve(ask, caller, request)
                break
            except EdgewiseError as error:
                wait_s = getattr(error, "retry_after_s", None) or 2.0 ** (TRIES - left)
                # A budget that is gone comes back with its window: that is not waited for here.
                if left == 0 or wait_s > LONGEST_WAIT_S or not (error.status == 429 or error.status >= 500):
                    return self.failed(kept, error)
            await self._clock.sleep(wait_s)
        if kept.url != "/v1/responses":
            return Made("completed", {**told(served), "id": kept.id, "status": "completed"})
        if served.answer is None:
            return self.failed(kept, _dry_run())
        return self._whole(kept, request, served.answer)

    async def _told(self, kept: Kept, ask: Ask, caller: Principal, request: ChatRequest, spool: Spool) -> Made:
        """The answer, told while it comes; its last events are left to be told with its end."""
        served, _ = await self._lines.serve(ask, caller, request, stream=True)
        if served.chunks is None:
            return self.failed(kept, _dry_run())
        telling, retold = self._telling(kept), Retold(spool.log.text)
        try:
            async with spool:
                async for chunk in served.chunks:
                    spool.add(retold.add(telling.add(chunk)))
        finally:
            if isinstance(served.chunks, AsyncGenerator):
                await served.chunks.aclose()
        return _made(kept, request, telling.response, (*spool.rest, *retold.add(telling.end())))

    def _whole(self, kept: Kept, request: ChatRequest, answer: Answer) -> Made:
        telling = self._telling(kept)
        events: list[Event] = []
        for chunk in unfold(answer, id=kept.id, created=kept.created_at):
            events += telling.add(chunk)
        events += telling.end()
        return _made(kept, request, telling.response, events)

    def _telling(self, kept: Kept) -> Telling:
        """Past its first two events, which the log begins with."""
        assert kept.ask is not None
        telling = Telling(kept.ask["body"], self._clock, id=kept.id, token=_names(kept.id))
        telling.response |= {"background": True, "created_at": kept.wire["created_at"]}
        telling.begin()
        return telling

    def failed(self, kept: Kept, error: EdgewiseError) -> Made:
        """The answer that says why there is none."""
        if kept.url != "/v1/responses":
            return Made("failed", {**kept.wire, **error.body(), "status": "failed"})
        telling = self._telling(kept)
        events = telling.failed(error)
        return Made("failed", telling.response, (), tuple(events))

    def refuse(self, kept: Kept, reason: str) -> Made:
        return self.failed(kept, REASONS[reason])


def chat_of(wire: Mapping[str, Any]) -> ChatRequest:
    """What `background.chat_wire` wrote down."""
    cache = CacheAsk(**{**wire["cache"], "tags": tuple(wire["cache"]["tags"])})
    return ChatRequest(wire["body"], cache=cache, routing=wire["routing"])


def pace_of(kept: Kept, request: ChatRequest) -> float | None:
    """How long the answer's events may wait to be told, seconds; None: it is told when it is whole."""
    assert kept.ask is not None
    if kept.url != "/v1/responses":
        return None
    if kept.ask.get("stream"):
        return WATCHED_S
    return None if "response_format" in request.body else UNWATCHED_S


def _made(kept: Kept, request: ChatRequest, wire: Mapping[str, Any], events: Sequence[Event]) -> Made:
    """A response that ended as `wire`, with the conversation up to its end if it may be gone on with."""
    conversation = list(request.messages)
    if kept.ask is not None and kept.ask["body"].get("instructions"):
        conversation = conversation[1:]
    output = messages_of(wire["output"]) if wire["output"] else []
    going_on = kept.stored and wire["status"] in ("completed", "incomplete")
    return Made(wire["status"], wire, (*conversation, *output) if going_on else (), tuple(events))


def _names(id: str) -> Callable[[str], str]:
    """Ids of output items that are the same each time the answer `id` is made, so that it can be gone on with."""
    count = itertools.count()
    return lambda prefix: prefix + blake2b(f"{id}/{next(count)}".encode(), digest_size=12).hexdigest()


def _dry_run() -> InvalidRequest:
    return InvalidRequest("A dry run is not made in the background.", param="routing")
