"""Anthropic's Messages API over HTTP: `anthropic_ask.py` says what is asked, `anthropic_answer.py` what came back."""

from __future__ import annotations

import orjson

from edgewise.chat import Answer
from edgewise.clock import Clock
from edgewise.provider.anthropic_answer import AnswerStream, answer_of
from edgewise.provider.anthropic_ask import ask
from edgewise.provider.http import Http, broken, events
from edgewise.provider.port import Call, ChunkStream
from edgewise.words import Model

NAME = "anthropic"
_VERSION = "2023-06-01"


class Anthropic:
    """`base_url` is the host without `/v1`."""

    name = NAME

    def __init__(self, http: Http, clock: Clock, base_url: str, api_key: str) -> None:
        self._http = http
        self._clock = clock
        self._url = f"{base_url.rstrip('/').removesuffix('/v1')}/v1/messages"
        self._headers = {"content-type": "application/json", "x-api-key": api_key, "anthropic-version": _VERSION}

    def models(self) -> tuple[Model, ...]:
        return ()

    async def complete(self, call: Call) -> Answer:
        asked = orjson.dumps(ask(call, stream=False))
        told = await self._http.whole(self._url, self._headers, asked, call.deadline)
        if told.get("type") != "message":
            raise broken("The provider's answer is no message.")
        return answer_of(told, id=self._clock.token("chatcmpl-"), created=int(self._clock.now()))

    async def stream(self, call: Call) -> ChunkStream:
        asked = orjson.dumps(ask(call, stream=True))
        response = await self._http.begin(self._url, self._headers, asked, call.deadline)
        said = AnswerStream(id=self._clock.token("chatcmpl-"), created=int(self._clock.now()), model=call.model.id)
        source = events(response, self._http.options.idle_s)
        try:
            async for found in source:
                for _, data in found:
                    try:
                        pieces = list(said.chunks(orjson.loads(data)))
                    except (ValueError, KeyError, TypeError, AttributeError) as error:
                        raise broken("The provider's stream has an event that makes no sense.") from error
                    for piece in pieces:
                        yield piece
                if said.whole:
                    break
            if not said.whole:
                raise broken("The provider's stream ended before the answer was whole.")
        finally:
            await source.aclose()
            self._http.end(response, whole=said.whole)

    async def close(self) -> None:
        await self._http.close()
