"""Feedback: what a person, or a program that knows better, thinks of an answer.

An opinion belongs to a request and to the key that gives it. Giving the same one again changes nothing; giving another
one replaces it. Whoever learns from opinions (routing, the cache's bound on wrong hits, quality metrics) is told each
new one once, through the hooks that the composition root hands in, and says what came of it; a hook that fails is
counted and the others go on.

Requests leave no row behind, so whether one was ever made is told by its identifier's form and date alone.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from edgewise.clock import minted_at

KEEP_S = 180 * 86_400
SKEW_S = 300.0
"""An identifier from further in the future than clocks can differ was not minted here."""

REASONS = ("", "wrong", "stale", "wrong_hit", "unsafe", "slow", "format", "other")
WRONG_HIT = frozenset({"wrong_hit", "wrong", "stale"})
"""Reasons that, with a score below 0, say that a cached answer should not have been served."""

Effect = Literal["removed", "learned"]
"""What an opinion did: took a cached answer away, or became a label that routing learns from."""
Hook = Callable[["Opinion"], Awaitable[Effect | None]]
Signal = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Opinion:
    """`score` is from -1 (bad) to 1 (good). `at` is seconds since the epoch."""

    request_id: str
    tenant: str
    key_id: str
    score: float
    reason: str = ""
    comment: str = ""
    at: float = 0.0
    cache_key: str | None = None
    """The answer's `x-edgewise-cache-key`, when the caller sends it along."""

    def same(self, other: Opinion) -> bool:
        return (self.score, self.reason, self.comment) == (other.score, other.reason, other.comment)


@dataclass(frozen=True, slots=True)
class Heard:
    """`news`: the opinion was not known before."""

    news: bool
    effects: tuple[Effect, ...] = ()


_BATCH_LINE = re.compile(r"req_[0-9a-f]{24}")
"""The identifier of a batch's line is a digest: it carries no time."""


def may_exist(request_id: str, now: float) -> bool:
    """Whether a request of this deployment may have had this identifier, and not too long ago to speak of it."""
    if _BATCH_LINE.fullmatch(request_id):
        return True
    minted = minted_at(request_id)
    return request_id.startswith("req_") and minted is not None and now - KEEP_S <= minted <= now + SKEW_S


class FeedbackStore(Protocol):
    """Where opinions are kept. Raises `Unavailable`."""

    async def put(self, opinion: Opinion, expires_at: int) -> Opinion | None:
        """Keep it; what it replaces, or None."""
        ...


class MemoryFeedback:
    """Opinions of this process alone."""

    def __init__(self, most: int = 10_000) -> None:
        self._kept: dict[tuple[str, str, str], Opinion] = {}
        self._most = most

    async def put(self, opinion: Opinion, expires_at: int) -> Opinion | None:  # noqa: ARG002
        key = (opinion.tenant, opinion.request_id, opinion.key_id)
        if key not in self._kept and len(self._kept) >= self._most:
            self._kept.pop(next(iter(self._kept)))
        old = self._kept.get(key)
        self._kept[key] = opinion
        return old


class Feedback:
    """Keeps opinions and tells the hooks."""

    def __init__(self, store: FeedbackStore, signal: Signal, hooks: Sequence[Hook] = ()) -> None:
        self._store = store
        self._signal = signal
        self.learners = list(hooks)

    async def give(self, opinion: Opinion) -> Heard:
        """Take in an opinion; whether it was news, and what it did. Raises Unavailable."""
        old = await self._store.put(opinion, int(opinion.at) + KEEP_S)
        if old is not None and old.same(opinion):
            return Heard(news=False)
        effects: list[Effect] = []
        self._signal("FeedbackCount", 1)
        self._signal("FeedbackScore", opinion.score)
        for hook in self.learners:
            try:
                if effect := await hook(opinion):
                    effects.append(effect)
            except Exception:  # noqa: BLE001 — one learner's trouble is not the client's; it is counted
                self._signal("BackgroundFailed", 1)
        return Heard(True, tuple(effects))
