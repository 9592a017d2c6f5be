"""A provider's batch service that answers what it was told to, and callers who may go there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import orjson

from edgewise.chat import ChatRequest
from edgewise.errors import NotAuthenticated, UpstreamError
from edgewise.jobs.offer import RemoteState
from edgewise.price import Price
from edgewise.words import Model, Plan, Principal, Target, Usd
from tests import fakes
from tests.jobs.rig import CHAT

HALF = Price(Decimal(1), Decimal(4))
PRICE = Price(Decimal(2), Decimal(8), tiers={"batch": HALF})


class FakeService:
    """Answers what it was told to, when it was told to."""

    endpoints = frozenset({CHAT})
    share: Decimal | None = None

    def __init__(self) -> None:
        self.batches: dict[str, list[dict[str, Any]]] = {}
        self.error: UpstreamError | None = None
        self.stops = True
        self.state: RemoteState = "working"
        self.refuses: set[str] = set()
        self.untold: set[str] = set()
        """Answered without a word of what it took."""
        self.cancelled: list[str] = []
        self.submissions = 0

    async def find(self, batch_id: str) -> str | None:
        return batch_id if batch_id in self.batches else None

    async def submit(self, batch_id: str, endpoint: str, model: Model, lines: AsyncIterator[bytes]) -> str:
        if self.error is not None:
            raise self.error
        self.submissions += 1
        self.batches[batch_id] = [orjson.loads(line) async for line in lines]
        return batch_id

    async def poll(self, id: str) -> RemoteState:
        return self.state

    async def collect(self, id: str, model: Model) -> AsyncIterator[Mapping[str, Any]]:
        for line in self.batches[id]:
            text = line["body"]["messages"][0]["content"]
            if text not in self.refuses:
                choice = {"index": 0, "message": {"role": "assistant", "content": f"far: {text}"}}
                usage = None if text in self.untold else {"prompt_tokens": 10, "completion_tokens": 5}
                body = {"choices": [choice], "usage": usage}
                yield {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}}

    async def cancel(self, id: str) -> None:
        self.cancelled.append(id)
        if self.stops:
            self.state = "ended"


class Priced(fakes.FakeRouter):
    """One priced model for every name."""

    price = PRICE

    def resolve(self, request: ChatRequest, plan: Plan) -> Target:
        models = tuple(
            Model("fake", request.model, price=self.price) for _ in range(2 if request.model == "two" else 1)
        )
        return Target("fake/m", models)


class FakeCallers:
    """Keys of which one is bound and one is gone; money is nobody's concern."""

    async def impersonate(self, tenant: str, key_id: str, route: str) -> Principal:
        if key_id == "gone":
            raise NotAuthenticated("No such key.")
        return Principal(tenant, key_id)

    def is_bound(self, principal: Principal) -> bool:
        return principal.key_id == "bound"

    def is_capped(self, principal: Principal) -> bool:
        return False

    async def hold(self, principal: Principal, model: Model, usd: Usd, *, name: str, until: float, share: float) -> str:
        raise AssertionError("nothing is to be held")
