"""OpenAI's batch service over HTTP, and whoever speaks the same: a file goes up, a batch is made, a file comes down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from edgewise.errors import UpstreamError, UpstreamRefused, UpstreamUnavailable
from edgewise.jobs.lines import split
from edgewise.jobs.offer import RemoteState
from edgewise.words import Model

if TYPE_CHECKING:
    import aiohttp

OURS = "edgewise_batch"
"""The metadata key under which the provider's batch carries our batch's id."""
WORKING = ("validating", "in_progress", "finalizing", "cancelling")
PIECE_BYTES = 1 << 16


class OpenAiBatches:
    """`remote.ProviderBatch`. `base_url` ends in /v1. A few calls a batch, minutes apart: no connection is kept."""

    endpoints = frozenset({"/v1/chat/completions", "/v1/responses"})
    share: Decimal | None = None

    def __init__(self, base_url: str, api_key: str, *, timeout_s: float = 600.0) -> None:
        self._url = base_url.rstrip("/")
        self._key = api_key
        self._timeout_s = timeout_s

    async def find(self, batch_id: str) -> str | None:
        after = ""
        for _ in range(10):
            page = await self._json("GET", f"/batches?limit=100{after}")
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get(OURS) == batch_id:
                    return str(batch["id"])
            if not page.get("has_more"):
                return None
            after = f"&after={page['last_id']}"
        return None

    async def submit(self, batch_id: str, endpoint: str, model: Model, lines: AsyncIterator[bytes]) -> str:
        import aiohttp

        del model  # it stands in every line
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", lines, filename=f"{batch_id}.jsonl", content_type="application/jsonl")
        file = await self._json("POST", "/files", data=form)
        asked = {
            "input_file_id": file["id"],
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {OURS: batch_id},
        }
        return str((await self._json("POST", "/batches", json=asked))["id"])

    async def poll(self, id: str) -> RemoteState:
        batch = await self._json("GET", f"/batches/{id}")
        return "working" if batch["status"] in WORKING else "ended"

    async def collect(self, id: str, model: Model) -> AsyncIterator[Mapping[str, Any]]:
        del model
        batch = await self._json("GET", f"/batches/{id}")
        if batch.get("output_file_id"):
            async with self._answer("GET", f"/files/{batch['output_file_id']}/content") as answer:
                async for line in split(answer.content.iter_chunked(PIECE_BYTES)):
                    if line.raw.strip():
                        yield orjson.loads(line.raw)

    async def cancel(self, id: str) -> None:
        """Cancelling what has ended is no error, here or there."""
        try:
            await self._json("POST", f"/batches/{id}/cancel")
        except UpstreamRefused:
            return

    async def _json(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        async with self._answer(method, path, **content) as answer:
            told: dict[str, Any] = orjson.loads(await answer.read())
            return told

    @asynccontextmanager
    async def _answer(self, method: str, path: str, **content: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        timeout, headers = aiohttp.ClientTimeout(total=self._timeout_s), {"authorization": f"Bearer {self._key}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.request(method, self._url + path, **content) as answer,
            ):
                if answer.status >= 400:
                    raise _refusal(answer.status)
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UpstreamUnavailable("The provider's batch service does not answer.") from error


def _refusal(status: int) -> UpstreamError:
    message = f"The provider's batch service refused with status {status}."
    if status == 429 or status >= 500:
        return UpstreamUnavailable(message)
    return UpstreamRefused(message, status=status)
