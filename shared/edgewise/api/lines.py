"""Runs one request that came without a connection: a batch's line, a background answer.

It goes through the same corridor as every request, for the caller who submitted it, and comes back as a status and a
body, as a client of the route would have got them. Only a defect raises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from edgewise import flow
from edgewise.api import chat, responses_ask
from edgewise.api.door import Knock
from edgewise.api.responses_tell import whole as whole_response
from edgewise.chat import ChatRequest
from edgewise.clock import Deadline
from edgewise.errors import EdgewiseError, InvalidRequest, UpstreamError
from edgewise.jobs.journal import Holding, Journal, Purse, with_earlier
from edgewise.jobs.ports import Ask, Ran
from edgewise.rooms import Rooms
from edgewise.served import Served
from edgewise.words import Credentials, Hit, Principal, Usd

Impersonate = Callable[[str, str, str], Awaitable[Principal]]
"""Tenant, key id and route to the caller, as policy knows them now. Raises when they may not ask that route."""
RunRoute = Callable[[Ask, Principal, Rooms, Journal | None], Awaitable[Ran]]
"""Runs a request of a further route through the rooms it is given; the journal holds its paid calls."""


@dataclass(slots=True)
class Lines:
    """`jobs.ports.Run` over the corridor. `others` maps further routes (embeddings) to what runs them; `purse` settles
    what an earlier try of the same request held."""

    rooms: Callable[[], Rooms]
    impersonate: Impersonate
    others: dict[str, RunRoute] | None = None
    purse: Purse | None = None

    async def __call__(self, ask: Ask) -> Ran:
        earlier = ask.calls.earlier() if ask.calls is not None else []
        try:
            caller = await self.impersonate(ask.tenant, ask.key_id, ask.url)
            if self.others and ask.url in self.others:
                return await self.others[ask.url](ask, caller, *await self._prepared(ask))
            if ask.url == "/v1/chat/completions":
                return await self._chat(ask, caller)
            if ask.url == "/v1/responses":
                return await self._response(ask, caller)
            raise InvalidRequest(f"No requests for '{ask.url[:80]}' are run here.", param="url")
        except EdgewiseError as error:
            wait_s = getattr(error, "retry_after_s", None)
            by_provider = isinstance(error, UpstreamError)
            cost = with_earlier(earlier, error.spent_usd)
            return Ran(error.status, error.body(), cost, retry_after_s=wait_s, by_provider=by_provider)

    async def _chat(self, ask: Ask, caller: Principal) -> Ran:
        served, cost = await self.serve(ask, caller, chat.parse(dict(ask.body), _nobody(ask)))
        return Ran(200, chat.told(served), cost, _free(served, cost))

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
        return Ran(200, told, cost, _free(served, cost))

    async def serve(
        self, ask: Ask, caller: Principal, request: ChatRequest, *, stream: bool = False
    ) -> tuple[Served, Usd | None]:
        """Take a request through the corridor; what came, and what it cost with earlier tries (a stream: so far)."""
        rooms, journal = await self._prepared(ask)
        served = await flow.serve(
            rooms,
            _nobody(ask).credentials,
            replace(request, stream=stream),
            Deadline.after(rooms.clock, ask.timeout_s),
            ask.request_id,
            caller=caller,
        )
        cost = served.cost_usd
        return served, journal.with_earlier(cost) if journal is not None else cost

    async def _prepared(self, ask: Ask) -> tuple[Rooms, Journal | None]:
        """The rooms for one request: its paid calls are kept and found, and earlier tries are settled."""
        rooms = self.rooms()
        if ask.calls is None:
            return rooms, None
        holding = Holding(rooms.policy, self.purse)
        journal = Journal(rooms.caller, ask.calls, holding)
        if self.purse is not None:
            await journal.settle_earlier(self.purse)
        policy: Any = holding
        return replace(rooms, caller=journal, policy=policy), journal


def _free(served: Served, cost: Usd | None) -> bool:
    """The cache served it, and not with what an earlier try of it had paid for."""
    return isinstance(served.verdict, Hit) and cost == served.cost_usd


def _nobody(ask: Ask) -> Knock:
    """A request without a connection shows nothing at the door: who it is for is known."""
    return Knock(Credentials(None, ask.url), {}, {})
