"""Runs one request that came without a connection: a batch's line, a background answer.

It goes through the same corridor as every request, for the caller who submitted it, and comes back as a status and a
body, as a client of the route would have got them. Only a defect raises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from edgewise import flow
from edgewise.api import chat, responses_ask
from edgewise.api.door import Knock
from edgewise.api.responses_tell import whole as whole_response
from edgewise.chat import ChatRequest
from edgewise.clock import Deadline
from edgewise.errors import EdgewiseError, InvalidRequest
from edgewise.flow import Rooms, Served
from edgewise.jobs.journal import Journal
from edgewise.jobs.ports import Ask, Ran
from edgewise.words import Credentials, Hit, Principal, Usd

Impersonate = Callable[[str, str, str], Awaitable[Principal]]
"""Tenant, key id and route to the caller, as policy knows them now. Raises when they may not ask that route."""
RunRoute = Callable[[Ask, Principal], Awaitable[Ran]]


@dataclass(slots=True)
class Lines:
    """`jobs.ports.Run` over the corridor. `others` maps further routes (embeddings) to what runs them."""

    rooms: Callable[[], Rooms]
    impersonate: Impersonate
    others: dict[str, RunRoute] | None = None

    async def __call__(self, ask: Ask) -> Ran:
        try:
            caller = await self.impersonate(ask.tenant, ask.key_id, ask.url)
            if self.others and ask.url in self.others:
                return await self.others[ask.url](ask, caller)
            if ask.url == "/v1/chat/completions":
                return await self._chat(ask, caller)
            if ask.url == "/v1/responses":
                return await self._response(ask, caller)
            raise InvalidRequest(f"No requests for '{ask.url[:80]}' are run here.", param="url")
        except EdgewiseError as error:
            wait_s = getattr(error, "retry_after_s", None)
            return Ran(error.status, error.body(), Decimal(0), retry_after_s=wait_s)

    async def _chat(self, ask: Ask, caller: Principal) -> Ran:
        served, cost = await self.serve(ask, caller, chat.parse(dict(ask.body), _nobody(ask)))
        return Ran(200, chat.told(served), cost, isinstance(served.verdict, Hit))

    async def _response(self, ask: Ask, caller: Principal) -> Ran:
        body = dict(ask.body)
        responses_ask.check(body)
        if body.get("previous_response_id"):
            raise InvalidRequest("A line cannot go on with an earlier response.", param="previous_response_id")
        request = chat.parse(responses_ask.chat_body(body), _nobody(ask))
        served, cost = await self.serve(ask, caller, request)
        if served.answer is None:
            return Ran(200, chat.told(served), cost)  # a dry run
        told = whole_response(body, served.answer, self.rooms().clock)
        return Ran(200, told, cost, isinstance(served.verdict, Hit))

    async def serve(self, ask: Ask, caller: Principal, request: ChatRequest) -> tuple[Served, Usd | None]:
        """Take a request through the corridor; what came, and what it cost with earlier tries."""
        rooms = self.rooms()
        journal = None
        if ask.calls is not None:
            journal = Journal(rooms.caller, ask.calls)
            rooms = replace(rooms, caller=journal)
        served = await flow.serve(
            rooms,
            _nobody(ask).credentials,
            replace(request, stream=False),
            Deadline.after(rooms.clock, ask.timeout_s),
            ask.request_id,
            caller=caller,
        )
        return served, _cost(served, journal)


def _cost(served: Served, journal: Journal | None) -> Usd | None:
    replayed = journal.replayed_usd if journal is not None else Decimal(0)
    if replayed is None or served.cost_usd is None:
        return None
    return replayed + served.cost_usd


def _nobody(ask: Ask) -> Knock:
    """A request without a connection shows nothing at the door: who it is for is known."""
    return Knock(Credentials(None, ask.url), {}, {})
