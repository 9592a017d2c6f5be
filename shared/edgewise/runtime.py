"""A Lambda runtime for an ASGI app that streams: each body message leaves the function as soon as it is sent.

The managed Python runtime's own client sends one whole answer, so the exec wrapper starts this loop in its place
(`AWS_LAMBDA_EXEC_WRAPPER`, see functions/gateway/run). Per invocation:

    event → scope → app → first body message opens the streamed reply → … → the last one closes it
          → what runs in the background is drained → the next event is asked for, and only then may Lambda freeze us

Rules that it obeys
- The prelude leaves with the first body message, so an app that fails before one is still answered with a status.
- An error after the last body message is a log line: Starlette answers a whole 500 and then raises it again. One in
  mid-stream ends the reply with Lambda's error trailers; whatever clients must read, the app has said in-band.
- Lambda never tells that a client left: `receive` blocks after the body. The function is billed to the end anyway.
- `content-length` goes (a streamed reply has none), duplicates are joined, each Set-Cookie is a cookie of the prelude.

What the app finds and gives
- `scope["aws.context"]`, as under Mangum: `get_remaining_time_in_millis()` until the platform kills, and names.
- `app.state.background` (optional, `edgewise.background.Background`) is drained between invocations.
- `app.state.renew` (optional, no arguments) is called after a SnapStart restore: whatever must not be shared by all
  copies of a snapshot (connections, credentials) is dropped there. Random seeds are renewed here.

Only function-URL events (payload 2.0) are its job; anything else is an error of the invocation.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from edgewise.clock import Clock, SystemClock
from edgewise.invocations import Invocation, Invocations, Reply, RuntimeApiError
from edgewise.url_event import Context, body_of, prelude, scope_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Exit statuses of the managed runtime's own client.
INIT_FAILED, BEFORE_SNAPSHOT_FAILED, AFTER_RESTORE_FAILED = 1, 64, 65
WHOLE_FAILURE = b'{"error":{"message":"The gateway failed.","type":"server_error","param":null,"code":null}}'


class Unanswered(Exception):
    """The app returned without finishing its answer."""


class Unstarted(Exception):
    """The environment can't serve, and the platform has been told; `status` is for the process's end."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Exchange:
    """One invocation's `receive` and `send`."""

    def __init__(self, invocations: Invocations, request_id: str, body: bytes) -> None:
        self._invocations, self._request_id = invocations, request_id
        self._body: bytes | None = body
        self._start: Message | None = None
        self._reply: Reply | None = None
        self._closed = asyncio.Event()

    @property
    def done(self) -> bool:
        return self._closed.is_set()

    async def receive(self) -> Message:
        """The body once; then nothing until the answer is out."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._closed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Pass a message on. Raises OSError when the platform has hung up, as ASGI wants it."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None or self.done:
            raise RuntimeError(f"{message['type']} out of order")
        payload, last = bytes(message.get("body", b"")), not message.get("more_body", False)
        try:
            if self._reply is None:
                self._reply = await self._invocations.reply(self._request_id, prelude(self._start), payload, last=last)
            else:
                await self._reply.write(payload, last=last)
        except RuntimeApiError as error:
            self._closed.set()
            raise OSError("the platform hung up") from error
        if last:
            self._closed.set()

    async def spoil(self, error: BaseException) -> None:
        """The app failed: answer 500 if nothing is out yet, else end the reply as broken."""
        if self._reply is None:
            self._start = {"status": 500, "headers": [(b"content-type", b"application/json")]}
            await self.send({"type": "http.response.body", "body": WHOLE_FAILURE})
        else:
            self._closed.set()
            await self._reply.abort(error)


class Lifespan:
    """The app's start-up and its state; an app without lifespan support is fine."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._started: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises RuntimeError with the app's words when it refuses to start."""
        self._inbox.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.create_task(self._run())
        if (refusal := await self._started) is not None:
            raise RuntimeError(refusal)

    async def stop(self) -> None:
        """Tell the app to shut down, and wait until it has."""
        if self._task is not None:
            self._inbox.put_nowait({"type": "lifespan.shutdown"})
            await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        # ASGI: an app that raises here has no lifespan.
        with contextlib.suppress(Exception):
            await self._app(scope, self._inbox.get, self._send)
        if not self._started.done():
            self._started.set_result(None)

    async def _send(self, message: Message) -> None:
        if not self._started.done():
            failed = message["type"] == "lifespan.startup.failed"
            self._started.set_result(str(message.get("message", "")) if failed else None)


class Runtime:
    """The loop. `margin_s` of an invocation's time is kept free of background work."""

    def __init__(self, app: App, invocations: Invocations, clock: Clock, *, margin_s: float) -> None:
        self._app, self._invocations, self._clock, self._margin_s = app, invocations, clock, margin_s
        self._state: dict[str, Any] = {}

    async def run(self, *, snapshot: bool = False, pollers: int = 1) -> None:
        """Serve until the Runtime API goes away. Several `pollers` only where one environment gets many requests.

        Raises Unstarted, and RuntimeApiError when the platform hangs up.
        """
        lifespan = Lifespan(self._app)
        try:
            await lifespan.start()
        except RuntimeError as error:
            log("lifespan", error)
            await self._invocations.fail_init(error)
            raise Unstarted(INIT_FAILED) from error
        self._state = lifespan.state
        try:
            if snapshot:
                await self._pass_through_snapshot()
            await asyncio.gather(*(self._poll(alone=pollers == 1) for _ in range(pollers)))
        finally:
            await lifespan.stop()

    async def _pass_through_snapshot(self) -> None:
        hooks = _Hooks()
        try:
            hooks.before_snapshot()
            await self._invocations.restored()
        except Exception as error:
            log("snapshot", error)
            await self._invocations.fail_init(error)
            raise Unstarted(BEFORE_SNAPSHOT_FAILED) from error
        try:
            renew(self._app)
            hooks.after_restore()
        except Exception as error:
            log("restore", error)
            await self._invocations.fail_restore(error)
            raise Unstarted(AFTER_RESTORE_FAILED) from error

    async def _poll(self, *, alone: bool) -> None:
        while True:
            invocation = await self._invocations.next()
            if alone and invocation.trace_id:
                os.environ["_X_AMZN_TRACE_ID"] = invocation.trace_id
            await self.answer(invocation)
            await drain(self._app, self._context(invocation).get_remaining_time_in_millis() / 1000 - self._margin_s)

    def _context(self, invocation: Invocation) -> Context:
        return Context(invocation.request_id, invocation.function_arn, invocation.deadline_ms, self._clock)

    async def answer(self, invocation: Invocation) -> None:
        """Take one invocation through the app. Nothing that the app does ends the loop."""
        context = self._context(invocation)
        try:
            event = json.loads(invocation.event)
            scope, body = scope_of(event, self._state, context), body_of(event)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log("event", error, invocation)
            await self._invocations.fail(invocation.request_id, error)
            return
        exchange = Exchange(self._invocations, invocation.request_id, body)
        try:
            await self._app(scope, exchange.receive, exchange.send)
            if not exchange.done:
                raise Unanswered("The app returned before its answer was whole.")
        except Exception as error:  # noqa: BLE001 - the edge: an app's failure is one invocation's, not the loop's
            log("app", error, invocation)
            if not exchange.done:
                await exchange.spoil(error)


