"""`/v1/embeddings`: texts in, vectors out, as OpenAI's clients ask for them.

The same order as the corridor: may we, which model, have we it, reserve, call, settle, record. Each input of a list is
looked up and kept by itself (`edgewise.cache.pieces`), so a list that shares texts with an earlier one asks for the
others alone, and a text that stands in it twice is asked for once. What is reserved and charged is that one call; the
usage that is told is the whole list's, as it is for a cached chat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.api import fields
from edgewise.api.checks import Check, Flaw, integer, items, nullable, text, word
from edgewise.api.controls import NO_WISH, cache_ask
from edgewise.api.door import Knock, knock, request_id_of
from edgewise.api.edge import Edge
from edgewise.api.embeddings_tell import About, Embedded, headers_of, note_of
from edgewise.api.reply import reply
from edgewise.api.vectors import Embed, inputs_of, most_tokens, parts_of, together
from edgewise.chat import Answer, CacheAsk, ChatRequest, Usage
from edgewise.clock import Clock, Deadline
from edgewise.errors import EdgewiseError, InvalidRequest, ModelNotFound, NotCached, UpstreamError
from edgewise.jobs.ports import Ask, Ran
from edgewise.policy.room import check_models
from edgewise.provider.caller import charged
from edgewise.rooms import Rooms
from edgewise.words import (
    Attempt,
    Choice,
    Credentials,
    Model,
    Principal,
    Step,
    Target,
)

if TYPE_CHECKING:
    from edgewise.jobs.journal import Journal

Find = Callable[[str], "tuple[Model, Embed] | None"]
"""What embeds under the name that a client asked for; None when nothing does."""

MOST_INPUTS = 2048
_TOKENS = items(integer(0), at_least=1)
_MANY: dict[type, Check] = {str: text(at_least=1), int: integer(0), list: _TOKENS}


def _input(value: Any) -> Flaw | None:
    """A text, texts, tokens, or lists of tokens; never a mixture."""
    if type(value) is str:
        return text(at_least=1)(value)
    flaw = items(lambda _: None, at_least=1, at_most=MOST_INPUTS)(value)
    if flaw is not None:
        return flaw
    check = _MANY.get(type(value[0]))
    return items(check)(value) if check is not None else Flaw("expected strings or tokens", "[0]")


FIELDS: dict[str, Check] = {
    "model": text(at_least=1, at_most=512),
    "input": _input,
    "encoding_format": nullable(word("float", "base64")),
    "dimensions": nullable(integer(1)),
    "user": nullable(text()),
    # Held to its own description by `cache_ask`.
    "cache": lambda _: None,
}


def routes(edge: Edge, find: Find) -> list[Route]:
    return [Route("/embeddings", _Embeddings(edge, find).create, methods=["POST"])]


class _Embeddings:
    def __init__(self, edge: Edge, find: Find) -> None:
        self._edge = edge
        self._find = find

    async def create(self, request: Request) -> Response:
        edge, scope = self._edge, request.scope
        shown = knock(scope)
        try:
            body = await edge.read(scope, request.receive)
            found = found_for(body, self._find)
        except EdgewiseError as error:
            raise await edge.turned_away(scope, shown, error) from error
        return await self._run(request, shown, body, *found)

    async def _run(self, request: Request, shown: Knock, body: dict[str, Any], model: Model, embed: Embed) -> Response:
        edge, rooms = self._edge, self._edge.rooms
        wished = cache_ask(body.pop("cache", None), shown.directives, shown.ours)
        deadline = edge.deadline(request.scope, shown, stream=False)
        principal = await rooms.policy.identify(shown.credentials)
        wish = Wish(shown.credentials, body, request_id_of(request), deadline, wished)
        done = await embedded(rooms, principal, wish, model, embed)
        return reply(done.answer, headers=headers_of(done, model))


class EmbedLine:
    """Runs one embeddings request that came without a connection: a line of a batch."""

    def __init__(self, find: Find) -> None:
        self._find = find

    async def __call__(self, ask: Ask, caller: Principal, rooms: Rooms, journal: Journal | None) -> Ran:
        body = dict(ask.body)
        found = found_for(body, self._find)
        deadline = Deadline.after(rooms.clock, ask.timeout_s)
        wish = Wish(
            Credentials(None, ask.url), body, ask.request_id, deadline, cache_ask(body.pop("cache", None), {}, {})
        )
        done = await embedded(rooms, caller, wish, *found, journal)
        cost = done.cost_usd
        return Ran(200, done.answer, journal.with_earlier(cost) if journal is not None else cost)


def found_for(body: dict[str, Any], find: Find) -> tuple[Model, Embed]:
    """What embeds for a request, which is held to its description. Raises InvalidRequest, ModelNotFound."""
    fields.check(body, FIELDS, ("model", "input"))
    found = find(body["model"])
    if found is None:
        raise ModelNotFound(f"No embedding model {body['model'][:200]!r} is available here.", param="model")
    return found


@dataclass(frozen=True, slots=True)
class Wish:
    """A checked embeddings request and what came with it."""

    credentials: Credentials
    body: dict[str, Any]
    request_id: str
    deadline: Deadline
    cache: CacheAsk = NO_WISH


async def embedded(
    rooms: Rooms, caller: Principal, wish: Wish, model: Model, embed: Embed, journal: Journal | None = None
) -> Embedded:
    """May we, have we it, hold, call, settle, record. Raises `EdgewiseError`; either way one note is recorded.

    journal  where paid calls are kept and found, for a request that may be tried again after its worker died
    """
    started = rooms.clock.tick()
    about = About(caller, wish.request_id, wish.credentials.route, wish.body["model"])
    done: Embedded | None = None
    error: EdgewiseError | None = None
    try:
        request = ChatRequest({**wish.body, "messages": []}, cache=wish.cache)
        done = Embedded(await rooms.policy.plan(caller, request, wish.credentials))
        # What policy lets through is embedded: personal data may have gone out of it.
        wish = replace(wish, body={name: given for name, given in done.plan.request.body.items() if name != "messages"})
        await _answer(rooms, wish, done, model, embed, journal)
    except EdgewiseError as caught:
        error = caught
        if done is not None:
            caught.spent_usd = done.cost_usd
        raise
    finally:
        if done is not None:
            await rooms.policy.close(done.plan)
        elapsed_ms = (rooms.clock.tick() - started) * 1000
        rooms.record.note(note_of(rooms.clock, about, done, error, elapsed_ms))
    done.elapsed_ms = elapsed_ms
    return done


async def _answer(
    rooms: Rooms, wish: Wish, done: Embedded, model: Model, embed: Embed, journal: Journal | None
) -> None:
    """Find what is kept, and ask for the rest."""
    plan, inputs = done.plan, inputs_of(wish.body["input"])
    # Before the cache is asked: what others may ask this model for is not this key's to read.
    check_models(plan, _choice(model, ""))
    done.queries = rooms.asker.each(plan, Target(model.name, (model,)), inputs)
    done.verdicts = await rooms.cache.look_each(done.queries, plan)
    parts = {hit.entry.key: hit.entry.answer.completion for hit in done.hits}
    missing = {query.key: one for query, one in zip(done.queries, inputs, strict=True) if query.key not in parts}
    if missing and plan.request.cache.only_if_cached:
        raise NotCached("Not every input is cached, and only-if-cached was asked.")
    if missing:
        # Asked for as the client did, unless a part of it is enough.
        body = wish.body if len(missing) == len(inputs) else {**wish.body, "input": list(missing.values())}
        hold = await rooms.policy.reserve(plan, _choice(model, body["input"]))

        async def make(trail: list[Attempt]) -> Answer:
            return Answer(await called(rooms.clock, model, embed, body, wish.deadline, trail))

        try:
            made = await (journal.once(model, body, done.attempts, make) if journal else make(done.attempts))
        finally:
            await rooms.policy.settle(hold, done.attempts)
        new = dict(zip(missing, parts_of(made.completion, list(missing.values()), model), strict=True))
        parts |= new
        await _keep(rooms, done, new, model)
    done.answer = together([parts[query.key] for query in done.queries], wish.body.get("encoding_format"))


async def _keep(rooms: Rooms, done: Embedded, new: dict[str, dict[str, Any]], model: Model) -> None:
    """Keep the parts that were made, each with its share of the cost."""
    queries = {query.key: query for query in done.queries}
    made = []
    for key, part in new.items():
        cost = model.price.cost(Usage(prompt_tokens=part["tokens"])) if model.price is not None else None
        made.append((queries[key], Answer(part), Attempt(model, cost_usd=cost)))
    await rooms.cache.offer_each(made, done.plan)


async def called(
    clock: Clock, model: Model, embed: Embed, body: Mapping[str, Any], deadline: Deadline, attempts: list[Attempt]
) -> dict[str, Any]:
    """The provider's answer; the attempt, failed or not, is appended. Raises `UpstreamError`."""
    began = clock.tick()
    try:
        answer = await embed(body, model.id, deadline)
    except BaseException as error:
        known = error if isinstance(error, UpstreamError) else None
        attempts.append(
            Attempt(
                model,
                status=known.status if known else 499,
                error=(known.code or known.type) if known else "cancelled",
                latency_ms=(clock.tick() - began) * 1000,
                cost_usd=Decimal(0) if isinstance(error, InvalidRequest) else charged(known),
            )
        )
        raise
    usage = Usage.of(answer.get("usage"))
    cost = model.price.cost(usage) if usage is not None and model.price is not None else None
    attempts.append(Attempt(model, usage=usage, cost_usd=cost, latency_ms=(clock.tick() - began) * 1000))
    return answer


def _choice(model: Model, given: Any) -> Choice:
    """The one call, and the most it can cost."""
    worst = None
    if model.price is not None:
        worst = model.price.cost(Usage(prompt_tokens=most_tokens(given)))
    return Choice((Step((model,)),), strategy="simple", reason="named by the client", worst_usd=worst)
