"""Makes a background answer out of what was written down of its request: the worker's side of `background.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.api.chat import told
from edgewise.api.lines import Lines
from edgewise.api.responses_ask import messages_of
from edgewise.api.responses_tell import Telling
from edgewise.chat import Answer, CacheAsk, ChatRequest, unfold
from edgewise.clock import Clock
from edgewise.errors import EdgewiseError, InvalidRequest, Unavailable, UpstreamTimeout
from edgewise.jobs.answers.kept import Kept, Made
from edgewise.jobs.ports import Ask, Calls

TRIES = 3
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

    async def make(self, kept: Kept, calls: Calls, timeout_s: float) -> Made:
        """Run the request for the caller who submitted it; a failure that another try may heal is tried again."""
        assert kept.ask is not None
        request = chat_of(kept.ask["chat"])
        ask = Ask(kept.tenant, kept.key_id, kept.url, request.body, f"req_{kept.id}", timeout_s, calls)
        for left in range(TRIES - 1, -1, -1):
            try:
                caller = await self._lines.impersonate(kept.tenant, kept.key_id, kept.url)
                served, _ = await self._lines.serve(ask, caller, request)
                break
            except EdgewiseError as error:
                if left == 0 or not (error.status == 429 or error.status >= 500):
                    return self.failed(kept, error)
                wait_s = getattr(error, "retry_after_s", None) or 2.0 ** (TRIES - left)
            await self._clock.sleep(wait_s)
        if kept.url != "/v1/responses":
            return Made("completed", {**told(served), "id": kept.id, "status": "completed"})
        if served.answer is None:
            return self.failed(kept, InvalidRequest("A dry run is not made in the background.", param="routing"))
        return self._response(kept, request, served.answer)

    def _response(self, kept: Kept, request: ChatRequest, answer: Answer) -> Made:
        telling = self._telling(kept)
        events = telling.begin()
        for chunk in unfold(answer, id=kept.id, created=kept.created_at):
            events += telling.add(chunk)
        events += telling.end()
        wire = telling.response
        output = messages_of(wire["output"]) if wire["output"] else []
        conversation = list(request.messages)
        if kept.ask is not None and kept.ask["body"].get("instructions"):
            conversation = conversation[1:]
        messages = (*conversation, *output) if kept.stored else ()
        return Made(wire["status"], wire, messages, tuple(events))

    def _telling(self, kept: Kept) -> Telling:
        assert kept.ask is not None
        telling = Telling(kept.ask["body"], self._clock, id=kept.id)
        telling.response |= {"background": True, "created_at": kept.wire["created_at"]}
        return telling

    def failed(self, kept: Kept, error: EdgewiseError) -> Made:
        """The answer that says why there is none."""
        if kept.url != "/v1/responses":
            return Made("failed", {**kept.wire, **error.body(), "status": "failed"})
        telling = self._telling(kept)
        events = [*telling.begin(), *telling.failed(error)]
        return Made("failed", telling.response, (), tuple(events))

    def refuse(self, kept: Kept, reason: str) -> Made:
        return self.failed(kept, REASONS[reason])


def chat_of(wire: Mapping[str, Any]) -> ChatRequest:
    """What `background.chat_wire` wrote down."""
    cache = CacheAsk(**{**wire["cache"], "tags": tuple(wire["cache"]["tags"])})
    return ChatRequest(wire["body"], cache=cache, routing=wire["routing"])
