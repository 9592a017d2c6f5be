"""Bedrock through Converse and ConverseStream: `bedrock_ask.py` says what is asked, `bedrock_answer.py` what came back.

boto3 blocks, so a call lives on a thread: a whole answer for as long as it takes, a stream until it ends, each event
handed to the loop as it comes. The threads are this adapter's own, because calls that last minutes on the threads of
the tables would make every look-up wait. A caller that leaves ends its stream: the socket is shut down under the
thread that reads it. A whole answer that nobody waits for any more still runs to its end on its thread.

Retries are the caller's, so boto3 makes one attempt. Errors are told by their code.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson

from edgewise.aws import Aws
from edgewise.chat import Answer
from edgewise.clock import Clock, Deadline
from edgewise.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from edgewise.provider import bedrock_embed as embedding
from edgewise.provider.bedrock_answer import MALFORMED, AnswerStream, answer_of
from edgewise.provider.bedrock_ask import ask
from edgewise.provider.http import broken
from edgewise.provider.port import Call, ChunkStream
from edgewise.provider.refusal import refused, retry_after_s
from edgewise.words import Model

NAME = "bedrock"
_SERVICE = "bedrock-runtime"
_STATUS = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "UnrecognizedClientException": 403,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ModelNotReadyException": 429,
    "ServiceQuotaExceededException": 429,
    "ThrottlingException": 429,
    "throttlingException": 429,
    "ValidationException": 400,
    "validationException": 400,
    "ModelErrorException": 502,
    "ModelStreamErrorException": 502,
    "modelStreamErrorException": 502,
    "InternalServerException": 500,
    "internalServerException": 500,
    "ServiceUnavailableException": 503,
    "serviceUnavailableException": 503,
}
"""Of the service's error codes; inside a stream they begin with a small letter."""


class Bedrock:
    """Models of one region's Bedrock. `most_calls` is how many may be under way at once."""

    name = NAME

    def __init__(self, aws: Aws, clock: Clock, most_calls: int = 64) -> None:
        self._aws = aws
        self._clock = clock
        self._most_calls = most_calls
        self._threads: ThreadPoolExecutor | None = None

    def models(self) -> tuple[Model, ...]:
        return ()

    def _submit(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._most_calls, thread_name_prefix=NAME)
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def complete(self, call: Call) -> Answer:
        work = partial(self._converse, ask(call))
        try:
            async with asyncio.timeout(max(0.0, call.deadline.left_s())):
                told = await self._submit(work)
        except TimeoutError as error:
            raise UpstreamTimeout("The provider did not answer in time.") from error
        if told.get("stopReason") in MALFORMED:
            raise broken("The model spoilt its answer.")
        try:
            return answer_of(
                told,
                id=self._clock.token("chatcmpl-"),
                created=int(self._clock.now()),
                model=call.model.id,
            )
        except (KeyError, TypeError) as error:
            raise broken("The provider's answer is not whole.") from error

    def _converse(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            told: dict[str, Any] = self._aws.client(_SERVICE).converse(**asked)
            return told
        except Exception as error:
            raise self._translated(error) from error

    async def embed(self, body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
        """OpenAI's embeddings by Titan, a call a text. Raises `UpstreamError`, ModelNotFound, InvalidRequest."""
        calls = [self._submit(partial(self._invoke, each)) for each in embedding.asked(body, model_id)]
        try:
            async with asyncio.timeout(max(0.0, deadline.left_s())):
                return embedding.answer(await asyncio.gather(*calls), model_id)
        except TimeoutError as error:
            raise UpstreamTimeout("The provider did not answer in time.") from error
        except (KeyError, TypeError, ValueError) as error:
            raise broken("The provider's answer is not whole.") from error

    def _invoke(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            told: dict[str, Any] = orjson.loads(self._aws.client(_SERVICE).invoke_model(**asked)["body"].read())
            return told
        except Exception as error:
            raise self._translated(error) from error

    async def stream(self, call: Call) -> ChunkStream:
        asked = ask(call)
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        hold = _Hold()

        def tell(event: dict[str, Any] | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        reading = self._submit(partial(self._read, asked, tell, hold))
        said = AnswerStream(
            id=self._clock.token("chatcmpl-"),
            created=int(self._clock.now()),
            model=call.model.id,
        )
        try:
            while True:
                async with asyncio.timeout(max(0.0, call.deadline.left_s())):
                    event = await events.get()
                if event is None:
                    break
                for piece in said.chunks(event):
                    if said.stop_reason in MALFORMED:
                        raise broken("The model spoilt its answer.")
                    yield piece
            await reading
            if not said.whole:
                raise broken("The provider's stream ended before the answer was whole.")
        except TimeoutError as error:
            raise UpstreamTimeout("The provider did not answer in time.") from error
        except (KeyError, TypeError) as error:
            raise broken("The provider's stream has an event that makes no sense.") from error
        finally:
            if not reading.done():
                hold.let_go()
            # Its outcome, if it is not known yet, is nobody's any more; asking for it keeps the log quiet.
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _read(
        self,
        asked: dict[str, Any],
        tell: Callable[[dict[str, Any] | None], None],
        hold: _Hold,
    ) -> None:
        """On a thread: every event of the stream, then None. Raises `UpstreamError`."""
        try:
            stream = self._aws.client(_SERVICE).converse_stream(**asked)["stream"]
            try:
                hold.on(stream)
                for event in stream:
                    tell(event)
                    if hold.gone.is_set():
                        return
            finally:
                stream.close()
        except Exception as error:
            raise self._translated(error) from error
        finally:
            tell(None)

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _translated(self, error: Exception) -> UpstreamError:
        """Ours for boto3's, by class and code."""
        from botocore import exceptions
        from urllib3.exceptions import HTTPError

        match error:
            case exceptions.ClientError():
                told = error.response.get("Error", {})
                code = str(told.get("Code", ""))
                sent = error.response.get("ResponseMetadata", {})
                status = _STATUS.get(code) or int(sent.get("HTTPStatusCode") or 502)
                wait_s = retry_after_s(sent.get("HTTPHeaders") or {}, self._clock.now())
                return refused(status, {"message": told.get("Message")}, wait_s)
            case exceptions.ReadTimeoutError():
                return UpstreamTimeout("The provider did not answer in time.")
            case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
                return refused(401, None)
            case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError():
                return UpstreamUnavailable("The provider cannot be reached.")
            case exceptions.BotoCoreError() | HTTPError() | OSError():
                return broken("The provider's answer broke off.")
            case _:
                raise error


class _Hold:
    """What a caller has on the thread that reads its stream: the means to end it, from another thread."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self._stream: Any = None

    def on(self, stream: Any) -> None:
        """Hold `stream`; it is ended at once if the caller has left already."""
        self._stream = stream
        if self.gone.is_set():
            self._shut()

    def let_go(self) -> None:
        self.gone.set()
        self._shut()

    def _shut(self) -> None:
        # boto3 offers no way to wake a reader; closing the stream would wait for it. Without this method (urllib3
        # before 2.3) the thread leaves at its next event.
        raw: Any = getattr(self._stream, "_raw_stream", None)
        with contextlib.suppress(AttributeError, ValueError, OSError):
            raw.shutdown()