async def drain(app: App, within_s: float) -> None:
    """Let the app's background work end before the environment may freeze, but not past its time."""
    background = getattr(getattr(app, "state", None), "background", None)
    if background is not None:
        await background.drain(max(0.0, within_s))


def renew(app: App) -> None:
    """Make a restored copy differ from its siblings: new random numbers, new connections."""
    random.seed()
    own = getattr(getattr(app, "state", None), "renew", None)
    if own is not None:
        own()


class _Hooks:
    """The hooks that libraries registered with the managed runtime's `snapshot_restore_py`, if it is there."""

    def __init__(self) -> None:
        try:
            import snapshot_restore_py as registry
        except ImportError:
            self._before: list[Any] = []
            self._after: list[Any] = []
        else:
            self._before, self._after = registry.get_before_snapshot(), registry.get_after_restore()

    def before_snapshot(self) -> None:
        for hook, args, kwargs in reversed(self._before):
            hook(*args, **kwargs)

    def after_restore(self) -> None:
        for hook, args, kwargs in self._after:
            hook(*args, **kwargs)


def log(where: str, error: BaseException, invocation: Invocation | None = None) -> None:
    """One JSON line on standard output, which is one event in CloudWatch."""
    import traceback

    line = {
        "level": "ERROR",
        "message": f"{where} failed: {type(error).__name__}",
        "aws_request_id": invocation.request_id if invocation else None,
        "exception": "".join(traceback.format_exception(error)),
    }
    print(json.dumps(line), flush=True)


def load(handler: str, folder: str) -> App:
    """The app that `handler` names ('app.app': module, attribute), imported from the function's `folder`."""
    import importlib

    sys.path.insert(0, folder)
    module, _, attribute = handler.rpartition(".")
    app: App = getattr(importlib.import_module(module.replace("/", ".")), attribute)
    return app


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Import without garbage collection: a start makes many objects and hardly any garbage, and looking for it costs
    an eighth of the start. What is there afterwards stays for good, so it is never looked at again either."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def serve(environ: MutableMapping[str, str], handler: str) -> None:
    """Load the app and answer until the Runtime API goes away."""
    invocations = Invocations(environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        with unhurried():
            from edgewise.settings import Settings

            settings = Settings.from_env(environ)
            app = load(handler, environ.get("LAMBDA_TASK_ROOT", "."))
        runtime = Runtime(app, invocations, SystemClock(), margin_s=settings.deadline_margin_s)
    except BaseException as error:
        log("init", error)
        await invocations.fail_init(error)
        raise Unstarted(INIT_FAILED) from error
    await runtime.run(
        snapshot=settings.initialization == "snap-start",
        pollers=int(environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "1")),
    )


def main() -> None:
    """Serve the handler that Lambda names in `_HANDLER` until the environment ends."""
    try:
        asyncio.run(serve(os.environ, os.environ["_HANDLER"]))
    except Unstarted as error:
        raise SystemExit(error.status) from error
    except RuntimeApiError as error:
        raise SystemExit(f"edgewise.runtime: {error}") from error
