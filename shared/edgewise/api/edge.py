"""What the routes share: the rooms, the settings, and how a request that is turned away at the edge is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.types import Scope

from edgewise.api import body
from edgewise.api.door import REQUEST_ID, ROUTE, Knock, deadline_of
from edgewise.clock import Deadline
from edgewise.errors import EdgewiseError, Unavailable
from edgewise.mishap import kind_and_place
from edgewise.rooms import Rooms
from edgewise.settings import Settings
from edgewise.words import Note


@dataclass(slots=True)
class Edge:
    """`rooms` is None only until the app's lifespan has begun, when they are given as a factory."""

    settings: Settings
    opened: Rooms | None = None

    @property
    def rooms(self) -> Rooms:
        if self.opened is None:
            raise Unavailable("The gateway is still starting.", headers={"retry-after": "1"})
        return self.opened

    async def read(self, scope: Scope, receive: Any) -> dict[str, Any]:
        """The body of a request as a JSON object. Raises `InvalidRequest` or `TooLarge`."""
        raw = await body.read(receive, scope["headers"], self.settings.max_body_bytes)
        return body.parse(raw, self.settings.max_depth)

    def deadline(self, scope: Scope, shown: Knock, *, stream: bool) -> Deadline:
        """When the answer must be out. A stream's client waits between chunks, so its patience is no bound there."""
        return deadline_of(scope, self.rooms.clock, self.settings, None if stream else shown.patience_s)

    async def turned_away(
        self, scope: Scope, shown: Knock, error: EdgewiseError, *, stream: bool = False
    ) -> EdgewiseError:
        """Record a request that never got as far as the corridor, and return what to tell its client.

        A stranger learns nothing of how their body was wrong: who asks is checked first, even now.
        """
        rooms = self.rooms
        tenant = key_id = ""
        try:
            principal = await rooms.policy.identify(shown.credentials)
            tenant, key_id = principal.tenant, principal.key_id
        except EdgewiseError as stranger:
            error = stranger
        rooms.record.note(
            Note(
                request_id=scope.get(REQUEST_ID, ""),
                route=scope.get(ROUTE, ""),
                at=rooms.clock.now(),
                tenant=tenant,
                key_id=key_id,
                stream=stream,
                status=error.status,
                error=error.code or error.type,
            )
        )
        return error

    def crashed(self, error: BaseException, scope: Scope) -> None:
        """Record a failure that nobody thought of; the one line says of what class it was, and where."""
        if self.opened is not None:
            self.opened.record.note(
                Note(
                    request_id=scope.get(REQUEST_ID, ""),
                    route=scope.get(ROUTE, ""),
                    at=self.opened.clock.now(),
                    status=500,
                    error=f"internal_error:{kind_and_place(error)}",
                )
            )
