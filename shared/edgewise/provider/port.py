"""The door that every provider stands behind: one call in, OpenAI's shape out.

A provider translates and nothing else. It makes one attempt, within the call's deadline; retries, prices and records
are the caller's (`caller.py`), and which model is asked is not known here at all. Whatever goes wrong becomes an
`UpstreamError` by class and status, which says whether another attempt may help; what comes after the first chunk
the caller makes `UpstreamDied`. A stream that simply stops is never taken for a whole one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edgewise.chat import Answer, ChatRequest, Chunk
from edgewise.clock import Deadline
from edgewise.words import Model

ChunkStream = AsyncGenerator[Chunk, None]

NEVER_FORWARDED = frozenset(
    {
        "api_base",
        "api_key",
        "api_type",
        "api_version",
        "aws_access_key_id",
        "aws_bedrock_runtime_endpoint",
        "aws_secret_access_key",
        "aws_session_token",
        "base_url",
        "callbacks",
        "custom_llm_provider",
        "default_headers",
        "extra_headers",
        "failure_callback",
        "headers",
        "litellm_params",
        "organization",
        "success_callback",
    }
)
"""Fields by which a client could turn a gateway's credentials towards a server of its choosing (CVE-2024-6587 and
its kin). No provider reads them, and none is passed on."""


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt at one model. `body` is OpenAI's request without `stream`, `stream_options` and the fields above;
    its `model` is the name that the client asked for, so an adapter puts `model.id` in its place."""

    model: Model
    body: Mapping[str, Any]
    deadline: Deadline
    request_id: str = ""

    @classmethod
    def of(cls, model: Model, request: ChatRequest, deadline: Deadline, request_id: str = "") -> Call:
        body = request.body
        if not NEVER_FORWARDED.isdisjoint(body):
            body = {key: value for key, value in body.items() if key not in NEVER_FORWARDED}
        return cls(model, body, deadline, request_id)

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body.get("messages") or []
        return messages

    @property
    def output_limit(self) -> int | None:
        """`max_completion_tokens` or the older `max_tokens`; None when neither is set."""
        limit = self.body.get("max_completion_tokens")
        if limit is None:
            limit = self.body.get("max_tokens")
        return int(limit) if limit is not None else None

    @property
    def stops(self) -> list[str]:
        """`stop` as a list."""
        stop = self.body.get("stop")
        return [stop] if isinstance(stop, str) else [s for s in stop or () if isinstance(s, str)]


class Provider(Protocol):
    """One way to reach models. Cheap to build: no connection, client or model is made before the first call."""

    @property
    def name(self) -> str:
        """The first part of its models' names, `name/id`."""
        ...

    def models(self) -> tuple[Model, ...]:
        """What it knows that it serves; any other id is passed on as it is. Does no I/O."""
        ...

    async def complete(self, call: Call) -> Answer:
        """The whole answer. Raises `UpstreamError`."""
        ...

    def stream(self, call: Call) -> ChunkStream:
        """The answer as chunks, the last of them with usage if the provider counts. Closing it ends the call
        upstream. Raises `UpstreamError`, also when the stream ends before the answer is whole."""
        ...

    async def close(self) -> None:
        """Give back what is held; calls under way fail."""
        ...
