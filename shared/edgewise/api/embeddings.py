"""`/v1/embeddings`: texts in, vectors out, as OpenAI's clients ask for them.

The same order as the corridor: may we, which model, reserve, call, settle, record. There is no cache here: a vector
costs about as much to keep and fetch as to make. Clients ask for base64 by default (little-endian float32), and
LangChain sends token numbers; both are passed on, and whichever encoding a provider answers in is turned into the
one that was asked for.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.api import fields
from edgewise.api.checks import Check, Flaw, integer, items, nullable, text, word
from edgewise.api.door import Knock, knock, request_id_of
from edgewise.api.edge import Edge
from edgewise.api.headers import usd
from edgewise.api.reply import reply
from edgewise.chat import Answer, ChatRequest, Usage
from edgewise.clock import Clock, Deadline
from edgewise.errors import EdgewiseError, InvalidRequest, ModelNotFound, UpstreamError
from edgewise.flow import Rooms
from edgewise.jobs.ports import Ask, Ran
from edgewise.provider.caller import charged
from edgewise.words import Attempt, Choice, Credentials, Model, Note, Plan, Principal, Step, Usd

if TYPE_CHECKING:
    from edgewise.jobs.journal import Journal

Embed = Callable[[Mapping[str, Any], str, Deadline], Awaitable[dict[str, Any]]]
"""OpenAI's embeddings of one model: the request's body and the model's id to the answer's JSON. Raises
`UpstreamError`."""
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
        wish = Wish(shown.credentials, body, request_id_of(request), edge.deadline(request.scope, shown, stream=False))
        principal = await rooms.policy.identify(shown.credentials)
        done = await embedded(rooms, principal, wish, model, embed)
        headers = {
            **done.plan.headers,
            "openai-processing-ms": str(round(done.elapsed_ms)),
            "x-edgewise-model": model.name,
            "x-edgewise-provider": model.provider,
            "x-edgewise-cost-usd": "unknown" if done.cost_usd is None else usd(done.cost_usd),
        }
        return reply(done.answer, headers=headers)


class EmbedLine:
    """Runs one embeddings request that came without a connection: a line of a batch."""

    def __init__(self, find: Find) -> None:
        self._find = find

    async def __call__(self, ask: Ask, caller: Principal, rooms: Rooms, journal: Journal | None) -> Ran:
        body = dict(ask.body)
        found = found_for(body, self._find)
        deadline = Deadline.after(rooms.clock, ask.timeout_s)
        wish = Wish(Credentials(None, ask.url), body, ask.request_id, deadline)
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


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer in the client's shape, and what the headers tell of it."""

    answer: dict[str, Any]
    plan: Plan
    cost_usd: Usd | None
    elapsed_ms: float


async def embedded(
    rooms: Rooms, caller: Principal, wish: Wish, model: Model, embed: Embed, journal: Journal | None = None
) -> Embedded:
    """May we, hold, call, settle, record. Raises `EdgewiseError`; either way one note is recorded.

    journal  where paid calls are kept and found, for a request that may be tried again after its worker died
    """

    async def make(trail: list[Attempt]) -> Answer:
        return Answer(await called(rooms.clock, model, embed, wish.body, wish.deadline, trail))

    started = rooms.clock.tick()
    plan: Plan | None = None
    attempts: list[Attempt] = []
    error: EdgewiseError | None = None
    try:
        plan = await rooms.policy.plan(caller, ChatRequest({**wish.body, "messages": []}), wish.credentials)
        # What policy lets through is embedded: personal data may have gone out of it.
        wish = replace(wish, body={name: given for name, given in plan.request.body.items() if name != "messages"})
        hold = await rooms.policy.reserve(plan, _choice(model, wish.body["input"]))
        try:
            made = await (journal.once(model, wish.body, attempts, make) if journal else make(attempts))
        finally:
            await rooms.policy.settle(hold, attempts)
    except EdgewiseError as caught:
        error = caught
        raise
    finally:
        if plan is not None:
            await rooms.policy.close(plan)
        elapsed_ms = (rooms.clock.tick() - started) * 1000
        note = _note(rooms.clock, caller, wish, attempts, error, elapsed_ms)
        rooms.record.note(note if plan is None else replace(note, flags=plan.flags))
    return Embedded(in_shape(made.completion, wish.body, model), plan, attempts[-1].cost_usd, elapsed_ms)


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


def _note(
    clock: Clock, caller: Principal, wish: Wish, attempts: list[Attempt], error: EdgewiseError | None, elapsed_ms: float
) -> Note:
    last = attempts[-1] if attempts else None
    return Note(
        request_id=wish.request_id,
        route=wish.credentials.route,
        at=clock.now(),
        tenant=caller.tenant,
        key_id=caller.key_id,
        asked_model=wish.body["model"],
        model=last.model.name if last else "",
        provider=last.model.provider if last else "",
        status=error.status if error else 200,
        error=(error.code or error.type) if error else None,
        attempts=tuple(attempts),
        usage=last.usage if last else None,
        cost_usd=last.cost_usd if last else Decimal(0),
        latency_ms=elapsed_ms,
    )


def _choice(model: Model, given: Any) -> Choice:
    """The one call, and the most it can cost: no text has more tokens than bytes."""
    worst = None
    if model.price is not None:
        worst = model.price.cost(Usage(prompt_tokens=_most_tokens(given)))
    return Choice((Step((model,)),), strategy="simple", reason="named by the client", worst_usd=worst)


def _most_tokens(given: Any) -> int:
    if isinstance(given, str):
        return len(given.encode())
    return sum(_most_tokens(item) if isinstance(item, str | list) else 1 for item in given)


def in_shape(answer: Mapping[str, Any], body: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The provider's answer with every key that the description requires, in the encoding that was asked for."""
    as_text = body.get("encoding_format") == "base64"
    tokens = (answer.get("usage") or {}).get("prompt_tokens") or 0
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": number, "embedding": _encoded(item["embedding"], as_text=as_text)}
            for number, item in enumerate(answer["data"])
        ],
        "model": answer.get("model") or model.id,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def vectors_of(answer: Mapping[str, Any]) -> list[list[float]]:
    """The vectors of a provider's answer as numbers, in the order of the texts."""
    rows = sorted(answer["data"], key=lambda row: row.get("index") or 0)
    return [cast("list[float]", _encoded(row["embedding"], as_text=False)) for row in rows]


def _encoded(vector: str | Sequence[float], *, as_text: bool) -> str | list[float]:
    if isinstance(vector, str):
        if as_text:
            return vector
        raw = base64.b64decode(vector)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    if as_text:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return [float(number) for number in vector]


def of_encoder(encode: Callable[[list[str]], Awaitable[Sequence[Sequence[float]]]], dimensions: int) -> Embed:
    """An encoder in this process as an `Embed`. Its usage is an estimate, four characters a token."""

    async def embed(body: Mapping[str, Any], model_id: str, _: Deadline) -> dict[str, Any]:
        given = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if not all(isinstance(item, str) for item in given):
            raise InvalidRequest("This model takes text, not tokens.", param="input")
        if body.get("dimensions") not in (None, dimensions):
            raise InvalidRequest(f"This model has {dimensions} dimensions.", param="dimensions")
        vectors = await encode(given)
        tokens = sum(max(1, len(item) // 4) for item in given)
        return {
            "data": [{"embedding": [float(x) for x in vector]} for vector in vectors],
            "model": model_id,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    return embed
