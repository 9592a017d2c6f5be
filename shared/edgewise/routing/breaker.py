"""Circuit breakers that every environment shares, and the latencies that this one has seen.

    closed ──(failures ≥ limit in a row within the window, or 429 with Retry-After)──▶ open until …
    open ──(time is up; one environment wins the probe by a conditional write)──▶ half open
    half open ──(the probe answers)──▶ closed        ──(it fails)──▶ open, twice as long

An environment of Lambda sees one request at a time, so counting failures for itself would learn nothing: failures are
counted in the shared store, and what the store says is believed for a few seconds. A store that doesn't answer leaves
everything closed: a breaker protects, it must not be a new way to fail. Only failures that another call to the same
model would probably meet count: not a refusal of the request itself.

A call says something when it has ended: an answer that is whole is well, one that dies is ill however much of it had
come, and a client that leaves says nothing. A success forgives failures only if its call began after them (a long
stream that ends well tells of a provider that has died meanwhile nothing), and never shortens a wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from edgewise.clock import Clock
from edgewise.errors import EdgewiseError, UpstreamRateLimited, UpstreamUnavailable
from edgewise.words import Model

LIMIT = 3
WINDOW_S = 60.0
COOLDOWN_S = 5.0
LONGEST_S = 120.0
PROBE_S = 15.0
"""How long a probe may take before another environment may try one."""
BELIEVED_S = 3.0
DECAY_S = 10.0
"""Time constant of the latency's fall; a rise counts at once (peak EWMA)."""


@dataclass(frozen=True, slots=True)
class State:
    """What the store knows of one model. Times are seconds since the epoch."""

    failures: int = 0
    window_began: float = 0.0
    open_until: float = 0.0
    probe_until: float = 0.0
    opened: int = 0
    """How often it has opened in a row: each time doubles the wait."""


class Store(Protocol):
    """Shared state. Trouble raises `StoreError`.

    probe  of many callers one wins, and none while the model rests
    close  forget what was counted; False when the model rests by now: somebody knows of later failures
    """

    async def read(self, name: str) -> State: ...
    async def fail(self, name: str, now: float) -> State: ...
    async def open(self, name: str, until: float, opened: int) -> None: ...
    async def probe(self, name: str, now: float, until: float) -> bool: ...
    async def close(self, name: str, now: float) -> bool: ...


class StoreError(Exception):
    """The shared store did not answer."""


@dataclass(slots=True)
class MemoryStore:
    """Shared state of one process: for a laptop, and the model that the table's adapter is tested against."""

    states: dict[str, State] = field(default_factory=dict)

    async def read(self, name: str) -> State:
        return self.states.get(name, State())

    async def fail(self, name: str, now: float) -> State:
        old = self.states.get(name, State())
        fresh = now - old.window_began > WINDOW_S
        state = replace(old, failures=1 if fresh else old.failures + 1, window_began=now if fresh else old.window_began)
        self.states[name] = state
        return state

    async def open(self, name: str, until: float, opened: int) -> None:
        old = self.states.get(name, State())
        self.states[name] = replace(old, open_until=max(until, old.open_until), opened=opened, probe_until=0.0)

    async def probe(self, name: str, now: float, until: float) -> bool:
        old = self.states.get(name, State())
        if old.probe_until > now or old.open_until > now:
            return False
        self.states[name] = replace(old, probe_until=until)
        return True

    async def close(self, name: str, now: float) -> bool:
        if self.states.get(name, State()).open_until > now:
            return False
        self.states.pop(name, None)
        return True


@dataclass(slots=True)
class Breakers:
    """Asked before each call (`may`), told after it: `well`, `ill`, or `left` when nothing came of it."""

    clock: Clock
    store: Store = field(default_factory=MemoryStore)
    believed_s: float = BELIEVED_S
    _known: dict[str, tuple[float, State]] = field(default_factory=dict)
    _probing: set[str] = field(default_factory=set)
    _latency: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def may(self, model: Model) -> bool:
        """Whether `model` may be called now. True also for the one caller that won the probe."""
        state = await self._state(model.name)
        now = self.clock.now()
        if state.open_until <= 0.0:
            return True
        if state.open_until > now:
            return False
        try:
            won = await self.store.probe(model.name, now, now + PROBE_S)
        except StoreError:
            return True
        if won:
            self._probing.add(model.name)
        else:
            # Another's probe is under way or has failed: what is believed is old.
            self._known.pop(model.name, None)
        return won

    async def open_for_s(self, name: str) -> float:
        """How long the model called `name` should be left alone, as the shared state has it; 0 when it need not be."""
        return max(0.0, (await self._state(name)).open_until - self.clock.now())

    async def _state(self, name: str) -> State:
        now = self.clock.tick()
        known = self._known.get(name)
        if known is not None and now - known[0] < self.believed_s:
            return known[1]
        try:
            state = await self.store.read(name)
        except StoreError:
            state = State()
        self._known[name] = (now, state)
        return state

    def is_open(self, name: str) -> bool:
        """What is believed without asking the store: for ranking candidates."""
        known = self._known.get(name)
        return known is not None and known[1].open_until > self.clock.now()

    async def well(self, model: Model, began: float) -> None:
        """A call that began at `began` (epoch seconds) has brought a whole answer."""
        now = self.clock.now()
        state = self._known.get(model.name, (0.0, State()))[1]
        self.left(model)
        if state == State() or state.open_until > now or began < max(state.window_began, state.open_until):
            return
        self._known.pop(model.name, None)
        try:
            if await self.store.close(model.name, now):
                self._known[model.name] = (self.clock.tick(), State())
        except StoreError:
            return

    def left(self, model: Model) -> None:
        """A call ended without saying anything of its model: its client has gone."""
        self._probing.discard(model.name)

    async def ill(self, model: Model, error: EdgewiseError) -> None:
        """A call failed in a way that the next one to the same model would probably meet too."""
        now = self.clock.now()
        state = self._known.get(model.name, (0.0, State()))[1]
        wait = error.retry_after_s if isinstance(error, UpstreamRateLimited | UpstreamUnavailable) else None
        try:
            counted = await self.store.fail(model.name, now)
            if wait is None and model.name not in self._probing and counted.failures < LIMIT:
                self._known[model.name] = (self.clock.tick(), counted)
                return
            self._probing.discard(model.name)
            opened = max(counted.opened, state.opened) + 1
            seconds = min(LONGEST_S, wait if wait is not None else COOLDOWN_S * 2 ** min(opened - 1, 6))
            await self.store.open(model.name, now + seconds, opened)
            known = replace(counted, open_until=now + seconds, opened=opened)
            self._known[model.name] = (self.clock.tick(), known)
        except StoreError:
            self._probing.discard(model.name)

    def timed(self, model: Model, latency_ms: float) -> None:
        """A call took so long: a whole answer to its end, a stream to its first chunk."""
        now, name = self.clock.tick(), model.name
        old = self._latency.get(name)
        if old is None or latency_ms >= old[1]:
            self._latency[name] = (now, latency_ms)
            return
        keep = 0.5 ** max(0.2, (now - old[0]) / DECAY_S)
        self._latency[name] = (now, old[1] * keep + latency_ms * (1 - keep))

    def latency_ms(self, model: Model) -> float | None:
        """Peak-sensitive latency seen here; None when none was."""
        seen = self._latency.get(model.name)
        return seen[1] if seen else None
