"""The app as an ordinary Lambda handler: one whole answer per invocation, by Mangum.

It gives the app what `edgewise.runtime` gives it: one start-up for the environment's life (Mangum's own would be one
per invocation), background work drained before the environment may freeze, connections renewed after a SnapStart
restore. Mangum keeps one event loop for all invocations, so the app's pools live on between them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from mangum import Mangum

from edgewise.runtime import App, Lifespan, Message, Receive, Send, drain, renew


class Buffered:
    """A handler of function-URL events (payload 2.0). `margin_s` of the time is kept free of background work."""

    def __init__(self, app: App, *, margin_s: float) -> None:
        self._app, self._margin_s = app, margin_s
        self._mangum = Mangum(self._with_state, lifespan="off")
        self._lifespan: Lifespan | None = None
        _after_restore(lambda: renew(app))

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._mangum(event, context)
        left_s = context.get_remaining_time_in_millis() / 1000 - self._margin_s
        asyncio.get_event_loop().run_until_complete(drain(self._app, left_s))
        return answer

    def close(self) -> None:
        """Shut the app down. Lambda never says when; tests do."""
        if self._lifespan is not None:
            asyncio.get_event_loop().run_until_complete(self._lifespan.stop())

    async def _with_state(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._lifespan is None:
            lifespan = Lifespan(self._app)
            await lifespan.start()
            self._lifespan = lifespan
        scope["state"] = self._lifespan.state.copy()
        await self._app(scope, receive, send)


def _after_restore(hook: Any) -> None:
    """Register `hook` with the managed runtime, which ships this library."""
    try:
        from snapshot_restore_py import register_after_restore
    except ImportError:
        return
    register_after_restore(hook)
