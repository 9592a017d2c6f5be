"""Any server that speaks OpenAI's chat completions: OpenAI, vLLM, Ollama, Bedrock's own OpenAI endpoint.

OpenAI's shape is the house's own, so there is nothing to translate: every field of the request goes on as it came,
also one that nobody here has heard of, except the few that `port.NEVER_FORWARDED` names. Only `model` is ours, and a
stream is always asked for its usage, because every attempt is charged.

A stream is whole when `[DONE]` or the usage chunk has come after a finish reason. One that just ends, however
politely, has died: stock clients take a silently cut stream for the whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from edgewise.chat import Answer
from edgewise.clock import Deadline
from edgewise.provider.http import Http, broken, events
from edgewise.provider.port import Call, ChunkStream
from edgewise.provider.refusal import in_band
from edgewise.words import Model

_USAGE = {"include_usage": True}


class OpenAIHttp:
    """One server. `ids` are the models it is known to serve; `owned_by` is what /v1/models says of them."""

    def __init__(
        self,
        name: str,
        http: Http,
        base_url: str,
        api_key: str | None = None,
        ids: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._ids = ids
        self._headers = {"content-type": "application/json", **(headers or {})}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

    def models(self) -> tuple[Model, ...]:
        return tuple(Model(self.name, id_, owned_by=self.name) for id_ in self._ids)

    async def listed(self, deadline: Deadline) -> tuple[Model, ...]:
        """The models that the server itself lists. Raises `UpstreamError`."""
        told = await self._http.whole(f"{self._base_url}/models", self._headers, None, deadline)
        return tuple(
            Model(self.name, str(row["id"]), created=int(row.get("created") or 0), owned_by=str(row.get("owned_by")))
            for row in told.get("data") or ()
            if isinstance(row, dict) and "id" in row
        )

    async def complete(self, call: Call) -> Answer:
        body = orjson.dumps(_asked(call))
        told = await self._http.whole(f"{self._base_url}/chat/completions", self._headers, body, call.deadline)
        if not told.get("choices"):
            if isinstance(told.get("error"), dict):
                raise in_band(told["error"])
            raise broken("The provider's answer has no choices.")
        return Answer(told)

    async def stream(self, call: Call) -> ChunkStream:
        body = orjson.dumps({**_asked(call), "stream": True, "stream_options": _USAGE})
        response = await self._http.begin(f"{self._base_url}/chat/completions", self._headers, body, call.deadline)
        finished = whole = False
        source = events(response, self._http.options.idle_s)
        done = False
        try:
            async for found in source:
                for _, data in found:
                    if data == b"[DONE]":
                        done = True
                        break
                    piece = _chunk(data)
                    if choices := piece.get("choices"):
                        finished = finished or choices[0].get("finish_reason") is not None
                    elif finished and piece.get("usage"):
                        whole = True
                    yield piece
                if done:
                    whole = finished
                    break
            if not whole:
                raise broken("The provider's stream ended before the answer was whole.")
        finally:
            await source.aclose()
            self._http.end(response, whole=whole)

    async def embed(self, body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
        """OpenAI's embeddings, body and answer as they are. Raises `UpstreamError`."""
        sent = orjson.dumps({**body, "model": model_id})
        return await self._http.whole(f"{self._base_url}/embeddings", self._headers, sent, deadline)

    async def close(self) -> None:
        await self._http.close()


def _asked(call: Call) -> dict[str, Any]:
    asked = {**call.body, "model": call.model.id}
    # Another maker's words: hints at most, and an unknown field is refused.
    asked.pop("anthropic", None)
    return asked


def _chunk(data: bytes) -> dict[str, Any]:
    try:
        piece = orjson.loads(data)
    except ValueError as error:
        raise broken("The provider's stream has an event that is not JSON.") from error
    if not isinstance(piece, dict):
        raise broken("The provider's stream has an event that is no chunk.")
    told = piece.get("error")
    if told is not None and not piece.get("choices"):
        raise in_band(told if isinstance(told, dict) else {"message": str(told)})
    return piece
