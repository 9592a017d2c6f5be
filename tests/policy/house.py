"""The app with this room and the record room for real, everything else scripted: what a stranger meets over HTTP."""

from __future__ import annotations

from typing import Any

from edgewise.api import admin, feedback, usage
from edgewise.api.app import app
from edgewise.api.embeddings import Find
from edgewise.aws import Aws
from edgewise.background import Background
from edgewise.clock import FakeClock
from edgewise.policy.opening import open_policy
from edgewise.policy.room import PolicyRoom
from edgewise.record.feedback import Opinion
from edgewise.record.memory import open_memory
from edgewise.record.room import RecordRoom
from edgewise.settings import Settings
from tests.api.client import Client, Got
from tests.fakes import rooms

ROOT = "ew_root_3c1f9a_not_a_real_one"


class PolicyHouse:
    """`client(key)` speaks to it; `lines` is everything that was written to the log."""

    def __init__(
        self,
        *,
        script: Any = None,
        aws: Aws | None = None,
        clock: Any = None,
        embedders: Find = lambda _: None,
        **settings: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.settings = Settings(root_key=ROOT, **settings)
        self.lines: list[bytes] = []
        self.opinions: list[Opinion] = []
        self.background = Background()
        self.record = RecordRoom(self.clock, out=self.lines.append, emf=True)
        self.policy: PolicyRoom = open_policy(
            self.settings, clock=self.clock, aws=aws or Aws(), background=self.background, signal=self.record.signal
        )
        self.memory = open_memory(
            self.settings,
            self.record,
            clock=self.clock,
            aws=aws or Aws(),
            background=self.background,
            hooks=[self._hear],
        )
        self.rooms = rooms(
            clock=self.clock, policy=self.policy, record=self.record, **({"script": script} if script else {})
        )
        self.rooms.background = self.background
        self.app = app(
            self.rooms,
            self.settings,
            [
                *admin.routes(lambda: self.policy, self.clock),
                *usage.routes(
                    self.policy.identify,
                    lambda: self.memory.rollups.store,
                    self.clock,
                    budgets=self.policy.budgets,
                    flush=self.memory.rollups.flush,
                    counters=self.record.counters.all,
                ),
                *feedback.routes(self.policy.identify, lambda: self.memory.feedback, self.clock),
            ],
            embedders=embedders,
        )

    async def _hear(self, opinion: Opinion) -> None:
        self.opinions.append(opinion)

    def client(self, key: str | None = ROOT) -> Client:
        return Client(self.app, key)

    async def key(self, maker: str = ROOT, **form: Any) -> dict[str, Any]:
        """A new key as the API shows it once."""
        got = await self.client(maker).ask("POST", "/admin/keys", form)
        assert got.status == 201, got.json
        made: dict[str, Any] = got.json
        return made

    async def chat(self, key: str | None, text: str = "hello", **rest: Any) -> Got:
        return await self.client(key).chat(text, **rest)
