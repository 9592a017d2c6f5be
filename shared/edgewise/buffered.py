"""The app as an ordinary Lambda handler: one whole answer per invocation, by Mangum.

It gives the app what `edgewise.runtime` gives it: the deadline in its scope, its background work drained before the
environment may freeze, and its connections renewed after a SnapStart restore. Mangum keeps one event loop for all
invocations of an environment, so the app's pools live on between them.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from mangum import Mangum

from edgewise.clock import Clock, SystemClock
from edgewise.runtime import App, Message, Receive, Send


class Buffered:
    """A handler of function-URL events (payload 2.0). `margin_s` is kept below the remaining time."""

    def __init__(self, app: App, *, margin_s: float, clock: Clock | None = None) -> None:
        self._app, self._margin_s, self._clock = app, margin_s, clock or SystemClock()
        self._state: Any = getattr(app, "state", None)
        self._mangum = Mangum(self._timed, lifespan="off")
        _after_restore(self._renew)

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._mangum(event, context)
        background = getattr(self._state, "background", None)
        if background is not None:
            left_s = context.get_remaining_time_in_millis() / 1000 - self._margin_s
            asyncio.get_event_loop().run_until_complete(background.drain(max(0.0, left_s)))
        return answer

    async def _timed(self, scope: Message, receive: Receive, send: Send) -> None:
        left_s = scope["aws.context"].get_remaining_time_in_millis() / 1000 - self._margin_s
        scope["edgewise.deadline"] = self._clock.tick() + left_s
        await self._app(scope, receive, send)

    def _renew(self) -> None:
        random.seed()
        renew = getattr(self._state, "renew", None)
        if renew is not None:
            renew()


def _after_restore(hook: Any) -> None:
    """Register `hook` with the managed runtime, which ships this library."""
    try:
        from snapshot_restore_py import register_after_restore
    except ImportError:
        return
    register_after_restore(hook)
