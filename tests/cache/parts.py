"""Requests, answers and rooms for the cache's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

from edgewise.cache.build import near_of, room_of
from edgewise.cache.lease import LocalLeases
from edgewise.cache.local import LocalStore
from edgewise.cache.options import CacheOptions
from edgewise.cache.port import Kept, Meaning, Store
from edgewise.cache.room import CacheRoom
from edgewise.chat import Answer, CacheAsk, ChatRequest
from edgewise.clock import Clock
from edgewise.words import Attempt, CachePolicy, Entry, Model, Nearness, Plan, Principal, Query, Volatility

MODEL = Model("scripted", "small")
ATTEMPT = Attempt(MODEL, cost_usd=Decimal("0.00012"), latency_ms=12.0)


def key_of(text: str, tenant: str = "acme", namespace: str = "default") -> str:
    return hashlib.sha256(f"{tenant}\0{namespace}\0{text}".encode()).hexdigest()


def query_of(
    text: str = "What is the capital of France?",
    tenant: str = "acme",
    *,
    namespace: str = "default",
    shared: bool = False,
    text_key: bool = False,
    nearness: Nearness = "exact",
    volatility: Volatility = "static",
) -> Query:
    of = f"shared:{namespace}" if shared else tenant
    return Query(
        tenant=of,
        namespace=namespace,
        target="scripted/small",
        key=key_of(text, of, namespace),
        text_key=key_of("text:" + text.strip().lower(), of, namespace) if text_key else None,
        partition=key_of("partition", of, namespace) if nearness == "semantic" else None,
        text=text if nearness == "semantic" else None,
        nearness=nearness,
        volatility=volatility,
    )


def plan_of(
    tenant: str = "acme",
    ask: CacheAsk | None = None,
    *,
    mode: Literal["off", "exact", "semantic"] = "exact",
    ttl_s: float | None = None,
    shared: bool = False,
    namespace: str = "default",
    flags: tuple[str, ...] = (),
    body: Mapping[str, Any] | None = None,
) -> Plan:
    return Plan(
        principal=Principal(tenant, f"key-{tenant}"),
        request=ChatRequest(
            body or {"model": "scripted/small", "messages": [{"role": "user", "content": "?"}]}, cache=ask or CacheAsk()
        ),
        cache=CachePolicy(mode=mode, ttl_s=ttl_s, shared=shared, namespace=namespace),
        flags=flags,
    )


def answer_of(text: str | None = "Paris.", finish: str | None = "stop", **message: Any) -> Answer:
    return Answer(
        {
            "id": "chatcmpl-upstream",
            "object": "chat.completion",
            "created": 1,
            "model": "small",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None, **message},
                    "logprobs": None,
                    "finish_reason": finish,
                }
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        }
    )


def entry_of(key: str, now: float, ttl_s: float = 60, says: str = "Paris.", **fields: Any) -> Entry:
    entry = Entry(key, answer_of(says), now, now + ttl_s, now + ttl_s, "small", "scripted")
    return replace(entry, **fields)


def kept_of(
    key: str, now: float, ttl_s: float = 60, *, gen: int = 0, namespace: str = "default", **fields: Any
) -> Kept:
    return Kept(entry_of(key, now, ttl_s, **fields), namespace, gen)


def small_room(
    clock: Clock,
    store: Store | None = None,
    *,
    options: CacheOptions | None = None,
    leases: LocalLeases | None = None,
    meaning: Meaning | None = None,
) -> CacheRoom:
    """A room in this process alone, over `store`."""
    near = near_of(clock, "lru", 1_000, 10_000_000)
    store = store or LocalStore(clock)
    if leases is not None:
        return CacheRoom(clock, options or CacheOptions(), near, store, leases=leases, meaning=meaning)
    return room_of(clock, options or CacheOptions(), near, store, meaning=meaning)
