"""The corridor: what happens to one request, in order.

    request → policy → query → cache → router → provider → record
              may we?  what is  have we  which    call it,   one line per request:
                       asked?   it?      model?   stream it  cost, time, quality, why

The rooms know nothing of each other; they meet here, behind the ports of `edgewise.rooms`. Two rules are this module's
own: cache trouble never fails a request (the cache's port does not raise), and policy trouble always does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any, assert_never

from edgewise.capped import Capped
from edgewise.chat import Answer, ChatRequest, Chunks, Folding, begun, unfold
from edgewise.clock import Deadline
from edgewise.errors import EdgewiseError, NotCached, UpstreamDied, UpstreamError, UpstreamRefused, UpstreamTimeout
from edgewise.rooms import Rooms
from edgewise.served import Served, note_of
from edgewise.unmask import Unmask
from edgewise.words import (
    Caller,
    Choice,
    Credentials,
    Hit,
    Late,
    Live,
    Miss,
    Plan,
    Principal,
    Query,
    Target,
    Verdict,
)

SHADOW_ROUTE = "shadow"
"""The route of the line that a shadow call leaves in the record."""
REFRESH_ROUTE = "refresh"
"""The route of the line that renewing a stale entry leaves."""
DRY_ROUTE = "dry-run"
"""The route of the line of a request that only asks what would be done."""
STAND_IN_S = 60.0
"""How long an answer is kept whose model stood in for the one that was asked: long enough that everybody who asks
the same during an outage is answered by one call, and soon enough gone when the outage is over."""


async def serve(
    rooms: Rooms,
    credentials: Credentials,
    request: ChatRequest,
    deadline: Deadline,
    request_id: str,
    *,
    caller: Principal | None = None,
) -> Served:
    """Take one request through the corridor. Raises `EdgewiseError`; either way one note is recorded.

    caller  who asks, when that was found out before (a batch's line); None: whoever the credentials name
    """
    served = Served(request_id, request.stream, rooms.clock.tick(), deadline=deadline)
    try:
        served.caller = principal = caller or await rooms.policy.identify(credentials)
        served.plan = plan = await rooms.policy.plan(principal, request, credentials)
        target = rooms.router.resolve(plan.request, plan)
        served.query = query = rooms.asker.query(plan, target)
        served.verdict = verdict = await _look(rooms, query, plan, deadline)
        match verdict:
            case Hit():
                _replay(rooms, served, verdict)
                if verdict.refresh is not None:
                    rooms.background.spawn(_refresh(rooms, served, target, verdict.refresh, deadline))
            case Miss():
                await _ask(rooms, served, target, verdict, deadline)
            case _:
                assert_never(verdict)
        await _restore(served)
    except BaseException as error:
        # Whatever ended it, a cancelled task too: what policy handed out comes back.
        if isinstance(error, EdgewiseError):
            if served.plan is not None:
                error.spent_usd = served.cost_usd
            await _finish(rooms, served, credentials.route, error)
        elif served.plan is not None:
            await rooms.policy.close(served.plan)
        raise
    if served.chunks is None:
        await _finish(rooms, served, credentials.route, None)
    else:
        served.chunks = await begun(_watched(rooms, served, served.chunks, credentials.route))
    return served


async def _look(rooms: Rooms, query: Query, plan: Plan, deadline: Deadline) -> Verdict:
    """What the cache has. It may wait for the answer that somebody else is getting, for as long as this request may."""
    try:
        async with asyncio.timeout(max(0.0, deadline.left_s())):
            return await rooms.cache.look(query, plan)
    except TimeoutError as error:
        raise UpstreamTimeout("The same request is under way, and did not end in time.") from error


async def _restore(served: Served) -> None:
    """Put back what policy had redacted: the provider and the cache never see it, the client does."""
    if served.plan is None or not served.plan.masked:
        return
    unmask = Unmask(served.plan.masked)
    if served.answer is not None:
        served.answer = unmask.answer(served.answer)
    if served.chunks is not None:
        served.chunks = await begun(_unmasked(unmask, served.chunks))


async def _unmasked(unmask: Unmask, chunks: AsyncIterator[dict[str, Any]]) -> AsyncGenerator[dict[str, Any], None]:
    try:
        yield {}
        async for piece in chunks:
            for restored in unmask.chunk(piece):
                yield restored
    finally:
        await _close(chunks)


def _replay(rooms: Rooms, served: Served, hit: Hit) -> None:
    """Answer from an entry, with a fresh id, in the grammar of a live answer."""
    entry = hit.entry
    if entry.status != 200:
        error = entry.answer.completion.get("error") or {}
        raise UpstreamRefused(
            str(error.get("message", "The provider refused this request.")),
            status=entry.status,
            code=error.get("code"),
            param=error.get("param"),
        )
    _say(rooms, served, entry.answer)


def _say(rooms: Rooms, served: Served, answer: Answer) -> None:
    """Give a whole answer to the client in the form that was asked for."""
    fresh = _fresh(rooms)
    if served.stream:
        served.chunks = _each(list(unfold(answer, **fresh)))
    else:
        served.answer = Answer({**answer.completion, **fresh})


def _fresh(rooms: Rooms) -> dict[str, Any]:
    return {"id": rooms.clock.token("chatcmpl-"), "created": int(rooms.clock.now())}


async def _each(pieces: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for piece in pieces:
        yield piece


async def _ask(rooms: Rooms, served: Served, target: Target, miss: Miss, deadline: Deadline) -> None:
    """Choose, reserve, call; the answer is settled and offered when it is whole."""
    plan, query = served.plan, served.query
    assert plan is not None and query is not None
    try:
        if plan.request.cache.only_if_cached:
            raise NotCached("Nothing is cached for this request, and only-if-cached was asked.")
        served.choice = choice = await rooms.router.choose(plan.request, plan, target)
        if plan.request.dry_run:
            return
        hold = await rooms.policy.reserve(plan, choice)
    except BaseException as error:
        await rooms.cache.give_up(query, miss.lead, error if isinstance(error, EdgewiseError) else None)
        raise
    caller = _caller(rooms, plan)
    try:
        served.live = live = await rooms.router.carry_out(choice, plan.request, caller, deadline, served.attempts)
        if live.answer is not None:
            live.answer = await rooms.policy.mend(
                plan, live.answer, lambda again: caller.complete(live.model, again, deadline, served.attempts)
            )
    except BaseException as error:
        await rooms.policy.settle(hold, served.attempts)
        await rooms.cache.give_up(query, miss.lead, error if isinstance(error, EdgewiseError) else None)
        if miss.stale is None or not isinstance(error, UpstreamError):
            raise
        served.verdict = stale = Hit(miss.stale, "stale", rooms.clock.now() - miss.stale.created_at, tier="store")
        _replay(rooms, served, stale)
        return
    if live.chunks is not None:
        served.chunks = await begun(_through(rooms, served, live.chunks, hold, miss.lead))
        return
    assert live.answer is not None
    served.answer = live.answer
    try:
        await rooms.policy.settle(hold, served.attempts)
        await _keep(rooms, served, live.answer, miss.lead)
    except BaseException:
        await rooms.cache.give_up(query, miss.lead, None)
        raise
    if served.stream or served.shared:
        # Policy had it made whole, to read it before the client does; or its provider's id would tell it from a hit.
        _say(rooms, served, live.answer)


def _caller(rooms: Rooms, plan: Plan) -> Caller:
    return Capped(rooms.caller) if plan.capped else rooms.caller


async def _through(
    rooms: Rooms, served: Served, chunks: Chunks, hold: Any, lead: Any
) -> AsyncGenerator[dict[str, Any], None]:
    """Pass a live stream on while folding it; settle and offer before the end is told.

    An upstream that stops early raises `UpstreamDied` here, and nothing is kept: stock clients take a silently
    cut stream for a whole one.
    """
    folding = Folding()
    named = _fresh(rooms) if served.shared else None
    whole = False
    try:
        yield {}
        async for piece in chunks:
            folding.add(piece)
            yield piece if named is None else {**piece, **named}
        if not folding.finished:
            raise UpstreamDied("The provider's stream ended before the answer was whole.")
        whole = True
    finally:
        # Also when the client has gone away: what was used is charged, and nobody waits for this answer.
        await _close(chunks)
        await rooms.policy.settle(hold, served.attempts)
        if not whole:
            assert served.query is not None
            await rooms.cache.give_up(served.query, lead, None)
    served.answer = answer = folding.answer()
    await _keep(rooms, served, answer, lead)


async def _keep(rooms: Rooms, served: Served, answer: Answer, lead: Any) -> None:
    """Offer a whole answer to the cache and show the outcome to the router."""
    assert served.query is not None and served.plan is not None and served.choice is not None
    final = served.final or (served.attempts[-1] if served.attempts else None)
    if final is None:
        await rooms.cache.give_up(served.query, lead, None)
        served.stored = "no-attempt"
    else:
        plan = _briefly(served.plan) if served.live is not None and served.live.stands_in else served.plan
        served.stored = await rooms.cache.offer(served.query, plan, lead, answer, final)
    rooms.router.observe(served.plan, served.choice, served.attempts, answer)
    if served.live is not None:
        live = replace(served.live, answer=answer, chunks=None)
        shadow = rooms.router.follow_up(served.plan, served.choice, live, served.request_id)
        served.shadow = (shadow, live) if shadow is not None else None


async def _shadow(rooms: Rooms, plan: Plan, choice: Choice, live: Live, deadline: Deadline, request_id: str) -> None:
    """Ask other models behind an answer that is out, on the same key's account and as a line of its own.

    What doesn't fit the key's budget is not asked; a client never waits for this, and never hears of it.
    """
    # What a guardrail cost is on the answer's account.
    plan = replace(plan, late=None)
    asked = Served(request_id, False, rooms.clock.tick(), caller=plan.principal, plan=plan, choice=choice)
    try:
        hold = await rooms.policy.reserve(plan, choice)
    except EdgewiseError:
        return
    try:
        await rooms.router.compare(choice, plan, live, _caller(rooms, plan), deadline, asked.attempts)
    finally:
        await rooms.policy.settle(hold, asked.attempts)
        rooms.record.note(note_of(rooms.clock, asked, SHADOW_ROUTE, None))


def _briefly(plan: Plan) -> Plan:
    """`plan` for an answer that is to be kept for `STAND_IN_S` at most."""
    ask, policy = plan.request.cache, plan.cache
    if ask.ttl_s is not None:
        return replace(plan, request=replace(plan.request, cache=replace(ask, ttl_s=min(ask.ttl_s, STAND_IN_S))))
    ttl_s = STAND_IN_S if policy.ttl_s is None else min(policy.ttl_s, STAND_IN_S)
    return replace(plan, cache=replace(policy, ttl_s=ttl_s))


async def _refresh(rooms: Rooms, served: Served, target: Target, lead: Any, deadline: Deadline) -> None:
    """Renew a stale entry behind its answer (stale-while-revalidate). It is a line of its own in the record, under
    the request's id, also when it fails: what it costs was nobody's wait, but it is somebody's money."""
    assert served.plan is not None
    # Nobody listens, so nothing is streamed.
    late = Late() if served.plan.late is not None else None
    plan = replace(served.plan, request=replace(served.plan.request, stream=False), late=late)
    again = Served(served.request_id, False, rooms.clock.tick(), caller=plan.principal, plan=plan, query=served.query)
    failed: EdgewiseError | None = None
    try:
        await _ask(rooms, again, target, Miss("refresh", lead=lead), deadline)
    except EdgewiseError as error:
        failed = error
    rooms.record.note(note_of(rooms.clock, again, REFRESH_ROUTE, failed))


async def _watched(
    rooms: Rooms, served: Served, chunks: AsyncIterator[dict[str, Any]], route: str
) -> AsyncGenerator[dict[str, Any], None]:
    """Record a stream when it has ended, however it ended."""
    error: EdgewiseError | None = None
    try:
        yield {}
        async for piece in chunks:
            if served.first_at is None:
                served.first_at = rooms.clock.tick()
            yield piece
    except EdgewiseError as caught:
        error = caught
        raise
    finally:
        await _close(chunks)
        await _finish(rooms, served, route, error)


async def _close(chunks: AsyncIterator[Any]) -> None:
    """End a stream now. Left to the garbage collector, a stream that its client has left would end at some later
    time, after its own record was written."""
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()


async def _finish(rooms: Rooms, served: Served, route: str, error: EdgewiseError | None) -> None:
    if served.plan is not None:
        await rooms.policy.close(served.plan)
        route = DRY_ROUTE if served.plan.request.dry_run else route
    rooms.record.note(note_of(rooms.clock, served, route, error))
    if served.shadow is not None and served.plan is not None and served.deadline is not None:
        choice, live = served.shadow
        rooms.background.spawn(_shadow(rooms, served.plan, choice, live, served.deadline, served.request_id))
