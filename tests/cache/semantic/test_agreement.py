"""Matching by meaning as a state machine: in memory, over the table and bucket, and in a process that comes later, it
cannot be told apart; no tenant ever sees another's entry; what has expired is never served, whatever is still there."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgewise.aws import Table
from edgewise.cache.dynamodb import DynamoStore
from edgewise.cache.local import LocalStore
from edgewise.cache.port import Kept, Store
from edgewise.cache.s3 import Bucket
from edgewise.cache.semantic.dynamodb import DynamoLog
from edgewise.cache.semantic.library import Library
from edgewise.cache.semantic.log import LocalLog, LocalSnapshots
from edgewise.cache.semantic.meaning import SemanticMeaning
from edgewise.cache.semantic.meaning import _partitions as partitions_of
from edgewise.cache.semantic.s3 import S3Snapshots
from edgewise.cache.semantic.shadow import Licences, LocalEvidence
from edgewise.chat import ChatRequest
from edgewise.clock import FakeClock
from edgewise.query.asker import ExactAsker
from edgewise.query.classify import Meaningful
from edgewise.words import CachePolicy, Entry, Hit, Plan, Principal, Query, Target
from tests.cache.parts import answer_of
from tests.cache.semantic.test_meaning import OTHER, QUESTION, REPEAT, WordEmbedder, Words

TEXTS = (QUESTION, REPEAT, OTHER, "What is the capital of France?", "what is the capital of france")
TENANTS = ("acme", "acme#", "bolt")
_numbers = itertools.count()
_ASKER = ExactAsker(Meaningful())

_TENANT, _TEXT = st.sampled_from(TENANTS), st.sampled_from(TEXTS)
_STEP = st.one_of(
    st.tuples(st.just("keep"), _TENANT, _TEXT, st.integers(1, 12)),
    st.tuples(st.just("find"), _TENANT, _TEXT, st.none()),
    st.tuples(st.just("find"), _TENANT, _TEXT, st.none()),
    st.tuples(st.just("lose"), _TENANT, _TEXT, st.none()),
    st.tuples(st.just("remove"), _TENANT, _TEXT, st.none()),
    st.tuples(st.just("tick"), st.none(), st.none(), st.integers(1, 8)),
    st.tuples(st.just("snapshot"), _TENANT, st.none(), st.none()),
    st.tuples(st.just("restart"), st.none(), st.none(), st.none()),
)


class World:
    """One meaning with its store, and whoever comes later."""

    def __init__(self, clock: FakeClock, store: Store, library: Any) -> None:
        self.clock, self.store, self._library = clock, store, library
        self.restart()

    def restart(self) -> None:
        """A process that begins with what was written down."""
        self.library: Library = self._library()
        licences = Licences(self.clock, LocalEvidence(self.clock, 1e6), None)
        self.meaning = SemanticMeaning(self.clock, self.store, Words(), self.library, licences)

    async def step(self, verb: str, query: Query, plan: Plan, number: int | None) -> Any:
        now = self.clock.now()
        match verb:
            case "keep":
                until = now + (number or 0)
                entry = Entry(query.key, answer_of(f"for {query.tenant}"), now, until, until, "m", "p", text=query.text)
                await self.store.put(query.tenant, Kept(entry))
                await self.meaning.add(query, plan, entry)
                return None
            case "lose":
                return await self.store.delete(query.tenant, query.key)
            case "remove":
                return await self.meaning.remove(query.key, None)
            case _:
                found = await self.meaning.find(query, plan)
                if isinstance(found, Hit):
                    assert found.entry.answer.text == f"for {query.tenant}", "another tenant's"
                    assert found.entry.expires_at > now, "expired"
                    return found.entry.key
                return found


def asked(tenant: str, text: str, model: str) -> tuple[Query, Plan]:
    request = ChatRequest({"model": model, "messages": [{"role": "user", "content": text}]})
    plan = Plan(Principal(tenant, "k"), request, CachePolicy("semantic", max_wrong_share=0.05))
    return _ASKER.query(plan, Target(model, ())), plan


EXPIRES = [
    ("keep", "acme", QUESTION, 9),
    ("find", "bolt", REPEAT, None),
    ("restart", None, None, None),
    ("find", "acme", REPEAT, None),
    ("tick", None, None, 9),
    ("find", "acme", REPEAT, None),
]
IS_LOST = [
    ("keep", "acme", QUESTION, 12),
    ("snapshot", "acme", None, None),
    ("keep", "acme", OTHER, 12),
    ("remove", "acme", QUESTION, None),
    ("restart", None, None, None),
    ("find", "acme", REPEAT, None),
]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, min_size=4, max_size=14))
@example(steps=EXPIRES)
@example(steps=IS_LOST)
def test_worlds_agree(steps: list[Any], cache_table: Table, bucket: str) -> None:
    asyncio.run(_agree(steps, cache_table, bucket))


async def _agree(steps: list[Any], table: Table, bucket: str) -> None:
    clock = FakeClock()
    log, snapshots, blobs = LocalLog(), LocalSnapshots(), S3Snapshots(Bucket(table.aws, bucket))
    near = World(clock, LocalStore(clock), lambda: Library(clock, log, snapshots))
    far = World(clock, DynamoStore(table, clock), lambda: Library(clock, DynamoLog(table, clock), blobs))
    model = f"model-{next(_numbers)}"
    for verb, tenant, text, number in steps:
        if verb == "tick":
            clock.time += number
        elif verb == "restart":
            near.restart()
            far.restart()
        elif verb == "snapshot":
            query, _ = asked(tenant, QUESTION, model)
            for world in (near, far):
                for partition in partitions_of(query, WordEmbedder()):
                    await world.library.snapshot(partition, WordEmbedder.dim)
        else:
            query, plan = asked(tenant, text, model)
            seen = [await world.step(verb, query, plan, number) for world in (near, far)]
            assert seen[0] == seen[1], (verb, tenant, text, number)
